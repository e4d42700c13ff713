"""A look is judged by what a wearer can do about it: length, level, whole ears, a voice, and somebody in front."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

import hearloop.tools
from hearloop.models.simulation.sphere import spherical_head
from hearloop.models.simulation.starter import synthetic_voice
from hearloop.runtime.errors import AudioError
from hearloop.runtime.look import check_look

RATE = 16000
SECONDS = 4


def look_at(azimuth_deg: float, hiss: float = 1e-3) -> np.ndarray:
    """A voice from one direction at the ears of a ball, with the hiss of two microphones."""
    rng = np.random.default_rng(1)
    voice = 0.1 * synthetic_voice(rng, SECONDS * RATE, 120, 1.0)
    response = spherical_head().response(azimuth_deg)
    ears = np.stack([np.convolve(voice, ear)[: len(voice)] for ear in response])
    return (ears + hiss * rng.standard_normal(ears.shape)).astype(np.float32)


@pytest.mark.parametrize("azimuth_deg", [0, 5, -5, 20, -30])
def test_a_voice_in_front_can_be_used(azimuth_deg):
    look = check_look(look_at(azimuth_deg), RATE)
    assert look.usable, look.problems
    assert look.frontal_share > 0.5
    assert look.speech_s > 1


@pytest.mark.parametrize("azimuth_deg", [60, 90, -75])
def test_a_voice_from_the_side_is_not_looked_at(azimuth_deg):
    (problem,) = check_look(look_at(azimuth_deg), RATE).problems
    assert "turn the face to the person" in problem


def test_the_rate_of_the_recording_does_not_matter():
    from scipy.signal import resample_poly

    look = check_look(resample_poly(look_at(0), 3, 1, axis=1).astype(np.float32), 3 * RATE)
    assert look.usable, look.problems
    assert look.seconds == pytest.approx(SECONDS)


def test_noise_without_a_voice_is_not_speech():
    noise = 0.05 * np.random.default_rng(2).standard_normal((2, SECONDS * RATE)).astype(np.float32)
    (problem,) = check_look(noise, RATE).problems
    assert problem.startswith("speech stands out for 0.0 s")


def test_a_recording_that_is_too_long_is_not_heard():
    look = check_look(np.tile(look_at(0), (1, 9)), RATE)
    assert look.seconds == 36
    assert (look.speech_s, look.frontal_share) == (0, 0)
    assert not look.usable


def test_the_look_that_ships_can_be_used():
    sound, rate = soundfile.read(Path(hearloop.tools.__file__).parent / "recordings/target-look.flac", dtype="float32")
    assert check_look(np.ascontiguousarray(sound.T), rate).usable


def test_what_is_wrong_is_told_with_what_was_found():
    good = look_at(0)
    for look, told in [
        (good[:, : RATE // 2], "it lasts 0.5 s"),
        (np.tile(good, (1, 9)), "it lasts 36.0 s"),
        (1e-3 * good, "its level is -"),
        (0 * good, "its level is -120"),
        (np.clip(100 * good, -1, 1), "of the samples are clipped"),
        (np.stack([good[0], good[0]]), "both channels are the same"),
        (np.stack([good[0], -0.7 * good[0] + 1e-5 * good[1]]), "both channels are the same"),
        (np.stack([good[0], 0 * good[0]]), "one ear is silent"),
    ]:
        problems = check_look(look, RATE).problems
        assert any(problem.startswith(told) or told in problem for problem in problems), (told, problems)


@pytest.mark.parametrize("shape", [(1, RATE), (3, RATE), (RATE,)])
def test_a_look_has_two_ears(shape):
    with pytest.raises(AudioError, match="both ears"):
        check_look(np.zeros(shape, np.float32), RATE)


def test_a_look_with_values_that_are_not_finite_is_refused():
    look = look_at(0)
    look[1, 100] = np.nan
    with pytest.raises(AudioError, match="1 values that are not finite"):
        check_look(look, RATE)
