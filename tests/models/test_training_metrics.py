"""SI-SDR and the loss: identities that hold for any signal."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hearloop.models.evaluation.ratio import si_sdr
from hearloop.models.training.loss import Loss, LossWeights
from hearloop.models.training.metrics import si_sdr_db


def noise(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), ratio_db=st.floats(-30, 40), gain=st.floats(0.001, 1000))
def test_orthogonal_noise_gives_its_own_ratio_at_any_scale(seed, ratio_db, gain):
    target = noise(seed, 4000)
    target = target - target.mean()
    other = noise(seed + 1, 4000)
    other = other - other.mean()
    other = other - (other @ target) / (target @ target) * target
    estimate = target + other * (target.norm() / other.norm()) * 10 ** (-ratio_db / 20)
    assert float(si_sdr_db(gain * estimate, target)) == pytest.approx(ratio_db, abs=0.05)


def test_identity_sign_and_offset_do_not_matter_and_silence_is_finite():
    target = noise(3, 2, 4000)
    estimate = target + 0.3 * noise(4, 2, 4000)
    assert torch.all(si_sdr_db(target, target) > 60)
    assert torch.allclose(si_sdr_db(-estimate, target), si_sdr_db(estimate, target))
    assert torch.allclose(si_sdr_db(estimate + 5, target), si_sdr_db(estimate, target), atol=0.01)
    assert torch.all(si_sdr_db(torch.zeros_like(target), target) <= -79.9)
    assert torch.all(si_sdr_db(estimate, torch.zeros_like(target)) <= -79.9)


def test_evaluation_and_training_measure_the_same():
    target = noise(8, 3, 4000) + 0.2
    target[2] = 0
    estimate = torch.stack([0.5 * target[0] + 0.1 * noise(9, 4000), -target[1], noise(10, 4000)])
    expected = si_sdr_db(estimate, target).numpy()
    found = [si_sdr(one.numpy(), other.numpy()) for one, other in zip(estimate, target, strict=True)]
    assert found == pytest.approx(expected, abs=0.01)
    assert si_sdr(estimate.numpy(), target.numpy()) == pytest.approx(expected.mean(), abs=0.01)


def enhancement_loss():
    loss = Loss(LossWeights(), "symmetric-192")
    return lambda estimate, target, noisy: loss(estimate[:, None], target[:, None], noisy)


def test_the_loss_prefers_the_better_estimate_at_any_level():
    loss = enhancement_loss()
    target, disturbance = noise(5, 2, 6400), noise(6, 2, 6400)
    noisy = target + disturbance
    found = [
        [float(loss(level * (target + rest * disturbance), level * target, level * noisy)) for rest in (0, 0.1, 0.5, 1)]
        for level in (1.0, 0.003)
    ]
    assert found[0] == sorted(found[0])
    assert found[0] == pytest.approx(found[1], rel=1e-3, abs=1e-3)


def test_where_the_target_is_silent_less_output_is_better_and_the_gradient_is_finite():
    loss = enhancement_loss()
    noisy, silence = noise(7, 2, 6400), torch.zeros(2, 6400)
    found = []
    for gain in (0.0, 0.1, 1.0):
        estimate = (gain * noisy).requires_grad_()
        value = loss(estimate, silence, noisy)
        value.backward()
        assert torch.all(torch.isfinite(estimate.grad))
        found.append(float(value.detach()))
    assert found == sorted(found)
    assert found[0] < found[1] - 5
