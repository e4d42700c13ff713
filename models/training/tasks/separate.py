"""Two talkers: the mixture in, both out, in whatever order."""

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from ...evaluation.ratio import in_best_order, si_sdr
from ...evaluation.talkers import phantom_db
from ...frontend import enhance
from ...simulation.corpus import SAMPLE_RATE
from ...simulation.material import Material
from ...simulation.pairs import Pair, PairItems, PairSimulator
from ...simulation.rooms import simulate_rooms
from ...simulation.validation import pair_validation_set
from ..configuration import SeparateConfiguration
from ..loss import Loss
from ..talker_loss import SeparateLossWeights, negative_local_snr_db
from ..validate import outputs, share_of
from .task import ItemLoss, Measures, Task

ROOMS = 300
OVERLAPS, ALONE = 48, 12  # of validation


class Separate(Task):
    """Separation of talkers; raises AudioError if there are too few of them."""

    def __init__(self, configuration: SeparateConfiguration, training: Material, validation: Material):
        super().__init__(configuration)
        rooms = simulate_rooms(np.random.default_rng(configuration.training.seed), ROOMS)
        self.simulator = PairSimulator(configuration.recipe, training.speech, training.noise, rooms)
        self.validation = pair_validation_set(validation, OVERLAPS, 0, ALONE, 0, 0)
        self.weights = configuration.loss

    def loss(self, network: nn.Module) -> ItemLoss:
        return SeparateLoss(self.weights, str(network.window))

    def measure(self, network: nn.Module, fabric: Fabric) -> Measures:
        overlap, alone = (share_of(part, fabric) for part in (self.validation.overlap, self.validation.alone))
        both = outputs(network, [pair.mixture for pair in overlap], fabric)
        one = outputs(network, [pair.mixture for pair in alone], fabric)
        return {
            "si_sdr_improvement_db": [improvement_db(y, pair) for y, pair in zip(both, overlap, strict=True)],
            "phantom_db": [phantom_db(y) for y in one],
        }


class SeparateLoss(ItemLoss):
    """The talkers in the better of the two orders of the whole item, so that they do not swap; and of pieces of it."""

    def __init__(self, weights: SeparateLossWeights, window: str):
        super().__init__()
        self.weights, self.distance = weights, Loss(weights, window)

    def forward(self, network: nn.Module, items: PairItems) -> torch.Tensor:
        mixture, sources = torch.as_tensor(items.mixture), torch.as_tensor(items.sources)
        talkers = enhance(network, mixture[:, None])
        loss = self.distance(talkers, sources, mixture)
        if self.weights.local:
            length = round(self.weights.local_s * SAMPLE_RATE)
            apart = negative_local_snr_db(talkers, sources, mixture, length).mean()
            loss = loss + self.weights.local * (1 - self.progress / self.weights.local_until).clamp_min(0) * apart
        return loss


def improvement_db(estimates: np.ndarray, pair: Pair) -> float:
    """Mean SI-SDR of both talkers, in the better order, over that of the mixture, in dB; estimates [2, samples]."""
    before = np.broadcast_to(pair.mixture, pair.sources.shape)
    return si_sdr(in_best_order(estimates, pair.sources), pair.sources) - si_sdr(before, pair.sources)
