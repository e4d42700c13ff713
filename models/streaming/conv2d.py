"""Causal convolution over time and frequency."""

import torch
from torch import nn

from .history import empty_history, prepend_history
from .state import State


class CausalConv2d(nn.Module):
    """Convolution over [B, C, T, F] that sees the present and past frames only.

    Parameters
    ----------
    channels_in, channels_out : int
    kernel : (int, int)
        Extent in frames and in bands.
    bands : int
        Size of the frequency axis of the input; fixed, because the state holds past frames.
    stride : int
        Stride along frequency; along time it is always 1.
    dilation : int
        Distance of the taps in time, in frames.
    padding : int
        Zeros added at both ends of the frequency axis.
    groups : int
        Equal to `channels_in` for a depthwise convolution.

    State: the last (kernel[0] - 1) * dilation frames of the input, [B, channels_in, frames, bands].
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: tuple[int, int],
        bands: int,
        stride: int = 1,
        dilation: int = 1,
        padding: int = 0,
        groups: int = 1,
        bias: bool = True,
    ):
        super().__init__()
        self.history = (kernel[0] - 1) * dilation
        self.bands = bands
        self.conv = nn.Conv2d(
            channels_in, channels_out, kernel, (1, stride), (0, padding), (dilation, 1), groups=groups, bias=bias
        )

    def initial_state(self, batch: int) -> State:
        return empty_history(self.conv.weight, batch, self.conv.in_channels, self.history, self.bands)

    def forward(self, x: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        x, state = prepend_history(x, state, self.history)
        return self.conv(x), state
