"""What makes an embedding tell voices apart, whatever else was heard in the look."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from ...runtime.errors import HearloopError

REMEMBERED = 512  # looks; twice as many as there are talkers in the data of the bundles
NOBODY = -1


@dataclass(frozen=True)
class EnrollLossWeights:
    """For the enrolment network alone.

    contrast, temperature : how badly a look finds the other one at its talker among those of the batch, and how much a
        difference in likeness counts there: the more, the lower
    alignment : distance of the embedding of a noisy look from what the teacher makes of the voice alone
    recognition : how badly a look finds what the teacher says of the other one at its talker, among what it has said of
        the last 512 looks at others; at the same temperature
    front : negative SNR, in dB, of what the network lets pass to its encoder of voices
    teacher : file of the weights of the published encoder `dvector`, with which the network also begins
    """

    contrast: float = 1.0
    temperature: float = 0.1
    alignment: float = 0.0
    recognition: float = 0.0
    front: float = 0.0
    teacher: str = ""

    def __post_init__(self) -> None:
        weights = (self.contrast, self.alignment, self.recognition, self.front)
        if min(weights) < 0 or max(weights) == 0:
            raise HearloopError(
                f"contrast, alignment, recognition and front are {weights}; expected none below and one above zero"
            )
        if self.temperature <= 0:
            raise HearloopError(f"temperature is {self.temperature}; expected more than zero")
        if (self.alignment or self.recognition) and not self.teacher:
            raise HearloopError(
                f"alignment and recognition are {self.alignment, self.recognition} without a teacher; "
                "expected the file of its weights"
            )


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


class Recognition(nn.Module):
    """Remembers what a teacher said of the last looks, and tells how badly others of the same talkers are recognised.

    A batch has few talkers, most of whom are easily told apart; what a teacher that does not learn has said of others
    stays true, and the few who resemble each talker are among many. As the queue of He et al., "Momentum contrast for
    unsupervised visual representation learning", CVPR 2020.

    Parameters
    ----------
    remembered : int
        How many looks.
    embedding : int
    """

    def __init__(self, embedding: int, remembered: int = REMEMBERED):
        super().__init__()
        self.register_buffer("voices", torch.zeros(remembered, embedding))
        self.register_buffer("talkers", torch.full((remembered,), NOBODY))
        self.voices: torch.Tensor
        self.talkers: torch.Tensor

    def forward(self, noisy: torch.Tensor, own: torch.Tensor, talker: torch.Tensor, temperature: float) -> torch.Tensor:
        """Cross entropy of finding the `own` voice [B, E] with a `noisy` one [B, E] among those of others, scalar."""
        same = (self.talkers == talker[:, None]) | (self.talkers == NOBODY)
        others = (noisy @ self.voices.T).masked_fill(same, -torch.inf)
        likeness = torch.cat([(noisy * own).sum(-1, keepdim=True), others], dim=1) / temperature
        return functional.cross_entropy(likeness, torch.zeros_like(talker))

    def remember(self, voices: torch.Tensor, talker: torch.Tensor) -> None:
        """Take in what a teacher said [B, E] of looks at talkers [B], and forget the oldest."""
        self.voices.copy_(torch.cat([voices, self.voices])[: len(self.voices)])
        self.talkers.copy_(torch.cat([talker, self.talkers])[: len(self.talkers)])
