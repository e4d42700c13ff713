"""Measures of separation: what they must be for outputs whose fate is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearloop.models.evaluation.ratio import in_best_order, si_sdr
from hearloop.models.evaluation.talkers import outputs_order, phantom_db, silence_db, swaps_per_minute

RATE = 16000


def talkers(seconds, seed=0):
    return 0.1 * np.random.default_rng(seed).standard_normal((2, int(seconds * RATE))).astype(np.float32)


def in_turns(seconds, turn_s=1.0):
    """One talks, then the other."""
    sounds = talkers(seconds)
    first = (np.arange(sounds.shape[1]) / RATE / turn_s).astype(int) % 2 == 0
    return np.where(first, sounds * [[1], [0]], sounds * [[0], [1]]).astype(np.float32)


@settings(max_examples=10)
@given(order=st.permutations([0, 1, 2]), gain=st.floats(0.01, 10))
def test_the_best_order_undoes_any_order_at_any_level(order, gain):
    targets = 0.1 * np.random.default_rng(5).standard_normal((3, 4000)).astype(np.float32)
    np.testing.assert_array_equal(in_best_order(np.float32(gain) * targets[order], targets), np.float32(gain) * targets)


def test_the_ratio_of_several_channels_is_the_mean_of_theirs():
    targets, noise = talkers(1), talkers(1, seed=9)
    estimates = targets + noise * [[0.1], [0.5]]
    each = [si_sdr(*pair) for pair in zip(estimates, targets, strict=True)]
    assert si_sdr(estimates, targets) == pytest.approx(np.mean(each), abs=1e-4)
    assert each == pytest.approx([20, 6], abs=0.3)


@settings(max_examples=20)
@given(
    at_s=st.lists(st.floats(1, 19), max_size=5, unique_by=lambda at: int(at)).map(sorted),
    starts_swapped=st.booleans(),
    gain=st.floats(0.01, 10),
)
@pytest.mark.parametrize("make", [talkers, in_turns])
def test_every_swap_is_counted_once_however_loud_and_whoever_speaks(make, at_s, starts_swapped, gain):
    at_s = [at for number, at in enumerate(at_s) if number == 0 or at - at_s[number - 1] > 1]
    targets = make(20)
    estimates = gain * (targets + 0.2 * talkers(20, seed=3))
    for at in [*([0] if starts_swapped else []), *at_s]:
        estimates[:, int(at * RATE) :] = estimates[::-1, int(at * RATE) :]
    # A talker who is alone and swapped within his own turn is seen at once, else in the next window at the latest.
    assert swaps_per_minute(estimates, targets) == pytest.approx(3 * len(at_s))


def test_a_separator_that_gives_all_to_one_output_swaps_with_every_turn():
    targets = in_turns(20)
    estimates = np.stack([targets.sum(axis=0), np.zeros(targets.shape[1], np.float32)])
    assert swaps_per_minute(estimates, targets) == pytest.approx(3 * 19)
    assert list(outputs_order(estimates, targets)[:8]) == [1] * 4 + [-1] * 4


def test_silence_and_the_mixture_itself_say_nothing_about_order():
    targets = talkers(20)
    assert np.isnan(swaps_per_minute(np.stack([targets.sum(axis=0)] * 2), targets))
    assert np.isnan(swaps_per_minute(targets, 0 * targets))
    paused = targets * (np.arange(targets.shape[1]) > 10 * RATE)
    assert swaps_per_minute(paused + 1e-4 * talkers(20, seed=4), paused) == 0


@pytest.mark.parametrize(("share", "told"), [(0.3, 1), (3.0, 0)])
def test_a_window_in_which_it_is_hardly_told_who_is_where_tells_nothing(share, told):
    targets = talkers(2)
    assert set(outputs_order(targets + share * talkers(2, seed=2), targets)) == {told}


@pytest.mark.parametrize(("below_db", "told"), [(30, 1), (50, 0)])
def test_a_window_in_which_nobody_speaks_tells_nothing(below_db, told):
    targets = talkers(2)
    targets[:, RATE:] *= 10 ** (-below_db / 20)
    assert list(outputs_order(targets, targets)) == [1] * 4 + [told] * 4


@pytest.mark.parametrize("level_db", [0.0, -20.0, -60.0])
def test_a_phantom_is_as_loud_as_the_quieter_output_whichever_it_is(level_db):
    sounds = talkers(1)
    sounds[1] = sounds[0] * 10 ** (level_db / 20)
    assert phantom_db(sounds) == phantom_db(sounds[::-1]) == pytest.approx(level_db, abs=0.01)
    assert phantom_db(sounds * [[1], [0]]) == -100
    assert np.isnan(phantom_db(0 * sounds))


def test_silence_is_measured_against_what_is_heard_and_sound_from_nowhere_is_seen():
    noise = talkers(1)[:1]
    assert silence_db(np.concatenate([noise / 2, noise / 4]), noise) == pytest.approx(-6.02, abs=0.01)
    assert np.isnan(silence_db(np.zeros((2, RATE)), np.zeros((1, RATE))))
    assert silence_db(talkers(1), np.zeros((1, RATE))) > 70
