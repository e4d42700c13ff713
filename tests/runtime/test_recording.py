"""A recording that is not what was heard says so."""

import errno

import numpy as np
import pytest
import soundfile
from signals import noise

from hearloop.runtime import AudioError
from hearloop.runtime import recording as recording_module
from hearloop.runtime.recording import Recording


@pytest.fixture
def full_disk(monkeypatch):
    def write(file, samples):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(soundfile.SoundFile, "write", write)


@pytest.mark.parametrize("name", ["heard.mp3", "heard.aiff", "heard"])
def test_what_is_not_offered_is_refused(tmp_path, name):
    """MP3 was written, which `hearloop process` refuses and the help does not name."""
    with pytest.raises(AudioError, match=r"cannot be created; expected a name that ends with \.wav, \.flac, \.ogg"):
        Recording(tmp_path / name, 1, 16000)
    assert not (tmp_path / name).exists()


def test_a_full_disk_ends_it_and_is_told(full_disk, tmp_path):
    recording = Recording(tmp_path / "heard.wav", 1, 16000)
    recording.ring.write(0, noise(1000))
    recording.close()
    assert "No space left" in recording.error
    assert "heard.wav: the recording ends after 0.0 s" in recording.message
    assert recording.to_json() == {"lost_samples": 0, "error": recording.error, "message": recording.message}


def test_a_file_that_cannot_be_completed_is_told(monkeypatch, tmp_path):
    def flush(file):
        raise soundfile.LibsndfileError(2)

    recording = Recording(tmp_path / "heard.wav", 1, 16000)
    with monkeypatch.context() as patch:
        patch.setattr(soundfile.SoundFile, "flush", flush)
        recording.close()
    assert recording.error
    assert "heard.wav" in recording.message


def test_samples_that_the_disk_was_too_slow_for_are_told(tmp_path):
    recording = Recording(tmp_path / "heard.wav", 1, 16000)
    for position in range(0, 200_000, 50_000):  # the ring holds 8 s
        recording.ring.write(position, noise(50_000))
    recording.close()
    assert recording.lost_samples > 0
    assert "s of the recording are silence" in recording.message
    assert soundfile.info(tmp_path / "heard.wav").frames == 200_000


@pytest.mark.parametrize(("name", "samples"), [("heard.wav", 700), ("heard.flac", 1000)])
def test_a_wav_file_ends_where_its_header_can_count_no_further(monkeypatch, tmp_path, name, samples):
    monkeypatch.setattr(recording_module, "LARGEST_WAV_BYTES", 2800)
    recording = Recording(tmp_path / name, 2, 16000)
    recording.ring.write(0, noise(1000, 2))
    recording.close()
    assert soundfile.info(tmp_path / name).frames == samples
    assert recording.lost_samples == 0
    assert ("a wav file holds 4 GiB; use flac" in recording.message) == (samples < 1000)


@pytest.mark.parametrize(("name", "channels", "rate"), [("heard.ogg", 1, 384000), ("heard.flac", 9, 16000)])
def test_what_a_container_cannot_hold_is_told(tmp_path, name, channels, rate):
    with pytest.raises(AudioError, match=rf"{name}: the sound has .*expected at most"):
        Recording(tmp_path / name, channels, rate)
    assert list(tmp_path.iterdir()) == []


def test_a_complete_one_has_nothing_to_tell(tmp_path):
    recording, samples = Recording(tmp_path / "heard.wav", 1, 16000), noise(1000)
    recording.ring.write(0, samples)
    recording.close()
    assert recording.message == ""
    written, _ = soundfile.read(tmp_path / "heard.wav", dtype="float32")
    np.testing.assert_allclose(written, samples[0], atol=1e-4)
