"""Where the target is: what a network that looks for the direction of a voice is told, and asked, in training."""

import torch
from torch import nn

from ...runtime.windows import window_pair
from ..features import EarProducts
from ..frontend import spectrum_for
from ..whereabouts import REACH, SAMPLE_RATE, Whereabouts, turns_of
from .voice_loss import contrast

LEAST_POWER = 1e-9
LOUDNESS = 0.15  # of the power: loud bins count more
SINCE_S = 0.5  # over which a direction is found
SPREAD = 0.7  # of what counts as the same direction, in steps between them
FINE = 4  # directions that are told apart between two of them
MOMENTS = 3  # at which voices are compared
SPOKEN = 1e-3  # of the power of all so far: from there on somebody has spoken


class Finder(nn.Module):
    """Finds where the target is, from what it says alone.

    That is the delay between the ears with which the phases of its spectrum agree best in the last half second, and in
    a pause before it.

    Parameters
    ----------
    delays : int
        As in `Whereabouts`.
    window : str
        Window pair.
    """

    def __init__(self, delays: int, window: str):
        super().__init__()
        pair = window_pair(window)
        self.delays, self.window, self.ears = delays, window, EarProducts()
        self.frames = SINCE_S * SAMPLE_RATE / pair.hop_length
        turns = turns_of((delays - 1) * FINE + 1, SAMPLE_RATE / pair.n_fft)[:, :2].flatten(1)
        self.register_buffer("turns", turns.T.contiguous(), persistent=False)
        self.turns: torch.Tensor

    @torch.no_grad()
    def forward(self, mixture: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Mixture and target [B, 2, N] -> how near each direction is, and last that it has not spoken, sum one.

        Of every frame, [B, T, delays + 1].
        """
        heard, alone = (spectrum_for(self, sound)[0] for sound in (mixture, target))
        so_far = [spectrum.square().sum((1, 3, 4)).cumsum(-1) for spectrum in (alone, heard)]
        spoken = (so_far[0] > SPOKEN * so_far[1]).float().unsqueeze(-1)
        left, right, *product = self.ears(alone[..., :REACH, :])
        both = (left * right).sqrt() + LEAST_POWER
        certain = torch.cat([part * both ** (LOUDNESS - 1) for part in product], dim=-1)
        frame = torch.arange(certain.shape[1], device=certain.device)
        since = frame[:, None] - frame
        past = torch.where(since < 0, 0.0, torch.exp(-since.clamp(min=0) / self.frames))
        best = (past @ (certain @ self.turns)).argmax(-1, keepdim=True) / FINE
        off = (torch.arange(self.delays, device=best.device) - best) / SPREAD
        return torch.cat([(-off.square() / 2).softmax(-1) * spoken, 1 - spoken], dim=-1)


def voice_error(network: Whereabouts, there: torch.Tensor, talker: torch.Tensor) -> torch.Tensor:
    """How badly what is heard from where the target is finds who is looked for, among those of the batch; scalar.

    At a few moments of the last pass; a scene alone has too few voices to learn from.
    """
    step = there.shape[1] // MOMENTS
    heard = (there[:, step - 1 :: step, None, :-1] @ network.voices[:, step - 1 :: step].float()).squeeze(2)
    errors = [contrast(voices, network.wanted.float(), talker, 1.0) for voices in heard.unbind(1)]
    return torch.stack(errors).mean()


def direction_error(scores: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    """Cross entropy between scores of the directions and where the target is, both [B, T, delays + 1]; scalar."""
    return -(there * scores.float().log_softmax(-1)).sum(-1).mean()
