"""What makes an embedding tell voices apart, whatever else was heard in the look."""

from dataclasses import dataclass

import torch
from torch.nn import functional

from ...runtime.errors import HearloopError


@dataclass(frozen=True)
class EnrollLossWeights:
    """For the enrolment network alone.

    contrast, temperature : how badly a look finds the other one at its talker among those of the batch, and how much a
        difference in likeness counts there: the more, the lower
    alignment : distance of the embedding of a noisy look from what the teacher makes of the voice alone
    front : negative SNR, in dB, of what the network lets pass to its encoder of voices
    teacher : file of the weights of the published encoder `dvector`, with which the network also begins
    """

    contrast: float = 1.0
    temperature: float = 0.1
    alignment: float = 0.0
    front: float = 0.0
    teacher: str = ""

    def __post_init__(self) -> None:
        weights = (self.contrast, self.alignment, self.front)
        if min(weights) < 0 or max(weights) == 0:
            raise HearloopError(f"contrast, alignment and front are {weights}; expected none below and one above zero")
        if self.temperature <= 0:
            raise HearloopError(f"temperature is {self.temperature}; expected more than zero")
        if self.alignment and not self.teacher:
            raise HearloopError(f"alignment is {self.alignment} without a teacher; expected the file of its weights")


def alignment(noisy: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    """One minus the cosine between the embeddings of noisy looks and of clean speech, [B, E] of unit norm -> scalar.

    The clean one is the example: it does not learn from this term, so that the two cannot meet in the middle.
    """
    return (1 - (noisy * clean.detach()).sum(-1)).mean()


def contrast(noisy: torch.Tensor, clean: torch.Tensor, talker: torch.Tensor, temperature: float) -> torch.Tensor:
    """How badly a noisy look finds the clean look of its talker among those of the batch: a cross entropy, scalar.

    Embeddings [B, E], numbers of the talkers [B]. Other looks of the same talker do not count. Van den Oord et al.,
    "Representation learning with contrastive predictive coding", 2018. Raises HearloopError if there is one item only.
    """
    if len(talker) < 2:
        raise HearloopError("a process has one item of a step; expected a larger training.batch, to compare it")
    likeness = noisy @ clean.T / temperature
    same = (talker[:, None] == talker[None, :]) & ~torch.eye(len(talker), dtype=torch.bool, device=talker.device)
    own = torch.arange(len(talker), device=talker.device)
    return functional.cross_entropy(likeness.masked_fill(same, -torch.inf), own)
