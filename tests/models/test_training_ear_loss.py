"""What a wearer notices: the terms agree with what evaluation measures, and pull where it matters."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hearloop.models.evaluation.selection import leakage_db
from hearloop.models.evaluation.spatial import ild_error_db
from hearloop.models.training.ear_loss import FRAME_SAMPLES, SETTLING_FRAMES, interaural_errors, pause_leakage_db
from hearloop.models.training.loss import TargetLossWeights
from hearloop.runtime.errors import HearloopError

WINDOW = "asymmetric-512-192"
SECOND = 16000


def noise(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def voice(seed, pause=slice(SECOND, 2 * SECOND)):
    """Three seconds at two ears, with a pause."""
    sound = noise(seed, 1, 2, 3 * SECOND)
    sound[..., pause] = 0
    return sound


def at(audio, delay, level_db):
    """One sound [N] at two ears: the right one later, by whole samples, and softer."""
    right = torch.roll(audio, delay) * 10 ** (-level_db / 20)
    return torch.stack([audio, right])[None]


@settings(max_examples=20, deadline=None)
@given(gain_db=st.floats(-25, 0), seed=st.integers(0, 1000))
def test_what_leaks_in_a_pause_is_what_evaluation_measures(gain_db, seed):
    target = voice(seed)
    mixture = target + noise(seed + 1, 1, 2, 3 * SECOND)
    estimate = mixture * 10 ** (gain_db / 20)
    expected = leakage_db(estimate[0].numpy(), target[0].numpy(), mixture[0].numpy())
    assert float(pause_leakage_db(estimate, target, mixture)) == pytest.approx(expected, abs=1.5 + 0.01)
    assert expected == pytest.approx(gain_db, abs=0.01)


def test_only_what_leaks_in_the_pause_counts():
    target = voice(1)
    mixture = target + noise(2, 1, 2, 3 * SECOND)
    estimate = (0.1 * mixture).requires_grad_()
    pause_leakage_db(estimate, target, mixture).sum().backward()
    pulled = estimate.grad[0, 0].abs() > 0
    begins = SECOND + SETTLING_FRAMES * FRAME_SAMPLES
    assert pulled[begins : 2 * SECOND].all()
    assert not pulled[:begins].any()
    assert not pulled[2 * SECOND :].any()


def test_who_always_speaks_has_no_pause_and_who_never_does_nothing_else():
    target, mixture = noise(3, 2, 2, SECOND), noise(4, 2, 2, SECOND)
    target[1] = 0
    leaked = pause_leakage_db(0.1 * mixture, target, mixture)
    assert leaked.tolist() == [0, pytest.approx(-20, abs=0.5)]


@settings(max_examples=15, deadline=None)
@given(level_db=st.floats(-12, 12), other_db=st.floats(-12, 12), seed=st.integers(0, 1000))
def test_a_level_difference_is_wrong_by_as_much_as_evaluation_says(level_db, other_db, seed):
    sound = noise(seed, 2 * SECOND)
    target, estimate = at(sound, 0, level_db), at(sound, 0, other_db)
    levels, phases = interaural_errors(estimate, target, WINDOW)
    assert float(levels) == pytest.approx(abs(level_db - other_db), abs=0.02)
    assert float(levels) == pytest.approx(ild_error_db(estimate[0].numpy(), target[0].numpy()), abs=0.05)
    assert float(phases) == pytest.approx(0, abs=1e-5)


@settings(max_examples=15, deadline=None)
@given(delay=st.integers(-8, 8), other=st.integers(-8, 8), seed=st.integers(0, 1000))
def test_a_time_difference_turns_the_phase_of_every_bin(delay, other, seed):
    sound = noise(seed, 2 * SECOND)
    levels, phases = interaural_errors(at(sound, other, 3), at(sound, delay, 3), WINDOW)
    turned = 2 * np.pi * np.arange(1, 257) / 512 * (delay - other)
    assert float(phases) == pytest.approx(float(np.mean(1 - np.cos(turned))), abs=0.05)
    assert float(levels) < 1


def test_the_level_of_the_whole_and_what_both_ears_lack_alike_do_not_matter():
    sound = noise(5, 2 * SECOND)
    target = at(sound, 3, 6)
    filtered = at(torch.nn.functional.avg_pool1d(sound[None], 3, 1, 1)[0], 3, 6)
    for estimate in (0.1 * target, filtered):
        levels, phases = interaural_errors(estimate, target, WINDOW)
        assert float(levels) < 0.1
        assert float(phases) < 0.01


def test_gradients_are_finite_where_anything_is_silent():
    sound, silence = noise(6, 1, 2, SECOND), torch.zeros(1, 2, SECOND)
    for estimate in (sound, silence, 1e-6 * sound):
        for target in (sound, silence):
            for mixture in (sound, silence):
                leaf = estimate.clone().requires_grad_()
                levels, phases = interaural_errors(leaf, target, WINDOW)
                value = (pause_leakage_db(leaf, target, mixture) + levels + phases).sum()
                value.backward()
                assert torch.isfinite(value)
                assert torch.isfinite(leaf.grad).all()


def test_a_silent_target_has_no_direction_to_miss():
    assert [float(each) for each in interaural_errors(noise(7, 1, 2, SECOND), torch.zeros(1, 2, SECOND), WINDOW)] == [
        0,
        0,
    ]


@pytest.mark.parametrize("key", ["pauses", "level_difference", "phase_difference"])
def test_weights_below_zero_are_refused(key):
    with pytest.raises(HearloopError, match="none below zero"):
        TargetLossWeights(**{key: -1.0})
