"""One voice in noise: the mixture in, the voice out."""

from importlib.util import find_spec

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from ....runtime.errors import HearloopError
from ...evaluation.ratio import si_sdr
from ...frontend import enhance
from ...simulation.material import Material
from ...simulation.mixture import Simulator
from ...simulation.rooms import simulate_rooms
from ...simulation.validation import validation_set
from ..configuration import EnhanceConfiguration
from ..loss import Loss, LossWeights
from ..validate import outputs, share_of
from .task import ItemLoss, Measures, Task

ROOMS = 300
MIXTURES, CLEAN = 64, 12  # of validation


class Enhance(Task):
    """Speech enhancement; raises HearloopError if the selection wants PESQ and the package is not installed."""

    def __init__(self, configuration: EnhanceConfiguration, training: Material, validation: Material):
        super().__init__(configuration)
        self.with_pesq = configuration.selection.pesq_wb != 0
        if self.with_pesq and find_spec("pesq") is None:
            raise HearloopError("selection.pesq_wb needs the package pesq: pip install 'hearloop[eval]'")
        rooms = simulate_rooms(np.random.default_rng(configuration.training.seed), ROOMS)
        self.simulator = Simulator(configuration.recipe, training.speech, training.noise, rooms)
        self.validation = validation_set(validation.speech, validation.noise, MIXTURES, CLEAN)
        self.weights = configuration.loss

    def loss(self, network: nn.Module) -> ItemLoss:
        return EnhanceLoss(self.weights, str(network.window))

    def measure(self, network: nn.Module, fabric: Fabric) -> Measures:
        noisy, clean = (share_of(part, fabric) for part in (self.validation.noisy, self.validation.clean))
        enhanced = [found[0] for found in outputs(network, [item.noisy for item in noisy], fabric)]
        kept = [found[0] for found in outputs(network, [item.noisy for item in clean], fabric)]
        pairs = list(zip(enhanced, noisy, strict=True))
        measures = {
            "si_sdr_improvement_db": [si_sdr(y, x.target) - si_sdr(x.noisy, x.target) for y, x in pairs],
            "clean_si_sdr_db": [si_sdr(y, x.target) for y, x in zip(kept, clean, strict=True)],
        }
        if self.with_pesq:
            from ...evaluation.pesq_wb import pesq_wb  # needs an extra that only a selection by PESQ needs

            measures["pesq_wb"] = [pesq_wb(y, x.target) for y, x in pairs]
        return measures


class EnhanceLoss(ItemLoss):
    """Items are float32 [batch, 1 + targets, samples], the mixture first."""

    def __init__(self, weights: LossWeights, window: str):
        super().__init__()
        self.distance = Loss(weights, window)

    def forward(self, network: nn.Module, items: torch.Tensor) -> torch.Tensor:
        mixture, targets = items[:, 0], items[:, 1:]
        return self.distance(enhance(network, mixture[:, None]), targets, mixture)
