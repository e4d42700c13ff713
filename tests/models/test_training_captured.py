"""A step that is recorded and played again learns what the step itself does."""

import copy

import pytest
import torch

from hearloop.models import build
from hearloop.models.simulation.pairs import PairItems
from hearloop.models.training import loop
from hearloop.models.training.captured import WARM_UP, CapturedStep
from hearloop.models.training.compiled import compile_layers
from hearloop.models.training.configuration import SeparateConfiguration
from hearloop.models.training.loop import Training
from hearloop.models.training.machines import open_fabric, run_on
from hearloop.models.training.muon import Muon
from hearloop.models.training.settings import Settings
from hearloop.models.training.talker_loss import SeparateLossWeights
from hearloop.models.training.tasks import open_task, separate
from hearloop.models.training.tasks.separate import SeparateLoss
from hearloop.runtime.errors import HearloopError

SIZES = {"channels": 8, "hidden": 8, "bands": 16, "blocks": 1}
STEPS = WARM_UP + 4


def _played_by_hand(work):
    """Like a recording on an accelerator: nothing is done yet, and the loss stays where it is."""
    loss = torch.zeros(())
    return lambda: loss.copy_(work()), loss


def _rates_as_tensors(learn, optimiser):
    for group in optimiser.param_groups:
        group["lr"] = torch.tensor(group["lr"])
    return _by_hand(learn)


def _by_hand(learn):
    return CapturedStep(learn, warm_up=lambda learn, items: learn(items), record=_played_by_hand)


def test_a_recording_hears_every_batch_and_keeps_its_places():
    heard = []

    def learn(items):
        heard.append([float(part[0]) for part in items])
        return items[0].sum()

    step = _by_hand(learn)
    losses = [step((torch.full((2,), float(n)), torch.full((3,), 10.0 * n))) for n in range(STEPS)]
    assert heard == [[float(n), 10.0 * n] for n in range(STEPS)]
    assert float(losses[-1]) == 2 * (STEPS - 1)
    assert all(loss is losses[-1] for loss in losses[WARM_UP:])
    sound = _by_hand(lambda items: items.mean())
    assert [float(sound(torch.full((2,), float(n)))) for n in range(STEPS)] == list(range(STEPS))


@pytest.mark.parametrize("count", [1, 3])  # of one alone PyTorch would make as many copies as there is room for
def test_a_batch_of_another_shape_is_refused(count):
    step = _by_hand(lambda items: items.sum())
    for _ in range(WARM_UP + 1):
        step(torch.ones(2))
    with pytest.raises(HearloopError, match=rf"items have shape \({count},\); recorded are \(2,\)"):
        step(torch.ones(count))


def test_a_run_that_is_captured_learns_what_another_does(starter, tmp_path, monkeypatch):
    for name in ("ROOMS", "OVERLAPS", "ALONE"):
        monkeypatch.setattr(separate, name, 1)

    def weights(out, capture=False):
        settings = Settings(steps=STEPS, batch=2, seconds=0.5, validate_every=WARM_UP + 2, capture=capture)
        task = open_task(SeparateConfiguration("separate-small", SIZES, training=settings), *starter)
        training = Training(task, tmp_path / out, {})
        training.out.mkdir()
        run_on(open_fabric(accelerator="cpu"), training.run)
        return training.model.state_dict()

    expected = weights("eager")
    monkeypatch.setattr(loop, "captured", lambda learn, optimiser, fabric: _rates_as_tensors(learn, optimiser))
    found = weights("captured", capture=True)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_only_one_process_on_an_accelerator_captures(starter, tmp_path):
    settings = Settings(steps=1, batch=2, seconds=0.5, capture=True)
    task = open_task(SeparateConfiguration("separate-small", SIZES, training=settings), *starter)
    with pytest.raises(HearloopError, match="capture is true on cpu in 1 processes; expected cuda and one"):
        run_on(open_fabric(accelerator="cpu"), Training(task, tmp_path, {}).run)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator of NVIDIA here")
def test_a_recording_on_an_accelerator_learns_what_the_step_itself_does():
    torch.manual_seed(1)
    plain = compile_layers(build("separate-small", **SIZES).train(), "cuda").cuda()
    batches = [PairItems(torch.randn(2, 8192).cuda(), torch.randn(2, 2, 8192).cuda()) for _ in range(STEPS)]
    ends = []
    for wrap in (lambda learn: learn, CapturedStep):
        network = copy.deepcopy(plain)
        optimiser = Muon(network, 1e-3)
        loss = SeparateLoss(SeparateLossWeights(spectral=0, si_sdr=0, snr=1), network.window).cuda()

        def learn(items, network=network, optimiser=optimiser, loss=loss):
            optimiser.zero_grad()
            found = loss(network, items)
            found.backward()
            optimiser.step()
            return found.detach()

        for group in optimiser.param_groups:
            group["lr"] = torch.tensor(group["lr"]).cuda()
        step = wrap(learn)
        ends.append([float(step(items)) for items in batches])
    torch.testing.assert_close(torch.tensor(ends[1]), torch.tensor(ends[0]), rtol=1e-3, atol=1e-3)
