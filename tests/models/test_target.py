"""What the streaming models for a chosen voice promise beyond the laws of streaming."""

import pytest
import torch

from hearloop.models import build
from hearloop.models.target.hearing import Hearing
from hearloop.models.training.checkpoint import take_over

SMALL = {"channels": 8, "hidden": 6, "blocks": 2, "heads": 2, "memory": 6, "query": 2, "embedding": 12}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build("target", **SMALL).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def spectrum():
    return torch.randn(1, 2, 40, 97, 2, generator=torch.Generator().manual_seed(1))


def voice(model, seed: int) -> torch.Tensor:
    embedding = torch.randn(1, 12, generator=torch.Generator().manual_seed(seed))
    return model.steering(embedding / embedding.norm())


def trained(model):
    """Weights far from the gain of one that the model starts with, so that the network counts."""
    other = build("target", **SMALL).eval().requires_grad_(False)
    other.load_state_dict(model.state_dict())
    other.net.deconv.conv.weight.mul_(10)
    return other


def test_an_untrained_model_passes_its_input(model, spectrum):
    kept, _ = model(spectrum, voice(model, 2), model.initial_state(1))
    assert (kept - spectrum).square().mean() < 0.1 * spectrum.square().mean()


def test_the_voice_decides_what_is_kept(model, spectrum):
    loud = trained(model)
    one, other = (loud(spectrum, voice(loud, seed), loud.initial_state(1))[0] for seed in (2, 3))
    assert (one - other).square().mean() > 1e-3 * one.square().mean()


@pytest.mark.parametrize("gain", [1e-3, 30.0])
def test_the_level_of_the_input_only_scales_the_output(model, spectrum, gain):
    loud, steering = trained(model), voice(model, 2)
    expected = gain * loud(spectrum, steering, loud.initial_state(1))[0]
    found = loud(gain * spectrum, steering, loud.initial_state(1))[0]
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_silence_stays_silence_and_what_follows_it_is_finite(model, spectrum):
    loud, steering = trained(model), voice(model, 2)
    silence, state = loud(torch.zeros_like(spectrum), steering, loud.initial_state(1))
    assert not silence.any()
    assert loud(spectrum, steering, state)[0].isfinite().all()


@pytest.mark.parametrize("channels", [4, 6])
def test_a_small_model_begins_with_what_one_ear_knew_of_sound_that_both_hear_alike(channels):
    sizes = {"channels": 4, "hidden": 4, "bands": 8, "blocks": 1}
    one_ear = build("separate-small", **sizes).eval().requires_grad_(False)
    both_ears = build("target-small", **sizes | {"channels": channels}, embedding=8).eval().requires_grad_(False)
    take_over(both_ears, one_ear.state_dict(), "one ear")
    both_ears.split[0].weight[:, 6:] = 0  # of what tells directions apart, one ear knew nothing
    spectrum = torch.randn(1, 1, 20, 257, 2, generator=torch.Generator().manual_seed(1))
    no_voice = torch.zeros(1, 8, 1, 8 + 1)
    first, _ = one_ear(spectrum, one_ear.initial_state(1))[0].split(1, dim=1)
    heard, _ = both_ears(spectrum.expand(-1, 2, -1, -1, -1), no_voice, both_ears.initial_state(1))
    torch.testing.assert_close(heard, first.expand(-1, 2, -1, -1, -1), rtol=1e-4, atol=1e-4)


def test_a_voice_is_blurred_in_training_alone():
    torch.manual_seed(0)
    target = build("target-small", channels=4, hidden=4, bands=8, blocks=1, embedding=8)
    enroll = build("enroll", channels=4, hidden=4, blocks=1, summary=2, embedding=8)
    hearing = Hearing(target, enroll, enroll_learns=False, blur=0.6).requires_grad_(False)
    mixture, look = 0.1 * torch.randn(2, 1, 2, 4000)

    def heard() -> torch.Tensor:
        return hearing(mixture, (look, torch.tensor([4000])))[0]

    assert not torch.equal(heard(), heard())
    hearing.eval()
    assert torch.equal(heard(), heard())
