"""The streaming MambAttention before training: it passes its input, at any level, and keeps silence silent."""

import pytest
import torch

from hearloop.models import build


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build("enhance-mamba-small", channels=8, blocks=2, depth=2, memory=6, heads=2).eval().requires_grad_(False)


def test_an_untrained_model_is_near_its_input_at_any_level(model):
    spectrum = torch.randn(1, 1, 40, 257, 2, generator=torch.Generator().manual_seed(1))
    loud, _ = model(spectrum, model.initial_state(1))
    quiet, _ = model(spectrum / 50, model.initial_state(1))
    assert (loud - spectrum).std() < 0.5 * spectrum.std()
    torch.testing.assert_close(50 * quiet, loud, rtol=1e-3, atol=1e-3)


def test_silence_stays_far_below_hearing(model):
    silent, _ = model(torch.zeros(1, 1, 20, 257, 2), model.initial_state(1))
    per_bin = model.silence**0.5  # amplitude of a bin of noise at -90 dBFS
    assert silent.abs().max() < per_bin
