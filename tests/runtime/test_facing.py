"""Who is beside the front is found there, and turned to the front by delays and levels alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearloop.models.simulation.sphere import spherical_head
from hearloop.models.simulation.starter import synthetic_voice
from hearloop.runtime.facing import beside_the_front, faced, frontal_share, interaural, turned

RATE = 16000


def voice(seed: int = 1, seconds: float = 3, pitch_hz: float = 120) -> np.ndarray:
    return 0.1 * synthetic_voice(np.random.default_rng(seed), int(seconds * RATE), pitch_hz, 1.0)


def from_there(azimuth_deg: float, sound: np.ndarray) -> np.ndarray:
    response = spherical_head().response(azimuth_deg)
    return np.stack([np.convolve(sound, ear)[: len(sound)] for ear in response]).astype(np.float32)


def hiss(look: np.ndarray) -> np.ndarray:
    return (look + 1e-4 * np.random.default_rng(5).standard_normal(look.shape)).astype(np.float32)


@settings(max_examples=20, deadline=None)
@given(late=st.sampled_from([-5, -4, -3, 3, 4, 5]), level_db=st.floats(-5, 5), factor=st.sampled_from([1, 2]))
def test_a_delay_and_a_level_difference_are_found(late, level_db, factor):
    sound = np.repeat(voice(), factor)  # the same at twice the rate
    look = np.stack([sound, np.roll(sound, late * factor) * 10 ** (-level_db / 20)])
    delay_s, found_db = beside_the_front(interaural(hiss(look), factor * RATE))
    assert delay_s == pytest.approx(late / RATE, abs=50e-6)  # a little too near to the front, where people are likely
    assert found_db == pytest.approx(level_db, abs=0.3)


@pytest.mark.parametrize("level_db", [-9, 9])
def test_no_ear_is_turned_by_more_than_6_db_against_the_other(level_db):
    sound = voice()
    look = np.stack([sound, np.roll(sound, 4) * 10 ** (-level_db / 20)])
    assert beside_the_front(interaural(hiss(look), RATE))[1] == np.sign(level_db) * 6


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seed", range(4, 8))
def test_silence_behind_a_loud_voice_says_nothing(seed):
    look = 16 * from_there(20, voice(seed))
    spoken = 9 * look.shape[1] // 10
    look[:, spoken:] = 0
    ears = interaural(look, RATE)
    assert np.isfinite(ears.level_db).all()
    assert np.isfinite(ears.weight).all()
    np.testing.assert_allclose(beside_the_front(ears), beside_the_front(interaural(look[:, :spoken], RATE)), rtol=0.1)


@pytest.mark.parametrize("azimuth_deg", [-30, -20, -15, 15, 20, 30])
def test_a_talker_within_30_degrees_is_straight_ahead_afterwards(azimuth_deg):
    look = hiss(from_there(azimuth_deg, voice()))
    assert frontal_share(interaural(look, RATE)) < 0.01
    # Left is positive, where the right ear hears later and softer.
    assert [np.sign(each) for each in beside_the_front(interaural(look, RATE))] == 2 * [np.sign(azimuth_deg)]
    assert frontal_share(interaural(faced(look, RATE), RATE)) > 0.99


@pytest.mark.parametrize("azimuth_deg", [-5, 0, 5])
def test_who_is_in_front_stays_there_whoever_else_speaks(azimuth_deg):
    look = hiss(from_there(azimuth_deg, voice()))
    for other in (0, 0.7 * from_there(30, voice(2, pitch_hz=190))):
        heard = (look + other).astype(np.float32)
        np.testing.assert_array_equal(faced(heard, RATE), heard)


@pytest.mark.parametrize("azimuth_deg", [60, 90, -75])
def test_who_is_at_the_side_stays_there(azimuth_deg):
    look = hiss(from_there(azimuth_deg, voice()))
    assert beside_the_front(interaural(look, RATE)) == (0, 0)
    np.testing.assert_array_equal(faced(look, RATE), look)


@pytest.mark.parametrize("azimuth_deg", [-25, 25])
def test_the_one_nearest_to_the_front_is_found_beside_a_louder_one_at_the_side(azimuth_deg):
    look = hiss(from_there(azimuth_deg, voice()) + 1.4 * from_there(80, voice(2, pitch_hz=190)))
    alone = beside_the_front(interaural(hiss(from_there(azimuth_deg, voice())), RATE))
    assert alone[0] != 0
    assert beside_the_front(interaural(look, RATE))[0] == pytest.approx(alone[0], abs=75e-6)


@settings(max_examples=20, deadline=None)
@given(delay_s=st.floats(-4e-4, 4e-4), level_db=st.floats(-6, 6), seed=st.integers(0, 1000))
def test_turning_there_and_back_changes_nothing(delay_s, level_db, seed):
    sound = np.random.default_rng(seed).standard_normal((2, 4000))
    # What lies between two samples rings up to both ends, the more so the higher its frequency.
    look = (np.apply_along_axis(np.convolve, 1, sound, np.hanning(8), "same") * np.hanning(4000)).astype(np.float32)
    there = turned(look, RATE, delay_s, level_db)
    assert there.shape == look.shape
    assert there.dtype == np.float32
    np.testing.assert_allclose(turned(there, RATE, -delay_s, -level_db), look, atol=1e-3)


def test_an_ear_is_only_delayed_and_amplified():
    sound = voice(seconds=1)
    sound[:64] = sound[-64:] = 0
    left, right = turned(np.stack([sound, sound]).astype(np.float32), RATE, 4 / RATE, 6.0)
    np.testing.assert_allclose(left, np.roll(sound, 2) * 10 ** (-3 / 20), atol=1e-5)
    np.testing.assert_allclose(right, np.roll(sound, -2) * 10 ** (3 / 20), atol=1e-5)


@pytest.mark.parametrize("samples", [0, 1, 511, 512, 1000, RATE])
def test_silence_noise_and_short_looks_come_through(samples):
    noise = 0.1 * np.random.default_rng(samples).standard_normal((2, samples)).astype(np.float32)
    for look in (noise, 0 * noise):
        found = faced(look, RATE)
        assert found.shape == look.shape
        assert np.isfinite(found).all()
    assert not faced(0 * noise, RATE).any()
