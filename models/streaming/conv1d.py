"""Causal convolution over time alone."""

import torch
from torch import nn

from .history import empty_history, prepend_history
from .state import State


class CausalConv1d(nn.Module):
    """Convolution over [B, C, T] that sees the present and past frames only.

    Parameters
    ----------
    channels_in, channels_out : int
    kernel : int
        Extent in frames.
    dilation : int
        Distance of the taps, in frames.
    groups : int
        Equal to `channels_in` for a depthwise convolution.

    State: the last (kernel - 1) * dilation frames of the input, [B, channels_in, frames].
    """

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, dilation: int = 1, groups: int = 1, bias: bool = True
    ):
        super().__init__()
        self.history = (kernel - 1) * dilation
        self.conv = nn.Conv1d(channels_in, channels_out, kernel, dilation=dilation, groups=groups, bias=bias)

    def initial_state(self, batch: int) -> State:
        return empty_history(self.conv.weight, batch, self.conv.in_channels, self.history)

    def forward(self, x: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        x, state = prepend_history(x, state, self.history)
        return self.conv(x), state
