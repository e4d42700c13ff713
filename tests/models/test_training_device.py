"""Training on an accelerator, without one: nothing may stay behind on the CPU.

PyTorch's fake tensors have a shape and a device and no values, and refuse what a real accelerator would refuse.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hearloop.models import build, task_of
from hearloop.models.frontend import stft_on
from hearloop.models.published.dvector import DVector
from hearloop.models.simulation.looks import LookItems
from hearloop.models.simulation.pairs import PairItems
from hearloop.models.simulation.scenes import SceneItems
from hearloop.models.target.hearing import Hearing
from hearloop.models.training.loss import Loss, LossWeights, TargetLossWeights
from hearloop.models.training.moving_average import WeightAverage
from hearloop.models.training.muon import Muon
from hearloop.models.training.talker_loss import SeparateLossWeights
from hearloop.models.training.tasks.enhance import EnhanceLoss
from hearloop.models.training.tasks.enroll import EnrollLoss
from hearloop.models.training.tasks.separate import SeparateLoss
from hearloop.models.training.tasks.target import TargetLoss
from hearloop.models.training.voice_loss import EnrollLossWeights

DEVICE = "lazy"  # one that every build of PyTorch knows by name, and that is not the CPU
SAMPLES = 640
ALL_TERMS = LossWeights(spectral=1, si_sdr=1, snr=1, resolutions=(256, 512))
TALKERS = SeparateLossWeights(spectral=1, si_sdr=1, snr=1, local=1, local_s=0.01)
ENROLLMENT = {"target": "enroll", "target-small": "enroll-frontal", "target-around": "enroll-frontal"}
# One of each architecture; small, because the layers are what matters.
CONFIGS: dict[str, dict[str, Any]] = {
    "enhance-small": {},
    "enhance-mamba-small": {},
    "gtcrn": {},
    "separate": {"blocks": 1, "attentive": 1, "pitches": 8},
    "separate-mossformer-small": {"layers": 1},
    "separate-tiger-small": {"rounds": 1},
    "enroll": {"blocks": 1},
    "enroll-frontal": {},
    "target": {"blocks": 1},
    "target-small": {"blocks": 2, "pitches": 8, "delays": 8, "beamforming": True},
    "target-around": {"blocks": 1, "pitches": 8, "delays": 8, "turns": 3},
}


@pytest.fixture(autouse=True)
def _front_ends_of_its_own():
    """Fake windows are of use to nobody else."""
    stft_on.cache_clear()
    yield
    stft_on.cache_clear()


def _moved(module: nn.Module) -> nn.Module:
    """A module of fake tensors; `to` does not make any of real ones."""
    for part in module.modules():
        for name, value in part._parameters.items():
            if value is not None:
                part._parameters[name] = nn.Parameter(torch.empty(value.shape, device=DEVICE), value.requires_grad)
        for name, value in part._buffers.items():
            if value is not None:
                part._buffers[name] = torch.empty(value.shape, dtype=value.dtype, device=DEVICE)
    return module


def _sound(*shape: int) -> torch.Tensor:
    return torch.empty(*shape, SAMPLES, device=DEVICE)


def _integers(*shape: int) -> torch.Tensor:
    return torch.empty(shape, dtype=torch.int64, device=DEVICE)


def _learns(name: str) -> tuple[nn.Module, nn.Module, Callable[[], Any]]:
    """The network, the loss of its task, and what makes items where tensors are fake."""
    task = task_of(name)
    if task == "separate":
        network = build(name, **CONFIGS[name])
        return network, SeparateLoss(TALKERS, network.window), lambda: PairItems(_sound(2), _sound(2, 2))
    if task == "enroll":
        frontal = name == "enroll-frontal"
        weights = EnrollLossWeights(contrast=1, front=frontal, recognition=frontal, teacher="pretrained.pt" * frontal)
        return build(name, **CONFIGS[name]), EnrollLoss(weights, DVector(8, 1, 256) if frontal else None), _looks
    if task == "target":
        enroll = ENROLLMENT[name]
        network = Hearing(build(name, **CONFIGS[name]), build(enroll, **CONFIGS[enroll]), blur=0.5)
        told = {"whose": 1.0, "told_share": 0.5} if name in ("target-small", "target-around") else {}
        ears = {"pauses": 1.0, "level_difference": 1.0, "phase_difference": 1.0}
        weights = TargetLossWeights(spectral=1, si_sdr=1, snr=1, alignment=1, contrast=1, **ears, **told)
        return network, TargetLoss(weights, network), _scenes
    network = build(name, **CONFIGS[name])
    return network, EnhanceLoss(ALL_TERMS, network.window), lambda: _sound(2, 2)


def _looks() -> LookItems:
    return LookItems(_sound(2, 2, 2), _sound(2, 2, 2), _sound(2, 2), _integers(2, 2), _integers(2))


def _scenes() -> SceneItems:
    values = {name: _sound(2, 2) for name in ("mixture", "target", "look", "clean_look")}
    return SceneItems(**values, interferers=_sound(2, 2, 2), look_samples=_integers(2), talker=_integers(2))


class _Copies(TorchDispatchMode):
    """Notes the operations that take something from one device to another."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        values = (value for value in tree_leaves([args, result]) if isinstance(value, torch.Tensor))
        is_copy = "copy" in str(operation) or "lift" in str(operation)
        if is_copy and len({value.device for value in values}) > 1:
            self.found.append(str(operation))
        return result


@pytest.mark.parametrize("name", CONFIGS)
def test_a_step_stays_on_the_device_and_copies_nothing_there_so_that_it_can_be_recorded(name):
    network, loss, items = _learns(name)
    with FakeTensorMode():
        _moved(network.train())
        _moved(loss)
        optimiser, average, given = Muon(network, 1e-3), WeightAverage(network, 0.9), items()

        def learn():
            found = loss(network, given)
            found.backward()
            optimiser.step()
            return found

        found = learn()  # the windows of the front end are put there, once
        average.update(network, 1)
        assert found.device.type == DEVICE
        assert all(value.device.type == DEVICE for value in average.weights.values())
        with _Copies() as copies:
            learn()
        assert copies.found == []


def test_a_copy_to_the_device_is_found():
    with FakeTensorMode(), _Copies() as copies:
        torch.zeros(2).to(DEVICE)
        torch.tensor([1.0], device=DEVICE)
    assert len(copies.found) == 2


def test_a_tensor_that_stays_behind_is_found():
    with FakeTensorMode(), pytest.raises(RuntimeError, match="device"):
        Loss(ALL_TERMS, "asymmetric-512-192")(_sound(1, 1), torch.empty(1, 1, SAMPLES), _sound(1))
