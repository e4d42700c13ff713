"""A look and a scene in, the voice of the look out: enrolment and target network as one, to train them together."""

import torch
from torch import nn

from ..frontend import enhance, stft_on
from ..whereabouts import Whereabouts
from .enroll import unit_norm


class Hearing(nn.Module):
    """Enrolment and target network.

    Parameters
    ----------
    target : nn.Module
        With `steering`, such as `Target`.
    enroll : nn.Module
        Such as `Enroll`.
    enroll_learns : bool
        Else the enrolment network stays as it is, and works as it will when it is used.
    blur : float
        Norm of what is added at random to the voice in training, which has unit norm: to be used to looks that are less
        clear, and not to learn a few talkers by heart.
    """

    def __init__(self, target: nn.Module, enroll: nn.Module, enroll_learns: bool = True, blur: float = 0.0):
        super().__init__()
        self.target, self.enroll, self.enroll_learns, self.blur = target, enroll, enroll_learns, blur
        self.window = target.window
        self.enroll.requires_grad_(enroll_learns)

    def train(self, mode: bool = True) -> "Hearing":
        super().train(mode)
        self.enroll.train(mode and self.enroll_learns)
        return self

    def whereabouts(self) -> Whereabouts:
        """What looks for the direction of the voice; only of a target network that does."""
        assert isinstance(self.target.whereabouts, Whereabouts)
        return self.target.whereabouts

    def forward(
        self, mixture: torch.Tensor, *looks: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Hear the voice of the first look in a mixture.

        Parameters
        ----------
        mixture : Tensor, float32 [B, 2, N]
        *looks : pairs of Tensors, float32 [B, 2, M] and int64 [B]
            Looks, and how many samples of each count; what is behind them is not heard. At least one.

        Returns
        -------
        The voice at both ears, [B, 2, N], and the embeddings of all looks, each [B, E].
        """
        voices = tuple(embed(self.enroll, *look) for look in looks)
        chosen = voices[0]
        if self.training and self.blur:
            chosen = unit_norm(chosen + self.blur * unit_norm(torch.randn_like(chosen)))
        return enhance(self.target, mixture, self.target.steering(chosen)), voices


def embed(enroll: nn.Module, look: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
    """What an enrolment network knows of the voice at the end of each look.

    Parameters
    ----------
    enroll : nn.Module
        Such as `Enroll`.
    look : Tensor, float32 [B, 2, M]
    samples : Tensor, int64 [B]
        How many of a look count.

    Returns
    -------
    Embeddings [B, E] of unit norm.
    """
    stft = stft_on(look.device, str(enroll.window))
    whole = look.shape[-1] // stft.hop_length * stft.hop_length
    spectrum, _ = stft.analysis(look[..., :whole])
    embedding, _ = enroll(spectrum, enroll.initial_state(len(look)))
    # The network knows the voice better with every frame, and none of them sees what comes after it.
    last = samples.to(look.device).clamp(stft.hop_length, whole) // stft.hop_length - 1
    return embedding[torch.arange(len(look), device=look.device), 0, last]
