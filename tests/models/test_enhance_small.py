"""The first model: what it costs, and that it respects level, silence and speech before it has learnt anything."""

import pytest
import torch

from hearloop.models import build
from hearloop.models.bands import erb_filters
from hearloop.models.frontend import enhance
from hearloop.runtime.errors import HearloopError


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(5)
    model = build("enhance-small").train()
    # Weights as after training: no branch is silent, batch norms have statistics.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        for _ in range(10):
            enhance(model, 0.1 * torch.randn(2, 1, 4000))
    return model.eval().requires_grad_(False)


def sound(samples: int = 32000, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(1, 1, samples, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("gain_db", [-50, -20, 20, 60])
def test_the_output_is_louder_by_what_the_input_is_louder(model, gain_db):
    gain = 10 ** (gain_db / 20)
    reference = enhance(model, sound())
    assert (reference - sound()).abs().max() > 1e-2
    assert (enhance(model, gain * sound()) / gain - reference).abs().max() <= 1e-4 * reference.abs().max()


def test_digital_silence_stays_silent_and_finite_before_after_and_between_sound(model):
    silence = torch.zeros(1, 1, 16000)
    y = enhance(model, torch.cat([silence, sound(16000), silence], dim=-1))
    assert y.isfinite().all()
    assert (y[..., :15000] == 0).all()
    assert y[..., 33000:].abs().max() <= 1e-6


def test_an_untrained_model_passes_speech():
    torch.manual_seed(0)
    model = build("enhance-small").eval()
    x = sound()
    with torch.no_grad():
        error = enhance(model, x) - x
    assert error.square().mean() < 0.03 * x.square().mean()


def test_gradients_reach_every_parameter():
    torch.manual_seed(0)
    model = build("enhance-small").train()
    (enhance(model, sound(8000)) - sound(8000, seed=1)).square().mean().backward()
    dead = [name for name, parameter in model.named_parameters() if not parameter.grad.abs().sum() > 0]
    assert dead == []


def test_sizes_can_be_chosen_by_name():
    model = build("enhance-small", channels=8, hidden=12, bands=16, blocks=1).eval()
    assert enhance(model, sound(4000)).shape == (1, 1, 4000)


def test_an_unknown_model_is_refused_with_the_names_of_those_known():
    with pytest.raises(HearloopError, match=r"'enhance-huge'.*enhance-small"):
        build("enhance-huge")


@pytest.mark.parametrize(("bands_in", "bands_out"), [(64, 20), (64, 32), (32, 32), (128, 24)])
def test_erb_filters_are_triangles_that_leave_no_band_out(bands_in, bands_out):
    filters = erb_filters(bands_in, bands_out, 16000)
    assert torch.allclose(filters.sum(0), torch.ones(bands_out))
    assert (filters.sum(1) > 0).all()
    widths = (filters > 0).sum(0)
    assert (widths[1:-1].diff() >= -1).all()
    assert (filters.argmax(0).diff() > 0).all()


@pytest.mark.parametrize("bands", [-1, 1, 65])
def test_a_number_of_bands_that_cannot_be_made_is_refused(bands):
    with pytest.raises(HearloopError, match=f"bands is {bands}, expected 2 to 64"):
        build("enhance-small", bands=bands)


@pytest.mark.parametrize("window", ["symmetric-192", "asymmetric-512-320"])
def test_another_window_pair_is_a_matter_of_configuration(window):
    model = build("enhance-small", window=window).eval()
    audio = torch.randn(1, 1, 3000)
    with torch.no_grad():
        assert enhance(model, audio).shape == audio.shape
        # Untrained it passes its input with a gain of about one, whatever the window.
        assert float((enhance(model, audio) - audio).norm() / audio.norm()) < 0.5
