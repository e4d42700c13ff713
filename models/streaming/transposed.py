"""Causal transposed convolution: more bands out than in, time as it was."""

import torch
from torch import nn
from torch.nn import functional

from .history import empty_history, prepend_history
from .state import State


class CausalConvTranspose2d(nn.Module):
    """Transposed convolution over [B, C, T, F]: stride 1 and causal along time, any stride along frequency.

    A transposed convolution spreads each frame over the following ones; tap 0 meets the present frame, tap k the frame
    k * dilation before, as in the mirrored encoder.

    Parameters
    ----------
    channels_in, channels_out : int
    kernel : (int, int)
        Extent in frames and in bands.
    bands : int
        Size of the frequency axis of the input.
    stride : int
        Stride along frequency.
    dilation : int
        Distance of the taps in time, in frames.
    padding : int
        Bands cut off at both ends of the output, (bands - 1) * stride + kernel[1] - 2 * padding + extra remain.
    extra : int
        Bands added at the high end of the output.
    groups : int

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
        extra: int = 0,
        groups: int = 1,
        bias: bool = True,
    ):
        super().__init__()
        self.history = (kernel[0] - 1) * dilation
        self.bands = bands
        # Cutting `history` frames at both ends leaves those whose every contribution is known and none of the future.
        self.conv = nn.ConvTranspose2d(
            channels_in,
            channels_out,
            kernel,
            (1, stride),
            (self.history, padding),
            (0, extra),
            groups=groups,
            bias=bias,
            dilation=(dilation, 1),
        )

    def initial_state(self, batch: int) -> State:
        return empty_history(self.conv.weight, batch, self.conv.in_channels, self.history, self.bands)

    def forward(self, x: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        x, state = prepend_history(x, state, self.history)
        conv = self.conv
        if conv.stride == (1, 1) and conv.output_padding == (0, 0):
            # The same as a convolution with the kernel turned round, which computes no frame that is cut off again.
            beside = conv.kernel_size[1] - 1 - int(conv.padding[1])
            turned = conv.weight.flip(2, 3).unflatten(0, (conv.groups, -1)).transpose(1, 2).flatten(0, 1)
            return functional.conv2d(x, turned, conv.bias, 1, (0, beside), conv.dilation, conv.groups), state
        return conv(x), state
