"""Measures of directions and of the right talker: what they must be for signals whose answer is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearloop.models.evaluation.selection import is_wrong_talker, leakage_db, reopening_s
from hearloop.models.evaluation.spatial import ild_error_db, interaural_delay_s, itd_error_us


def noise(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32) * 0.1


def at_two_ears(mono, delay_samples, level_db):
    """The right ear hears later and softer."""
    late = np.roll(mono, delay_samples) * np.float32(10 ** (-level_db / 20))
    return np.stack([mono, late])


@settings(max_examples=20, deadline=None)
@given(delay=st.integers(-12, 12), other=st.integers(-12, 12), gain=st.floats(0.01, 10))
def test_the_time_error_is_the_difference_of_the_delays_at_any_level(delay, other, gain):
    mono = noise(3, 8000)
    target, estimate = at_two_ears(mono, delay, 0), at_two_ears(gain * mono, other, 3)
    assert interaural_delay_s(target) == pytest.approx(delay / 16000, abs=1e-5)
    assert itd_error_us(estimate, target) == pytest.approx(abs(delay - other) / 16000 * 1e6, abs=10)


@settings(max_examples=20, deadline=None)
@given(level_db=st.floats(-20, 20), other_db=st.floats(-20, 20))
def test_the_level_error_is_the_difference_of_the_level_differences(level_db, other_db):
    mono = noise(4, 8000)
    found = ild_error_db(at_two_ears(mono, 0, other_db), at_two_ears(mono, 0, level_db))
    assert found == pytest.approx(abs(level_db - other_db), abs=0.01)


def test_one_gain_for_both_ears_keeps_the_direction_and_silence_has_none():
    ears = at_two_ears(noise(5, 8000), 5, 7)
    assert ild_error_db(0.2 * ears, ears) == pytest.approx(0, abs=1e-3)
    assert itd_error_us(0.2 * ears, ears) == 0
    assert np.isnan(ild_error_db(ears, 0 * ears))
    assert np.isnan(itd_error_us(ears, 0 * ears))


@pytest.mark.parametrize(("below_db", "expected_db"), [(10, 6.0), (40, 0.0)])
def test_frames_far_below_the_loudest_say_nothing_about_direction(below_db, expected_db):
    target = noise(3, 2, 32000)
    target[:, 16000:] *= 10 ** (-below_db / 20)
    estimate = target.copy()
    estimate[0, 16512:] *= 4  # 12 dB in half of the frames
    assert ild_error_db(estimate, target) == pytest.approx(expected_db, abs=0.3)


def test_a_silent_ear_is_the_largest_error_where_the_target_sounds_at_both():
    ears = at_two_ears(noise(5, 8000), 5, 7)
    assert itd_error_us(ears * [[1], [0]], ears) == itd_error_us(0 * ears, ears) == 2000
    assert np.isnan(itd_error_us(ears, ears * [[0], [1]]))


def test_delays_between_samples_are_those_of_the_whole_interpolated_correlation(monkeypatch):
    inverse, lengths = np.fft.irfft, []
    monkeypatch.setattr(np.fft, "irfft", lambda spectrum, size: lengths.append(size) or inverse(spectrum, size))
    for seed, delay in enumerate((0.25, -3.6, 7.9)):
        spectrum = np.fft.rfft(noise(seed, 8000))
        late = inverse(spectrum * np.exp(-2j * np.pi * np.arange(4001) * delay / 8000), 8000)
        ears = np.stack([inverse(spectrum, 8000), late]).astype(np.float32) + noise(seed + 9, 2, 8000) / 3
        left, right = np.fft.rfft(ears, 16000)
        cross = right * np.conj(left)
        whole = inverse(cross / np.abs(cross), 16000 * 16)
        near = np.concatenate([whole[-256:], whole[:257]])
        assert interaural_delay_s(ears) == pytest.approx((np.argmax(near) - 256) / 256000, abs=1e-6)
        assert interaural_delay_s(ears) == pytest.approx(delay / 16000, abs=5e-6)
    assert max(lengths, default=0) <= 16000  # a recording of minutes, interpolated as a whole, takes gigabytes


def test_leakage_is_the_level_in_the_pauses_alone():
    target, other = noise(6, 32000), noise(7, 32000)
    target[8000:24000] = 0
    mixture = target + other
    for gain in (1.0, 0.1):
        estimate = mixture.copy()
        estimate[11200:24000] *= gain
        assert leakage_db(estimate, target, mixture) == pytest.approx(20 * np.log10(gain), abs=0.01)
    assert np.isnan(leakage_db(mixture, noise(6, 32000), mixture))


@pytest.mark.parametrize("late_s", [0.0, 0.05, 0.3])
def test_reopening_takes_as_long_as_the_output_stays_closed_after_a_pause(late_s):
    target = noise(8, 48000)
    target[8000:24000] = 0
    estimate = target.copy()
    estimate[24000 : 24000 + int(late_s * 16000)] = 0
    assert reopening_s(estimate, target) == pytest.approx(late_s, abs=0.011)
    assert reopening_s(0.51 * target, target) == pytest.approx(0, abs=0.011)
    assert reopening_s(0 * target, target) == pytest.approx(1.5)
    assert np.isnan(reopening_s(estimate, noise(8, 48000)))


def paused(pause_s):
    """It speaks for a second, pauses, and speaks again."""
    target = noise(8, 48000)
    target[16000 : 16000 + int(pause_s * 16000)] = 0
    return target


def test_a_pause_of_less_than_half_a_second_is_none():
    assert np.isnan(reopening_s(paused(0.4), paused(0.4)))
    assert reopening_s(paused(0.6), paused(0.6)) == 0


@pytest.mark.parametrize(("below_db", "expected_s"), [(5.0, 0.0), (7.0, 1.4)])
def test_what_is_six_decibels_below_the_target_has_not_opened(below_db, expected_s):
    target = paused(0.6)
    assert reopening_s(target * 10 ** (-below_db / 20), target) == pytest.approx(expected_s, abs=0.011)


@pytest.mark.parametrize(("below_db", "expected_s"), [(20, 0.2), (40, 0.0)])
def test_a_pause_is_over_when_the_target_is_within_thirty_decibels_of_its_loudest(below_db, expected_s):
    target = paused(0.6)
    first_words = slice(25600, 28800)
    target[first_words] *= 10 ** (-below_db / 20)
    estimate = target.copy()
    estimate[first_words] = 0
    assert reopening_s(estimate, target) == pytest.approx(expected_s, abs=0.011)


@pytest.mark.parametrize("late_s", [0.05, 0.3])
def test_others_who_leak_are_not_taken_for_the_target_that_speaks_again(late_s):
    target, other = noise(8, 48000), noise(9, 48000)
    target[8000:24000] = 0
    target[24000:26400] *= np.linspace(0, 1, 2400)  # a voice does not begin at once
    late = target.copy()
    late[24000 : 24000 + 2400 + int(late_s * 16000)] = 0
    assert reopening_s(target + 0.5 * other, target) == pytest.approx(0, abs=0.021)
    assert reopening_s(late + 0.1 * other, target) == pytest.approx(0.145 + late_s, abs=0.021)
    for closed in (0.1 * (target + other), 0.1 * other, -target):
        assert reopening_s(closed, target) == pytest.approx(1.5, abs=0.011)


def test_both_ears_together_pause_leak_and_reopen():
    target = at_two_ears(noise(12, 48000), 4, 6)
    target[:, 8000:24000] = 0
    mixture = target + at_two_ears(noise(13, 48000), -4, 6)
    estimate = mixture.copy()
    estimate[:, 11200:24000] *= 0.1
    estimate[:, 24000:25600] = 0
    assert leakage_db(estimate, target, mixture) == pytest.approx(-20, abs=0.01)
    assert reopening_s(estimate, target) == pytest.approx(0.1, abs=0.011)


def test_the_wrong_talker_is_the_one_that_the_output_resembles_more():
    target, other, third = noise(9, 8000), noise(10, 8000), noise(11, 8000)
    assert not is_wrong_talker(target + 0.5 * other, target, [other, third])
    assert is_wrong_talker(0.5 * target + other, target, [third, other])
    ears, elsewhere = at_two_ears(target, 3, 5), at_two_ears(other, -3, 2)
    assert not is_wrong_talker(ears + 0.5 * elsewhere, ears, [elsewhere])
    assert is_wrong_talker(0.5 * ears + elsewhere, ears, [elsewhere])
