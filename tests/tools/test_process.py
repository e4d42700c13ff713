"""`hearloop process` as a real command on real files."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hearloop.runtime.files import process_file


def hearloop(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hearloop.tools.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def noise(seconds: float, rate: int, channels: int) -> np.ndarray:
    return 0.1 * np.random.default_rng(rate).standard_normal((int(seconds * rate), channels))


@pytest.mark.parametrize(
    ("name", "rate", "channels", "subtype"),
    [
        ("a.wav", 48000, 2, "PCM_24"),
        ("b.flac", 44100, 1, "PCM_16"),
        ("c.wav", 8000, 6, "FLOAT"),
        ("d.flac", 22050, 3, "PCM_24"),
        ("e.wav", 96000, 1, "PCM_16"),
    ],
)
def test_output_lines_up_with_the_input_sample_for_sample(make_bundle, tmp_path, name, rate, channels, subtype):
    soundfile.write(tmp_path / name, noise(1.2345, rate, channels), rate, subtype)
    facts = process_file(tmp_path / name, tmp_path / "out" / name, make_bundle())
    before, _ = soundfile.read(tmp_path / name)
    after, rate_after = soundfile.read(tmp_path / "out" / name)
    assert (after.shape, rate_after) == (before.shape, rate)
    assert soundfile.info(tmp_path / "out" / name).subtype == subtype
    np.testing.assert_allclose(after, before, atol=4e-5)  # one step of 16 bit
    assert facts["channels"] == channels


def test_without_compensation_the_delay_of_the_real_time_path_stays(make_bundle, tmp_path):
    soundfile.write(tmp_path / "in.wav", noise(1, 16000, 1), 16000, "FLOAT")
    facts = process_file(tmp_path / "in.wav", tmp_path / "out.wav", make_bundle(), compensate=False)
    before, after = soundfile.read(tmp_path / "in.wav")[0], soundfile.read(tmp_path / "out.wav")[0]
    latency = facts["latency_samples"]
    assert len(after) == len(before)
    np.testing.assert_allclose(after[latency:], before[:-latency], atol=1e-6)


def test_a_folder_is_processed_with_its_subfolders_and_a_bad_file_stops_no_other(make_bundle, tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    (source / "deep").mkdir(parents=True)
    for index, place in enumerate(("a.wav", "b.flac", "deep/c.wav", "deep/d.ogg")):
        soundfile.write(source / place, noise(0.5 + 0.1 * index, 16000, 1), 16000)
    (source / "broken.wav").write_bytes(b"this is no sound" * 20)
    (source / "empty.flac").touch()
    result = hearloop("process", source, target, "--model", make_bundle(), "--jobs", 2)
    assert result.returncode == 1
    assert "broken.wav" in result.stderr
    assert "empty.flac" in result.stderr
    assert "4 file(s) written, 2 failed" in result.stdout
    for place in ("a.wav", "b.flac", "deep/c.wav", "deep/d.ogg"):
        assert soundfile.info(target / place).frames == soundfile.info(source / place).frames
    assert sorted(path.name for path in target.rglob("*") if path.is_file()) == ["a.wav", "b.flac", "c.wav", "d.ogg"]


@pytest.mark.parametrize("suffix", ["mp3", "opus", "aiff"])
@pytest.mark.parametrize("folder", [True, False])
def test_what_can_only_be_read_becomes_a_wav_file(make_bundle, tmp_path, suffix, folder):
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    kind = {"mp3": "MP3", "opus": "OGG", "aiff": "AIFF"}[suffix]
    source = tmp_path / "in" / f"a.{suffix}"
    soundfile.write(source, noise(0.5, 48000, 1), 48000, format=kind, subtype="OPUS" if suffix == "opus" else None)
    places = (tmp_path / "in", tmp_path / "out") if folder else (source, tmp_path / "out" / "a.wav")
    result = hearloop("process", *places, "--model", make_bundle())
    assert result.returncode == 0, result.stderr
    made = soundfile.info(tmp_path / "out" / "a.wav")
    assert (made.format, made.subtype) == ("WAV", "PCM_16")
    assert made.frames == soundfile.info(source).frames


def test_a_folder_runs_on_a_joblib_backend_with_another_format(make_bundle, tmp_path):
    pytest.importorskip("joblib")
    (tmp_path / "in").mkdir()
    for stem in ("a", "b", "c"):
        soundfile.write(tmp_path / "in" / f"{stem}.wav", noise(0.3, 16000, 2), 16000)
    options = ("--backend", "loky", "--jobs", 2, "--format", "flac")
    result = hearloop("process", tmp_path / "in", tmp_path / "out", "--model", make_bundle(), *options)
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.flac", "b.flac", "c.flac"]


def test_existing_files_can_be_left_alone(make_bundle, tmp_path):
    (tmp_path / "in").mkdir()
    for stem in ("a", "b"):
        soundfile.write(tmp_path / "in" / f"{stem}.wav", noise(0.2, 16000, 1), 16000)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.wav").write_text("precious")
    result = hearloop("process", tmp_path / "in", tmp_path / "out", "--model", make_bundle(), "--skip-existing")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out" / "a.wav").read_text() == "precious"
    assert soundfile.info(tmp_path / "out" / "b.wav").frames == 3200


def test_what_is_there_already_is_no_failure(make_bundle, tmp_path):
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in" / "a.wav", noise(0.2, 16000, 1), 16000)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.wav").write_text("precious")
    for source, target in (("in", "out"), ("in/a.wav", "out/a.wav"), ("in/a.wav", "out")):
        result = hearloop("process", tmp_path / source, tmp_path / target, "--model", make_bundle(), "--skip-existing")
        assert result.returncode == 0, result.stderr
        assert "there already" in result.stdout
        assert (tmp_path / "out" / "a.wav").read_text() == "precious"


@pytest.mark.parametrize(("source", "target"), [("a.wav", "a.wav"), ("a.wav", "."), (".", "."), ("a.wav", "link.wav")])
def test_a_recording_is_not_replaced_by_what_is_made_of_it(make_bundle, tmp_path, source, target):
    folder = tmp_path / "recordings"
    folder.mkdir()
    soundfile.write(folder / "a.wav", noise(0.2, 16000, 1), 16000)
    before = (folder / "a.wav").read_bytes()
    if target == "link.wav":
        (folder / "link.wav").symlink_to("a.wav")
    result = hearloop("process", folder / source, folder / target, "--model", make_bundle())
    assert result.returncode == 1
    assert "is the recording itself" in result.stderr
    assert (folder / "a.wav").read_bytes() == before


def test_a_place_that_cannot_be_written_is_told_and_stops_no_other_file(make_bundle, tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for place in ("deep/a.wav", "b.wav"):
        soundfile.write(tmp_path / "in" / place, noise(0.2, 16000, 1), 16000)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "deep").write_text("precious")
    alone = hearloop("process", tmp_path / "in/b.wav", tmp_path / "out/deep/b.wav", "--model", make_bundle())
    folder = hearloop("process", tmp_path / "in", tmp_path / "out", "--model", make_bundle())
    for result in (alone, folder):
        assert result.returncode == 1
        assert "cannot be written" in result.stderr
        assert "Traceback" not in result.stderr
    assert (tmp_path / "out" / "deep").read_text() == "precious"
    assert soundfile.info(tmp_path / "out" / "b.wav").frames == 3200


def test_a_file_of_a_folder_that_does_not_fit_the_model_is_named(make_bundle, tmp_path):
    (tmp_path / "in").mkdir()
    for stem, channels in (("mono", 1), ("stereo", 2)):
        soundfile.write(tmp_path / "in" / f"{stem}.wav", noise(0.2, 16000, channels), 16000)
    result = hearloop("process", tmp_path / "in", tmp_path / "out", "--model", make_bundle("ears", channels=2))
    assert result.returncode == 1
    assert "mono.wav: model 'ears' has 2 channel(s)" in result.stderr
    assert "1 file(s) written, 1 failed" in result.stdout


def test_a_number_of_processes_that_is_none_is_told(make_bundle, tmp_path):
    result = hearloop("process", tmp_path, tmp_path / "out", "--model", make_bundle(), "--jobs", -1)
    assert result.returncode == 1
    assert "--jobs is -1" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("content", "told"), [(None, "no such file"), (b"", "empty (0 bytes)"), (b"text" * 100, "not a sound file")]
)
def test_a_file_that_cannot_be_read_is_told_in_one_line_and_the_old_output_is_kept(
    make_bundle, tmp_path, content, told
):
    if content is not None:
        (tmp_path / "in.wav").write_bytes(content)
    (tmp_path / "out.wav").write_text("precious")
    result = hearloop("process", tmp_path / "in.wav", tmp_path / "out.wav", "--model", make_bundle())
    assert result.returncode == 1
    assert told in result.stderr
    assert "Traceback" not in result.stderr
    assert (tmp_path / "out.wav").read_text() == "precious"


def test_a_truncated_file_keeps_the_old_output_or_gives_what_is_there(make_bundle, tmp_path):
    soundfile.write(tmp_path / "in.flac", noise(5, 16000, 1), 16000)
    whole = (tmp_path / "in.flac").read_bytes()
    (tmp_path / "in.flac").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "out.wav").write_text("precious")
    result = hearloop("process", tmp_path / "in.flac", tmp_path / "out.wav", "--model", make_bundle())
    assert "Traceback" not in result.stderr
    if result.returncode:
        assert "in.flac" in result.stderr
        assert (tmp_path / "out.wav").read_text() == "precious"
    else:
        assert soundfile.info(tmp_path / "out.wav").frames > 16000
    assert sorted(os.listdir(tmp_path)) == ["in.flac", "out.wav"]


def test_a_sound_of_no_samples_gives_a_sound_of_no_samples(make_bundle, tmp_path):
    soundfile.write(tmp_path / "in.wav", np.zeros((0, 2)), 48000)
    process_file(tmp_path / "in.wav", tmp_path / "out.wav", make_bundle())
    assert soundfile.info(tmp_path / "out.wav").frames == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("in.wav", "out.mp3"), ".mp3"),
        (("in.wav", "out.wav", "--model", "no-such-model"), "no-such-model"),
        (("in.wav", "out.wav", "--mix", "7"), "mix is 7.0"),
    ],
)
def test_wrong_arguments_are_told_in_one_line(make_bundle, tmp_path, arguments, told):
    soundfile.write(tmp_path / "in.wav", noise(0.1, 16000, 1), 16000)
    paths = [tmp_path / word if word.endswith((".wav", ".mp3")) else word for word in arguments]
    if "--model" not in paths:
        paths += ["--model", make_bundle()]
    result = hearloop("process", *paths)
    assert result.returncode == 1
    assert told in result.stderr
    assert "Traceback" not in result.stderr
    assert not Path(tmp_path / "out.wav").exists()


class TestSources:
    """A model that separates: two thirds of everything to the first source, the rest to the second."""

    @pytest.fixture
    def model(self, make_bundle):
        return make_bundle(masks=np.repeat([[2 / 3], [1 / 3]], 257, axis=1))

    @pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (44100, 2)])
    def test_every_source_is_a_file_that_lines_up_with_the_input(self, model, tmp_path, rate, channels):
        soundfile.write(tmp_path / "in.wav", noise(1.1, rate, channels), rate, "FLOAT")
        result = hearloop("process", tmp_path / "in.wav", tmp_path / "out.wav", "--model", model)
        assert result.returncode == 0, result.stderr
        assert "out.1.wav" in result.stdout
        assert "out.2.wav" in result.stdout
        assert sorted(os.listdir(tmp_path)) == ["in.wav", "out.1.wav", "out.2.wav"]
        before, first, second = (soundfile.read(tmp_path / f"{name}.wav")[0] for name in ("in", "out.1", "out.2"))
        np.testing.assert_allclose(first + second, before, atol=1e-5)
        settled = rate // 2  # above 8 kHz the shares begin equal
        np.testing.assert_allclose(first[settled:], 2 / 3 * before[settled:], atol=1e-4)

    @pytest.mark.parametrize(
        ("gains", "expected"), [("0,-12", 2 / 3 + 0.2512 / 3), ("off,0", 1 / 3), ("=-inf, -6", 0.5012 / 3)]
    )
    def test_with_gains_there_is_one_remix(self, model, tmp_path, gains, expected):
        soundfile.write(tmp_path / "in.wav", noise(0.5, 16000, 1), 16000, "FLOAT")
        option = ["--gains" + gains] if gains.startswith("=") else ["--gains", gains]
        result = hearloop("process", tmp_path / "in.wav", tmp_path / "out.wav", "--model", model, *option)
        assert result.returncode == 0, result.stderr
        assert sorted(os.listdir(tmp_path)) == ["in.wav", "out.wav"]
        before, after = soundfile.read(tmp_path / "in.wav")[0], soundfile.read(tmp_path / "out.wav")[0]
        np.testing.assert_allclose(after, expected * before, atol=1e-5)

    def test_a_folder_gives_a_file_for_each_source_and_existing_pairs_are_left_alone(self, model, tmp_path):
        (tmp_path / "in").mkdir()
        (tmp_path / "out").mkdir()
        for stem in ("a", "b"):
            soundfile.write(tmp_path / "in" / f"{stem}.flac", noise(0.2, 16000, 1), 16000)
        for name in ("a.1.wav", "a.2.wav", "b.2.wav"):
            (tmp_path / "out" / name).write_text("precious")
        options = ("--model", model, "--skip-existing", "--format", "wav")
        result = hearloop("process", tmp_path / "in", tmp_path / "out", *options)
        assert result.returncode == 0, result.stderr
        assert "2 file(s) written, 0 failed" in result.stdout
        assert (tmp_path / "out" / "a.1.wav").read_text() == "precious"
        assert [soundfile.info(tmp_path / "out" / f"b.{n}.wav").frames for n in (1, 2)] == [3200, 3200]

    def test_a_sound_of_no_samples_gives_sources_of_no_samples(self, model, tmp_path):
        soundfile.write(tmp_path / "in.wav", np.zeros((0, 2)), 48000)
        facts = process_file(tmp_path / "in.wav", tmp_path / "out.wav", model)
        assert [soundfile.info(path).frames for path in facts["targets"]] == [0, 0]

    def test_nothing_is_written_unless_all_is(self, model, tmp_path):
        soundfile.write(tmp_path / "in.flac", noise(5, 16000, 1), 16000)
        whole = (tmp_path / "in.flac").read_bytes()
        (tmp_path / "in.flac").write_bytes(whole[: len(whole) // 2])
        (tmp_path / "out.2.wav").write_text("precious")
        result = hearloop("process", tmp_path / "in.flac", tmp_path / "out.wav", "--model", model)
        assert "Traceback" not in result.stderr
        if result.returncode:
            assert (tmp_path / "out.2.wav").read_text() == "precious"
            assert sorted(os.listdir(tmp_path)) == ["in.flac", "out.2.wav"]
        else:
            assert soundfile.info(tmp_path / "out.1.wav").frames == soundfile.info(tmp_path / "out.2.wav").frames

    @pytest.mark.parametrize(
        ("gains", "separates", "told", "status"),
        [
            ("0", True, "has 1 gain(s), but model 'passthrough' gives 2 sources; expected 2", 1),
            ("0,0,0", True, "has 3 gain(s)", 1),
            ("0,-12", False, "has 2 gain(s), but model 'passthrough' does not separate its input", 1),
            ("0,99", True, "is 99.0; expected a number from -inf to 20", 1),
            ("0,loud", True, "expected a number of dB, or off, for each source", 2),
        ],
    )
    def test_gains_that_do_not_fit_are_told_before_anything_is_done(
        self, make_bundle, model, tmp_path, gains, separates, told, status
    ):
        (tmp_path / "in").mkdir()
        soundfile.write(tmp_path / "in" / "a.wav", noise(0.1, 16000, 1), 16000)
        used = model if separates else make_bundle()
        result = hearloop("process", tmp_path / "in", tmp_path / "out", "--model", used, "--gains", gains)
        assert result.returncode == status
        assert told in result.stderr
        assert "Traceback" not in result.stderr
        assert not (tmp_path / "out").exists()
