"""Weights that are there already: what training begins with computes what they did."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from hearloop.models import build
from hearloop.models.frontend import enhance
from hearloop.models.training.configuration import SeparateConfiguration
from hearloop.models.training.loop import Training
from hearloop.models.training.machines import open_fabric, run_on
from hearloop.models.training.norms import hold_norms, settle_norms
from hearloop.models.training.settings import Settings
from hearloop.models.training.talker_loss import SeparateLossWeights
from hearloop.models.training.tasks import open_task, separate
from hearloop.runtime.errors import HearloopError

SIZES = {"channels": 8, "hidden": 8, "bands": 16, "blocks": 1}


def _folded() -> nn.Module:
    """A model as it comes back from a bundle: its batch norms hold the mean of zero and the variance of one."""
    torch.manual_seed(3)
    model = build("separate-small", **SIZES)
    with torch.no_grad():
        model.mask.weight.normal_()
        for layer in model.modules():
            if isinstance(layer, _BatchNorm):
                layer.bias.uniform_(-1, 1)
            if isinstance(layer, nn.Conv2d):
                layer.weight.mul_(2)
    return model


def _sounds() -> list[torch.Tensor]:
    return list(0.1 * torch.randn(3, 2, 1, 8000, generator=torch.Generator().manual_seed(1)))


@torch.no_grad()
def _output(model: nn.Module, training: bool) -> np.ndarray:
    """Of sounds that the norms have heard, all in one batch."""
    model.train(training)
    return enhance(model, torch.cat(_sounds())).numpy()


def test_norms_that_are_settled_compute_the_same_and_so_does_the_model_in_training():
    model = _folded()
    expected = _output(model, training=False)
    apart = np.abs(_output(_folded(), training=True) - expected).max()
    model.train()
    settle_norms(model, lambda sound: enhance(model, sound), _sounds())
    assert all(layer.training for layer in model.modules())
    np.testing.assert_allclose(_output(model, training=False), expected, atol=1e-5)
    np.testing.assert_allclose(_output(model, training=True), expected, atol=1e-4)
    assert apart > 0.01  # else there would have been nothing to settle


def test_norms_that_do_not_learn_stay_as_they_are():
    model = _folded().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    settle_norms(model, lambda sound: enhance(model, sound), _sounds())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_norms_that_are_held_compute_what_will_run_and_learn_on():
    model = _folded()
    expected = _output(model, training=False)
    model.train()
    hold_norms(model)
    found = enhance(model, torch.cat(_sounds()))
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-6)
    found.square().sum().backward()
    norms = [layer for layer in model.modules() if isinstance(layer, _BatchNorm)]
    assert all(layer.weight.grad.abs().max() > 0 for layer in norms)


def test_a_run_holds_its_norms_throughout_and_needs_some_to_hold(starter, tmp_path, monkeypatch):
    for name in ("ROOMS", "OVERLAPS", "ALONE"):
        monkeypatch.setattr(separate, name, 1)
    monkeypatch.setattr("hearloop.models.training.loop.SETTLING_BATCHES", 1)

    def trained(steps, hold, start):
        settings = Settings(steps=steps, batch=1, seconds=0.5, validate_every=1, hold_norms=hold)
        training = Training(
            open_task(SeparateConfiguration("separate-small", SIZES, training=settings), *starter), tmp_path, {}, start
        )
        run_on(open_fabric(accelerator="cpu"), training.run)
        return [layer.running_var.clone() for layer in training.model.modules() if isinstance(layer, _BatchNorm)]

    def begin(model):
        model.load_state_dict(_folded().state_dict())

    with pytest.raises(HearloopError, match="hold_norms is true, and batch norms hold nothing"):
        trained(1, True, None)
    one, more, free = trained(1, True, begin), trained(3, True, begin), trained(5, False, begin)
    assert all(torch.equal(a, b) for a, b in zip(one, more, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(more, free, strict=True))


def test_a_run_goes_on_from_what_the_weights_compute(starter, tmp_path, monkeypatch):
    for name in ("ROOMS", "OVERLAPS", "ALONE"):
        monkeypatch.setattr(separate, name, 1)
    monkeypatch.setattr("hearloop.models.training.loop.SETTLING_BATCHES", 3)
    start = _folded()
    expected = _output(start, training=False)
    errors = []
    for begin in (lambda model: model.load_state_dict(start.state_dict()), None):
        settings = Settings(steps=1, batch=2, seconds=0.5, learning_rate=0, weight_decay=0)
        configuration = SeparateConfiguration(
            "separate-small", SIZES, training=settings, loss=SeparateLossWeights(spectral=0, si_sdr=0, snr=1)
        )
        training = Training(open_task(configuration, *starter), tmp_path / str(begin is None), {}, begin)
        training.out.mkdir()
        if begin is None:  # without being told that the weights are there already, and so without settling
            monkeypatch.setattr(training.task, "build", lambda: _folded())
        run_on(open_fabric(accelerator="cpu"), training.run)
        errors.append(np.abs(_output(training.model, training=True) - expected).max())
    settled, unsettled = errors
    assert settled < unsettled / 2
