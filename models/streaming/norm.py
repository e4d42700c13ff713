"""Norms that see no future: statistics of one frame, or running statistics of the past."""

import torch
from torch import nn

from .average import ExponentialAverage


class FrameNorm(nn.Module):
    """Layer norm within each frame of a map [B, C, T, F], with a gain and an offset per value. No state.

    Parameters
    ----------
    channels : int
    bands : int, optional
        If given, the statistics are those of all channels and bands of a frame together; otherwise those of the
        channels at each band.
    eps : float
        Keeps a silent frame silent: what is far below its square root is not turned up.
    """

    def __init__(self, channels: int, bands: int | None = None, eps: float = 1e-5):
        super().__init__()
        # Frequency before channels, so that a norm over one band or over all is one contiguous layer norm.
        self.norm = nn.LayerNorm(channels if bands is None else (bands, channels), eps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class RunningNorm(nn.Module):
    """Instance norm with running statistics: each channel of a map [B, C, T, F] by its mean and variance so far.

    The causal form of an instance norm over (T, F): bias-corrected exponential averages over time instead of the
    statistics of the whole recording.

    Parameters
    ----------
    channels : int
    time_constant : float
        In frames.

    State: {"mean", "variance"}, each the state of an `ExponentialAverage`.
    """

    def __init__(self, channels: int, time_constant: float, eps: float = 1e-5):
        super().__init__()
        self.mean = ExponentialAverage(time_constant, (channels,))
        self.variance = ExponentialAverage(time_constant, (channels,))
        self.gain = nn.Parameter(torch.ones(channels, 1, 1))
        self.offset = nn.Parameter(torch.zeros(channels, 1, 1))
        self.eps = eps

    def initial_state(self, batch: int) -> dict[str, dict[str, torch.Tensor]]:
        return {"mean": self.mean.initial_state(batch), "variance": self.variance.initial_state(batch)}

    def forward(
        self, x: torch.Tensor, state: dict[str, dict[str, torch.Tensor]]
    ) -> tuple[torch.Tensor, dict[str, dict[str, torch.Tensor]]]:
        mean, mean_state = self.mean(x.mean(-1), state["mean"])
        # The spread around the running mean, not E[x^2] - E[x]^2, which loses all digits when the mean is large.
        centred = x - mean.unsqueeze(-1)
        variance, variance_state = self.variance(centred.square().mean(-1), state["variance"])
        scale = (variance + self.eps).rsqrt().unsqueeze(-1)
        return centred * scale * self.gain + self.offset, {"mean": mean_state, "variance": variance_state}
