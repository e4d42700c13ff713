"""The terms of the loss: the laws that each must obey."""

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hearloop.models.training.loss import (
    Loss,
    LossWeights,
    negative_si_sdr_db,
    negative_snr_db,
    permutation_invariant,
    spectral_distance,
)

EVERY_TERM = LossWeights(spectral=1.0, si_sdr=1.0, snr=1.0, resolutions=(128, 512))


def noise(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=20, deadline=None)
@given(gain=st.floats(0.01, 100))
def test_si_sdr_does_not_depend_on_scale_and_snr_does(gain):
    target, estimate = noise(1, 2, 4000), noise(1, 2, 4000) + 0.3 * noise(2, 2, 4000)
    assert torch.allclose(negative_si_sdr_db(gain * estimate, target), negative_si_sdr_db(estimate, target), atol=1e-2)
    if abs(gain - 1) > 0.5:
        assert torch.all(negative_snr_db(gain * estimate, target, target) > negative_snr_db(estimate, target, target))


@settings(max_examples=20, deadline=None)
@given(ratio_db=st.floats(-10, 15))
def test_the_snr_term_is_the_ratio_and_for_an_absent_target_the_level_that_leaks(ratio_db):
    target, error = noise(3, 4000), noise(4, 4000)
    error = error * target.norm() / error.norm() * 10 ** (-ratio_db / 20)
    assert float(negative_snr_db(target + error, target, target)) == pytest.approx(-ratio_db, abs=0.2)
    leaked = target * 10 ** (ratio_db / 20)
    assert float(negative_snr_db(leaked, torch.zeros(4000), target)) == pytest.approx(ratio_db, abs=0.1)


@pytest.mark.parametrize("largest_db", [10.0, 30.0])
def test_the_snr_saturates_where_it_is_told_to_and_what_is_better_pulls_less(largest_db):
    weights = LossWeights(spectral=0, si_sdr=0, snr=1, largest_snr_db=largest_db)
    target, error = noise(5, 1, 1, 4000), noise(6, 1, 1, 4000)

    def loss_and_pull(ratio_db):
        part = torch.tensor(10 ** (-ratio_db / 20), requires_grad=True)
        loss = Loss(weights, "symmetric-192")(target + part * error, target, target[:, 0])
        return loss.item(), torch.autograd.grad(loss, part)[0].item() * part.item()

    assert loss_and_pull(largest_db + 40)[0] == pytest.approx(-largest_db, abs=0.01)
    for above_db in (-10, 0, 10):
        left = 1 / (1 + 10 ** (above_db / 10))
        assert loss_and_pull(largest_db + above_db)[1] == pytest.approx(20 / math.log(10) * left, rel=0.1)


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(3)), seed=st.integers(0, 1000))
def test_the_order_of_several_targets_does_not_matter(order, seed):
    target = noise(seed, 2, 3, 3000)
    estimate = target + 0.5 * noise(seed + 1, 2, 3, 3000)
    mixture = target.sum(1)
    loss = Loss(EVERY_TERM, "symmetric-192")
    expected = loss(estimate, target, mixture)
    assert torch.allclose(loss(estimate[:, order], target, mixture), expected, rtol=1e-4)
    assert torch.allclose(loss(estimate, target[:, order], mixture), expected, rtol=1e-4)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(1, 4))
def test_the_best_permutation_is_the_best_of_all(seed, count):
    pairs = noise(seed, 1, count, count)
    means = [sum(float(pairs[0, i, j]) for i, j in enumerate(order)) / count for order in permutations(range(count))]
    assert float(permutation_invariant(pairs)) == pytest.approx(min(means), abs=1e-5)


def test_items_choose_their_order_each_for_itself():
    target = noise(5, 2, 2, 3000)
    estimate = torch.stack([target[0], target[1].flip(0)])
    loss = Loss(EVERY_TERM, "symmetric-192")
    assert torch.allclose(loss(estimate, target, target.sum(1)), loss(target, target, target.sum(1)), rtol=1e-4)


@pytest.mark.parametrize("sources", [1, 2])
@pytest.mark.parametrize("weights", [LossWeights(), EVERY_TERM, LossWeights(0, 0, 1)])
def test_gradients_are_finite_where_anything_is_silent(sources, weights):
    loss, sound, silence = Loss(weights, "symmetric-192"), noise(6, 2, sources, 3840), torch.zeros(2, sources, 3840)
    for estimate in (sound, silence):
        for target in (sound, silence):
            for mixture in (sound.sum(1), silence.sum(1)):
                leaf = estimate.clone().requires_grad_()
                value = loss(leaf, target, mixture)
                value.backward()
                assert torch.isfinite(value)
                assert torch.all(torch.isfinite(leaf.grad))


@pytest.mark.parametrize("weights", [LossWeights(), EVERY_TERM])
def test_a_perfect_estimate_has_the_least_loss(weights):
    loss, target, error = Loss(weights, "symmetric-192"), noise(7, 2, 1, 6400), noise(8, 2, 1, 6400)
    mixture = (target + error)[:, 0]
    found = [float(loss(target + share * error, target, mixture)) for share in (0, 0.1, 0.5, 1)]
    assert found == sorted(found)


def test_the_spectral_distance_counts_compressed_complex_numbers_and_magnitudes():
    both = noise(9, 2, 5, 7, 2)
    estimate, target = (np.abs(z) ** 0.3 * np.exp(1j * np.angle(z)) for z in torch.view_as_complex(both).numpy())
    of_complex, of_magnitudes = np.abs(estimate - target), np.abs(estimate) - np.abs(target)
    expected = 10 * np.mean(of_complex**2) + 25 * np.mean(of_magnitudes**2)
    assert float(spectral_distance(*both)) == pytest.approx(expected, rel=1e-3)
