"""The delay between two ears is found in their product, and what looks for it learns on from there."""

import pytest
import torch

from hearloop.models import build
from hearloop.models.features import BinauralSpectrum
from hearloop.models.frontend import Stft
from hearloop.models.training.checkpoint import take_over
from hearloop.models.training.norms import hold_norms
from hearloop.models.training.whereabouts import Finder
from hearloop.models.whereabouts import LONGEST_DELAY_S, REACH, turns_of
from hearloop.runtime.errors import HearloopError

WINDOW = "asymmetric-512-192"
SIZES = {"channels": 8, "hidden": 12, "bands": 16, "blocks": 2, "embedding": 8}


@pytest.mark.parametrize("late_samples", [-8, -3, 0, 2, 10], ids=lambda late: f"left ear {late} samples late")
def test_noise_that_one_ear_hears_late_turns_as_it_should(late_samples):
    noise = torch.randn(6000, generator=torch.Generator().manual_seed(3))
    left, right = (noise[100 - late : 100 - late + 40 * 128] for late in (late_samples, 0))
    spectrum, _ = Stft(WINDOW).analysis(torch.stack([left, right])[None])
    features, _ = (ears := BinauralSpectrum(WINDOW))(spectrum, ears.initial_state(1))
    alike = features[0, -3:, 10:, :REACH].mean(1)
    delays = 65
    answers = (turns_of(delays, 31.25) * alike).sum((1, 2))
    found_s = LONGEST_DELAY_S * (2 * int(answers.argmax()) / (delays - 1) - 1)
    assert found_s == pytest.approx(late_samples / 16000, abs=1.1 * LONGEST_DELAY_S / (delays - 1))


def test_before_it_is_trained_nothing_changes_and_what_was_learned_before_is_taken_over():
    torch.manual_seed(0)
    plain, seeking = build("target-small", **SIZES).eval(), build("target-small", **SIZES, delays=8).eval()
    take_over(seeking, plain.state_dict(), "the plain one")
    spectrum, voice = torch.randn(1, 2, 5, 257, 2), torch.randn(1, SIZES["embedding"])
    expected, found = (model(spectrum, model.steering(voice), model.initial_state(1))[0] for model in (plain, seeking))
    torch.testing.assert_close(found, expected)


def test_a_network_that_is_told_where_a_voice_is_hears_other_directions():
    torch.manual_seed(0)
    model = build("target-small", **SIZES, delays=8).train()
    hold_norms(model)  # else items of a batch have to do with one another
    with torch.no_grad():
        model.whereabouts.to_channels.weight.normal_()
    spectrum, voice = torch.randn(2, 2, 5, 257, 2), torch.randn(2, *model.extra_inputs[0].shape[1:])
    there = torch.rand(2, 5, 9).softmax(-1)

    def heard() -> torch.Tensor:
        return model(spectrum, voice, model.initial_state(2))[0]

    before = heard()
    model.whereabouts.tell(there, torch.tensor([False, True]))
    told = heard()
    torch.testing.assert_close(told[0], before[0])
    assert (told[1] - before[1]).abs().max() > 1e-4
    torch.testing.assert_close(heard(), before, msg="told for one pass only")


def test_who_is_looked_for_decides_where():
    torch.manual_seed(0)
    model = build("target-small", **SIZES, delays=8).train()
    hold_norms(model)
    spectrum = torch.randn(1, 2, 6, 257, 2).expand(2, -1, -1, -1, -1)
    model(spectrum, model.steering(torch.eye(8)[:2]), model.initial_state(2))
    scores = model.whereabouts.said
    assert scores.shape == (2, 6, 9)
    assert (scores[0] - scores[1]).abs().max() > 1e-4


@pytest.mark.parametrize("late_samples", [-9, -3, 0, 5])
def test_a_voice_is_where_it_was_when_it_spoke(late_samples):
    def at_both_ears(seed: int, late: int) -> torch.Tensor:
        noise = torch.randn(6000, generator=torch.Generator().manual_seed(seed))
        return torch.stack([noise[100 - late : 100 - late + 40 * 128], noise[100 : 100 + 40 * 128]])

    target, other = at_both_ears(1, late_samples), at_both_ears(2, -late_samples)
    target[:, : 20 * 128] = 0
    target[:, 30 * 128 :] = 0
    delays = 17
    there = Finder(delays, WINDOW)((target + other)[None], target[None])[0]
    step_samples = 2 * LONGEST_DELAY_S * 16000 / (delays - 1)
    assert there[:19].argmax(-1).unique().tolist() == [delays], "it has not spoken yet"
    assert there[25:].argmax(-1).unique().tolist() == [round(late_samples / step_samples) + (delays - 1) // 2]
    torch.testing.assert_close(there.sum(-1), torch.ones(len(there)))


def test_a_window_with_too_few_bins_is_refused():
    with pytest.raises(HearloopError, match="symmetric-192 has 97 bins; expected more than 128, for directions"):
        build("target-small", **SIZES, window="symmetric-192", delays=8)
