"""`hearloop demo`: the whole live loop over a recording, and what it leaves behind."""

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hearloop.models.evaluation.ratio import si_sdr
from hearloop.tools.demo import RECORDINGS, SCENES
from hearloop.tools.demo_figures import hearing_figures
from hearloop.tools.main import main

pytestmark = pytest.mark.realtime

RECORDING = SCENES["enhance"].recording
ROOT = Path(__file__).parents[2]
RAMP_S = 0.1


@pytest.fixture
def recording(tmp_path, rng) -> Path:
    """Two seconds in stereo at another rate than the model's; not a whole number of frames."""
    path = tmp_path / "recording.wav"
    soundfile.write(path, 0.1 * rng.standard_normal((64001, 2)), 32000, subtype="PCM_16")
    return path


def demo(*arguments: object) -> int:
    return main(["demo", *map(str, arguments)])


def test_what_a_model_without_effect_lets_through_lines_up_with_the_input(make_bundle, recording, tmp_path):
    out = tmp_path / "out"
    assert demo("--model", make_bundle(), "--recording", recording, "--out", out) == 0
    noisy, rate = soundfile.read(out / "noisy.wav")
    enhanced, enhanced_rate = soundfile.read(out / "enhanced.wav")
    original, _ = soundfile.read(recording)
    assert rate == enhanced_rate == 32000
    np.testing.assert_array_equal(noisy, original)
    assert enhanced.shape == noisy.shape
    # Compared as correlation, at the right lag and beside it: a busy machine may conceal a frame, which leaves a trace.
    start = round(RAMP_S * rate)
    ours = enhanced[start:-1]
    agreement = [np.vdot(ours, noisy[start + lag : len(noisy) - 1 + lag]) / np.vdot(ours, ours) for lag in (-1, 0, 1)]
    assert agreement[1] == pytest.approx(1, abs=0.02)
    assert max(abs(agreement[0]), abs(agreement[2])) < 0.1


def test_the_table_tells_model_latency_ledger_times_and_misses(make_bundle, recording, tmp_path, capsys):
    assert demo("--model", make_bundle(name="halver", gain=0.5), "--recording", recording, "--out", tmp_path) == 0
    printed = capsys.readouterr().out
    for wanted in ("halver", "192 samples = 12 ms", "lookahead", "total", "p50", "p99", "missed deadlines"):
        assert wanted in printed
    rows = [line.split() for line in printed.splitlines() if " samples " in line and line.startswith("  ")]
    *delays, total = (float(row[row.index("samples") - 1]) for row in rows)
    assert sum(delays) == pytest.approx(total, abs=0.01 * len(delays))


def test_the_first_demo_of_a_model_runs_in_machine_code_from_its_first_frame(
    make_bundle, recording, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("HEARLOOP_CACHE", str(tmp_path / "cache"))
    for said in (True, False):
        assert demo("--model", make_bundle(), "--recording", recording, "--out", tmp_path) == 0
        printed = capsys.readouterr().out
        assert ("compiling the model, this once" in printed) is said
        assert "inside the audio callback" in printed


def test_the_picture_is_a_png_of_a_size_to_look_at(make_bundle, recording, tmp_path):
    pytest.importorskip("matplotlib")
    demo("--model", make_bundle(), "--recording", recording, "--out", tmp_path)
    content = (tmp_path / "demo.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
    assert min(width, height) >= 800


def test_without_matplotlib_the_sound_is_written_and_the_remedy_told(
    make_bundle, recording, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "hearloop.tools.demo_picture", raising=False)
    assert demo("--model", make_bundle(), "--recording", recording, "--out", tmp_path) == 0
    assert (tmp_path / "enhanced.wav").is_file()
    assert not (tmp_path / "demo.png").exists()
    assert "pip install hearloop[plot]" in capsys.readouterr().out


def test_a_folder_that_cannot_be_made_is_told_before_anything_runs(make_bundle, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert demo("--model", make_bundle(), "--out", tmp_path / "file") == 1
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_the_bundled_recording_is_small_and_its_sources_are_named():
    facts = soundfile.info(RECORDING)
    assert (facts.samplerate, facts.channels) == (16000, 1)
    assert facts.duration == pytest.approx(10, abs=0.1)
    assert RECORDING.stat().st_size < 400_000
    for path in (ROOT / "NOTICE", RECORDING.parent / "README.md"):
        text = path.read_text()
        for source in ("3331-159605-0007", "5456-24741-0000", "CC BY 4.0", "188822", "CC0", RECORDING.name):
            assert source in text


def test_the_bundled_recording_starts_with_a_second_of_noise_and_does_not_clip():
    audio, rate = soundfile.read(RECORDING)
    assert np.abs(audio).max() < 0.75
    power = np.mean(audio[: rate // 128 * 128].reshape(-1, 128) ** 2, axis=1)
    speech = np.mean(audio[rate : 2 * rate] ** 2)
    assert power.max() < speech


def test_the_demo_of_a_target_looks_at_a_voice_and_lets_it_through(tmp_path, capsys):
    assert demo("target", "--out", tmp_path) == 0
    printed = capsys.readouterr().out
    for wanted in (
        "straight ahead",
        "the voice is known",
        "inside the audio callback",
        "the chosen voice",
        "direction",
    ):
        assert wanted in printed
    heard, scene, alone = (
        soundfile.read(path, always_2d=True)[0].T
        for path in (tmp_path / "heard.wav", tmp_path / "scene.wav", SCENES["target"].alone)
    )
    assert heard.shape == scene.shape == alone.shape
    assert si_sdr(heard, alone) > si_sdr(scene, alone) + 1
    assert (tmp_path / "look.wav").is_file()


def test_what_is_the_voice_alone_has_no_error_and_what_is_not_processed_no_gain():
    scene, alone = (soundfile.read(SCENES["target"].__dict__[name])[0].T for name in ("recording", "alone"))
    perfect, untouched = (dict(hearing_figures(heard, alone, scene)) for heard in (alone, scene))
    assert perfect["the chosen voice"].endswith("80.0 dB after")
    assert perfect["its direction"] == "level difference within 0.0 dB, time difference within 0 us"
    assert untouched["while it is silent"] == "the others at 0.0 dB"
    before, after = (words.split()[-3] for words in untouched["the chosen voice"].split(","))
    assert before == after


def test_a_look_belongs_to_the_demo_of_a_target(tmp_path, capsys):
    assert demo("--look", SCENES["target"].look, "--out", tmp_path) == 1
    assert "hearloop demo target" in capsys.readouterr().err


def test_the_scene_of_a_target_is_small_and_its_sources_are_named():
    paths = list(RECORDINGS.glob("target-*.flac"))
    assert len(paths) == 3
    for path in paths:
        facts = soundfile.info(path)
        assert (facts.samplerate, facts.channels) == (16000, 2)
        assert path.stat().st_size < 600_000
    for path in (ROOT / "NOTICE", RECORDINGS / "README.md"):
        text = path.read_text()
        for source in (
            "2159-179154-0000",
            "6454-107462-0000",
            "CC BY 4.0",
            "450755",
            "CIPIC",
            *(p.name for p in paths),
        ):
            assert source in text
