"""Rotary positions whose phase is state: no index grows, so an hour of sound is like its first second."""

import torch
from torch import nn

from .state import State

BASE = 10000.0


class RotaryPhase(nn.Module):
    """Turn pairs of numbers by an angle that grows with every frame: [B, T, ..., size] to the same.

    Su et al., "RoFormer", 2021: the product of a query and a key that were turned so depends on their distance in time
    only. There the angle is the frame's number times a frequency, which float32 resolves worse and worse. Here the
    present angle of each pair is carried as cosine and sine, turned on by each frame, and brought back to unit length,
    so that rounding never makes a product grow or fade.

    Give queries and keys together, on an axis between time and size: they must be turned alike.

    Parameters
    ----------
    size : int
        Even; entries 2 i and 2 i + 1 are a pair of frequency BASE^(-2 i / size) radians per frame.

    State: [B, size / 2, 2], cosine and sine of the next frame.
    """

    def __init__(self, size: int):
        super().__init__()
        frequencies = BASE ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.frequencies: torch.Tensor

    def initial_state(self, batch: int) -> State:
        return torch.tensor([1.0, 0.0]).to(self.frequencies.device).repeat(batch, len(self.frequencies), 1)

    def forward(self, x: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        frames = x.shape[1]
        angles = torch.arange(frames + 1, device=x.device)[:, None] * self.frequencies
        since = torch.stack([angles.cos(), angles.sin()], dim=-1).to(x)
        phases = _times(state.unsqueeze(1), since)
        between = (1,) * (x.ndim - 3)
        turned = _times(x.unflatten(-1, (-1, 2)), phases[:, :frames].reshape(len(x), frames, *between, -1, 2))
        last = phases[:, frames]
        return turned.flatten(-2), last * last.square().sum(-1, keepdim=True).rsqrt()


def _times(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Product of complex numbers [..., re/im]."""
    (a_re, a_im), (b_re, b_im) = a.unbind(-1), b.unbind(-1)
    return torch.stack([a_re * b_re - a_im * b_im, a_re * b_im + a_im * b_re], dim=-1)
