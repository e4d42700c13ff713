"""Whose a band is: what a network that looks for the direction of a voice is told, and asked, in training."""

import torch
from torch import nn

from ..frontend import spectrum_for

LEAST_POWER = 1e-9
LOUDNESS = 0.15  # of the power: loud bands count more
CERTAIN = 1e-4  # the least share that is said


def shares_of(
    target: torch.Tensor, mixture: torch.Tensor, model: nn.Module, bands: int, width: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """How much of every band is the target, and how much the rest.

    Parameters
    ----------
    target, mixture : Tensor, float32 [B, 2, N]
    model : nn.Module
        With `window`.
    bands, width : int
        How many bands there are, and of how many bins each.

    Returns
    -------
    Shares [B, T, 2, bands] that add up to one, and the power of the bands [B, T, bands].
    """
    heard, voice = (spectrum_for(model, sound)[0] for sound in (mixture, target))
    own, rest = (
        sound.square().sum((1, 4))[..., : bands * width].unflatten(-1, (bands, width)).sum(-1)
        for sound in (voice, heard - voice)
    )
    share = (own + LEAST_POWER) / (own + rest + 2 * LEAST_POWER)
    return torch.stack([share, 1 - share], dim=2), own + rest


def share_error(said: torch.Tensor, shares: torch.Tensor, power: torch.Tensor) -> torch.Tensor:
    """Cross entropy between what was said and the shares [B, T, 2, bands], weighed by the power of bands; scalar."""
    loud = (power + LEAST_POWER) ** LOUDNESS
    said = said.float().clamp(CERTAIN, 1 - CERTAIN)
    error = -(shares * said.log() + (1 - shares) * (1 - said).log())
    return (error * (loud / loud.mean()).unsqueeze(2)).mean()
