"""Sound files through a processor: what a container holds, what a damaged file still gives, and names."""

import os
from contextlib import suppress

import numpy as np
import pytest
import soundfile

from hearloop.runtime import AudioError, HearloopError, files
from hearloop.runtime.files import process_file, sound_files


def noise(samples: int, channels: int = 1) -> np.ndarray:
    return 0.1 * np.random.default_rng(samples).standard_normal((samples, channels))


@pytest.mark.parametrize(
    ("subtype", "samples", "kind"),
    [("PCM_16", 20000, "WAV"), ("PCM_16", 30000, "RF64"), ("FLOAT", 20000, "RF64"), ("ULAW", 60000, "WAV")],
)
def test_a_wav_file_that_would_be_too_long_for_its_header_is_rf64(
    make_bundle, tmp_path, monkeypatch, subtype, samples, kind
):
    monkeypatch.setattr(files, "LARGEST_WAV_BYTES", 100_000)
    soundfile.write(tmp_path / "in.wav", noise(samples, 2), 16000, subtype)
    process_file(tmp_path / "in.wav", tmp_path / "out.wav", make_bundle())
    made = soundfile.info(tmp_path / "out.wav")
    assert (made.format, made.subtype, made.frames) == (kind, subtype, samples)


@pytest.mark.parametrize(
    ("channels", "rate", "name", "told"),
    [
        (9, 16000, "out.flac", r"out\.flac: the sound has 9 channels; expected at most 8 in \.flac"),
        (256, 16000, "out.ogg", r"out\.ogg: the sound has 256 channels; expected at most 255"),
        (1, 384000, "out.ogg", r"out\.ogg: the sound has 384000 Hz; expected at most 200000 in \.ogg"),
        (1, 705600, "out.flac", r"out\.flac: the sound has 705600 Hz; expected at most 655350"),
    ],
)
def test_what_a_container_cannot_hold_is_told(make_bundle, tmp_path, channels, rate, name, told):
    soundfile.write(tmp_path / "in.wav", noise(100, channels), rate)
    with pytest.raises(AudioError, match=told):
        process_file(tmp_path / "in.wav", tmp_path / name, make_bundle())
    assert os.listdir(tmp_path) == ["in.wav"]


@pytest.mark.parametrize("rate", [191_999, 2_000_000_011])
def test_a_rate_that_only_a_huge_filter_could_convert_is_told(make_bundle, tmp_path, rate):
    soundfile.write(tmp_path / "in.wav", noise(100), rate)
    with pytest.raises(AudioError, match=f"{rate} and 16000 Hz.*expected"):
        process_file(tmp_path / "in.wav", tmp_path / "out.wav", make_bundle())


def test_what_could_be_read_of_a_file_is_told_and_what_could_not(make_bundle, tmp_path):
    soundfile.write(tmp_path / "whole.mp3", noise(80000), 16000)
    whole = (tmp_path / "whole.mp3").read_bytes()
    (tmp_path / "cut.mp3").write_bytes(whole[: len(whole) // 2])
    facts = {
        name: process_file(tmp_path / f"{name}.mp3", tmp_path / f"{name}.wav", make_bundle())
        for name in ("whole", "cut")
    }
    assert (facts["whole"]["seconds"], facts["whole"]["missing_seconds"]) == (5, 0)
    assert facts["cut"]["seconds"] == soundfile.info(tmp_path / "cut.wav").duration < 3
    assert facts["cut"]["seconds"] + facts["cut"]["missing_seconds"] == pytest.approx(5)


def test_the_place_of_a_damage_is_what_could_be_read_before_it(make_bundle, tmp_path):
    soundfile.write(tmp_path / "in.flac", noise(80000), 16000)
    whole = (tmp_path / "in.flac").read_bytes()
    (tmp_path / "in.flac").write_bytes(whole[: len(whole) // 2])
    read = 0
    with soundfile.SoundFile(tmp_path / "in.flac") as sound, suppress(soundfile.SoundFileError):
        while True:
            read += len(sound.read(files.BLOCK_SAMPLES))
    with pytest.raises(AudioError, match=f"damaged after {read / 16000:.1f} s"):
        process_file(tmp_path / "in.flac", tmp_path / "out.wav", make_bundle())


def test_a_name_may_be_as_long_as_the_file_system_takes(make_bundle, tmp_path):
    soundfile.write(tmp_path / "in.wav", noise(100), 16000)
    target = tmp_path / f"{'x' * 246}.wav"
    process_file(tmp_path / "in.wav", target, make_bundle())
    assert soundfile.info(target).frames == 100


def test_gains_may_be_an_array(make_bundle, tmp_path):
    soundfile.write(tmp_path / "in.wav", noise(100), 16000)
    model = make_bundle(masks=np.full((2, 257), 0.5))
    facts = process_file(tmp_path / "in.wav", tmp_path / "out.wav", model, source_gains_db=np.array([0, -12]))
    assert facts["targets"] == [tmp_path / "out.wav"]
    with pytest.raises(HearloopError, match="source_gains_db"):
        process_file(tmp_path / "in.wav", tmp_path / "out.wav", model, source_gains_db=np.array(0.0))


def test_hidden_files_are_no_recordings(tmp_path):
    for name in ("a.wav", ".draft.wav"):
        (tmp_path / name).touch()
    assert sound_files(tmp_path) == [tmp_path / "a.wav"]
