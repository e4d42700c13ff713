"""What makes an embedding tell voices apart, whatever else was heard in the look."""

from dataclasses import dataclass

import torch
from torch.nn import functional

from ...runtime.errors import HearloopError


@dataclass(frozen=True)
class ContrastWeights:
    """temperature : how much a difference in likeness counts, the more, the lower."""

    temperature: float = 0.1

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise HearloopError(f"temperature is {self.temperature}; expected more than zero")


def alignment(noisy: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    """One minus the cosine between the embeddings of noisy and of clean looks, [B, E] of unit norm -> scalar.

    The clean look is the example: it does not learn from this term, so that the two cannot meet in the middle.
    """
    return (1 - (noisy * clean.detach()).sum(-1)).mean()


def contrast(noisy: torch.Tensor, clean: torch.Tensor, talker: torch.Tensor, temperature: float) -> torch.Tensor:
    """How badly a noisy look finds the clean look of its talker among those of the batch: a cross entropy, scalar.

    Embeddings [B, E] of unit norm, numbers of the talkers [B]. Other looks of the same talker do not count. Van den
    Oord et al., "Representation learning with contrastive predictive coding", 2018.
    """
    likeness = noisy @ clean.T / temperature
    same = (talker[:, None] == talker[None, :]) & ~torch.eye(len(talker), dtype=torch.bool, device=talker.device)
    own = torch.arange(len(talker), device=talker.device)
    return functional.cross_entropy(likeness.masked_fill(same, -torch.inf), own)
