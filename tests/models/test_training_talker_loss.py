"""The loss of pieces: each may have its own order of the talkers, and nothing else is forgiven."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from hearloop.models import build
from hearloop.models.simulation.pairs import PairItems
from hearloop.models.training.talker_loss import SeparateLossWeights, negative_local_snr_db
from hearloop.models.training.tasks.separate import SeparateLoss
from hearloop.runtime.errors import HearloopError

LENGTH, PIECES = 80, 6


def noise(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 3), st.integers(0, 2**PIECES - 1), st.integers(0, 99), st.floats(0.1, 0.5))
def test_talkers_that_change_places_between_pieces_lose_nothing(talkers, swapped, seed, share):
    target, error = noise(seed, 1, talkers, PIECES * LENGTH), noise(seed + 100, 1, talkers, PIECES * LENGTH)
    estimate, mixture = target + share * error, target.sum(1)
    pieces = list(estimate.split(LENGTH, dim=-1))
    for index in range(PIECES):
        if swapped >> index & 1:
            pieces[index] = pieces[index].roll(1, dims=1)
    found = negative_local_snr_db(torch.cat(pieces, dim=-1), target, mixture, LENGTH)
    torch.testing.assert_close(found, negative_local_snr_db(estimate, target, mixture, LENGTH), rtol=1e-4, atol=1e-4)
    snr_db = 10 * torch.log10(target.square().sum() / (share * error).square().sum())
    assert -float(found) == pytest.approx(float(snr_db), abs=0.6)


def test_talkers_that_change_places_within_a_piece_lose():
    target = noise(1, 2, 2, PIECES * LENGTH)
    swapped = torch.cat([target[..., : LENGTH // 2], target.flip(1)[..., LENGTH // 2 :]], dim=-1)
    kept, lost = (negative_local_snr_db(y, target, target.sum(1), LENGTH) for y in (target, swapped))
    assert torch.all(kept < -25)
    assert torch.all(lost > kept + 10)


@pytest.mark.parametrize("silent", ["target", "mixture", "estimate", "all"])
@pytest.mark.parametrize("samples", [LENGTH // 2, PIECES * LENGTH + 7])
def test_gradients_are_finite_in_silence_and_for_items_of_any_length(silent, samples):
    signals = {"estimate": noise(2, 2, 2, samples), "target": noise(3, 2, 2, samples), "mixture": noise(4, 2, samples)}
    signals = {name: value * (silent not in (name, "all")) for name, value in signals.items()}
    leaf = signals["estimate"].clone().requires_grad_()
    loss = negative_local_snr_db(leaf, signals["target"], signals["mixture"], LENGTH).sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.all(torch.isfinite(leaf.grad))


def test_the_local_term_may_stand_alone_but_not_nothing():
    SeparateLossWeights(spectral=0, si_sdr=0, snr=0, local=1)
    with pytest.raises(HearloopError, match=r"are \(0, 0, 0, 0\); expected none below and one above zero"):
        SeparateLossWeights(spectral=0, si_sdr=0, snr=0, local=0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"local": -1},
        {"local": 1, "spectral": 0, "si_sdr": -1},
        {"local": 1, "spectral": 0, "si_sdr": 0, "largest_snr_db": -3},
        {"local": 1, "local_s": 0.001},
        {"local_until": 0},
        {"local_until": float("nan")},
    ],
)
def test_weights_below_zero_are_refused_whatever_else_counts(wrong):
    with pytest.raises(HearloopError, match="expected"):
        SeparateLossWeights(**wrong)


def test_the_local_term_fades_as_the_budget_is_spent():
    network = build("separate-small", channels=4, hidden=4, bands=4, blocks=1).eval()
    source = noise(5, 2, 2, 4000)
    items = PairItems(source.sum(1).numpy(), source.numpy())

    def loss(progress, **weights):
        weighted = SeparateLoss(SeparateLossWeights(spectral=0, si_sdr=0, snr=1, **weights), network.window)
        weighted.progress.fill_(progress)
        return weighted(network, items).item()

    whole, both = loss(0), loss(0, local=2)
    assert both != pytest.approx(whole, abs=0.01)
    assert loss(1, local=2) == both
    for progress, left in ((0, 1), (0.25, 0.5), (0.5, 0), (1, 0)):
        assert loss(progress, local=2, local_until=0.5) == pytest.approx(whole + left * (both - whole), abs=1e-4)
