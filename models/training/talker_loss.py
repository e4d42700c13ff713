"""What separating talkers minimises beside the ratios of whole items."""

import math
from dataclasses import dataclass
from itertools import permutations
from typing import ClassVar

import torch

from ...runtime.errors import HearloopError
from .loss import LARGEST_RATIO_DB, SILENT_ENERGY, LossWeights


@dataclass(frozen=True)
class SeparateLossWeights(LossWeights):
    """For the separation of talkers, also of pieces.

    local : negative SNR where the order of the talkers may change from piece to piece; it may stand alone
    local_s : length of a piece
    local_until : the spent part of the budget at which this term has faded, linearly; infinite: it stays
    """

    terms: ClassVar[tuple[str, ...]] = (*LossWeights.terms, "local")
    local: float = 0.0
    local_s: float = 0.1
    local_until: float = math.inf

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.local_s < 0.008:
            raise HearloopError(f"local_s is {self.local_s}; expected no less than 0.008")
        if not self.local_until > 0:
            raise HearloopError(f"local_until is {self.local_until}; expected more than 0")


def negative_local_snr_db(
    estimate: torch.Tensor, target: torch.Tensor, mixture: torch.Tensor, length: int
) -> torch.Tensor:
    """Negative SNR of all talkers together, each piece of `length` samples in its best order, in dB; at most 30 dB.

    To take voices apart for a moment, and to know who of them spoke before, are learned at different speed: the first
    within hours of mixtures, if not knowing the second is no reason to do neither. As in the first stage of Liu and
    Wang, "Divide and conquer: a deep CASA approach to talker-independent monaural speaker separation", TASLP 2019,
    where a piece is a frame.

    Estimate and target [batch, talkers, samples], mixture [batch, samples] -> [batch].
    """
    pieces = max(1, target.shape[-1] // length)
    whole = min(pieces * length, target.shape[-1])
    parts = [signal[..., :whole].unflatten(-1, (pieces, -1)) for signal in (estimate, target)]
    errors = (parts[0][:, :, None] - parts[1][:, None]).square().sum(-1)  # [batch, estimates, targets, pieces]
    orders = [
        torch.stack([errors[:, row, column] for row, column in enumerate(order)]).sum(0)
        for order in permutations(range(target.shape[1]))
    ]
    error = torch.stack(orders).amin(0).sum(-1)
    least = 10 ** (-LARGEST_RATIO_DB / 10) * (mixture[..., :whole].square().sum(-1) + whole * SILENT_ENERGY)
    energy = parts[1].square().sum((1, 2, 3))
    return 10 * torch.log10((error + least) / (energy + least))
