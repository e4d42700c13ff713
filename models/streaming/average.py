"""Exponential average over time: how a streaming model knows the level of what it hears."""

import torch
from torch import nn

from ...runtime.errors import HearloopError

BLOCK = 64


class ExponentialAverage(nn.Module):
    """Bias-corrected exponential average along the last axis: [B, ..., T] -> [B, ..., T].

    y_t = n_t / d_t with n_t = a n_(t-1) + (1-a) x_t and d_t = a d_(t-1) + (1-a), a = exp(-1 / time_constant): the first
    frame is its own average, later ones are weighted more and more evenly, and after a few time constants it is the
    plain exponential average.

    Parameters
    ----------
    time_constant : float
        In frames; above zero.
    shape : tuple of int
        Size of the axes between batch and time.

    State: {"sum": n, "weight": d}, [B, ..., 1] and [B, 1, ..., 1].

    Raises
    ------
    HearloopError
        If the time constant is not above zero.
    """

    def __init__(self, time_constant: float, shape: tuple[int, ...] = ()):
        super().__init__()
        if not time_constant > 0:
            raise HearloopError(f"time constant is {time_constant} frames, expected more than zero")
        self.shape = shape
        steps = torch.arange(BLOCK + 1, dtype=torch.float64)
        decay = torch.exp(-steps / time_constant)
        lag = torch.arange(BLOCK)[None, :] - torch.arange(BLOCK)[:, None]
        # Column t weighs the frames up to t of a block: one matrix product instead of a loop over frames.
        weights = torch.where(lag >= 0, (1 - decay[1]) * decay[lag.clamp(min=0)], 0.0)
        self.register_buffer("decay", decay[1:].float(), persistent=False)
        self.register_buffer("weights", weights.float(), persistent=False)
        self.decay: torch.Tensor
        self.weights: torch.Tensor

    def initial_state(self, batch: int) -> dict[str, torch.Tensor]:
        ones = (1,) * len(self.shape)
        return {
            "sum": self.decay.new_zeros(batch, *self.shape, 1),
            "weight": self.decay.new_zeros(batch, *ones, 1),
        }

    def forward(self, x: torch.Tensor, state: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        if not x.shape[-1]:
            return x, state
        total, weight = state["sum"], state["weight"]
        averages = []
        for block in x.split(BLOCK, dim=-1):
            frames = block.shape[-1]
            decay, weights = self.decay[:frames], self.weights[:frames, :frames]
            totals = total * decay + block @ weights
            counted = weight * decay + weights.sum(0)
            averages.append(totals / counted)
            total, weight = totals[..., -1:], counted[..., -1:]
        return torch.cat(averages, dim=-1), {"sum": total, "weight": weight}
