"""Depthwise convolutions as compiled loops, forward and backward.

PyTorch has no fast backward for them on a CPU. Here each channel is one long row, over which every tap runs once.
"""

from typing import TypeGuard

import numba
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from .vectors import arrays_of


def is_depthwise(layer: nn.Module) -> TypeGuard[nn.Conv1d | nn.Conv2d]:
    """Whether a layer is a convolution along one axis, one input to one output, that the loops can do."""
    if not isinstance(layer, nn.Conv1d | nn.Conv2d) or layer.padding_mode != "zeros":
        return False
    along_first = not isinstance(layer, nn.Conv2d) or (layer.kernel_size[1], *layer.stride, *layer.padding) == (
        1, 1, 1, 0, 0,
    )  # fmt: skip
    return along_first and layer.groups == layer.in_channels == layer.out_channels and layer.kernel_size[0] > 1


class CompiledDepthwise(nn.Module):
    """A convolution for which `is_depthwise` is true; same equation, names and results."""

    def __init__(self, conv: nn.Conv1d | nn.Conv2d):
        super().__init__()
        self.in_channels, self.stride, self.padding = conv.in_channels, conv.stride[0], int(conv.padding[0])
        self.dilation = conv.dilation[0]
        self.weight, self.bias = conv.weight, conv.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, C, L] or [N, C, L, F] -> the same with another L."""
        behind = x.shape[3:]
        if self.padding:
            x = functional.pad(x, (self.padding, self.padding))
        # What lies behind the axis is contiguous: a step along the axis is so many samples of the row.
        spacing = self.dilation * (behind[0] if behind else 1)
        y = _Depthwise.apply(x.flatten(2), self.weight.flatten(1), self.bias, spacing)
        return (y.unflatten(2, (-1, *behind)) if behind else y)[:, :, :: self.stride]


class _Depthwise(torch.autograd.Function):
    """x [N, C, L], weight [C, taps], bias [C] or None, samples between taps -> [N, C, L - (taps - 1) spacing]."""

    @staticmethod
    def forward(ctx, x, weight, bias, spacing):
        ctx.save_for_backward(x, weight)
        ctx.spacing, ctx.has_bias = spacing, bias is not None
        offset = bias if bias is not None else weight.new_zeros(len(weight))
        return torch.from_numpy(_run(spacing, *arrays_of(x, weight, offset)))

    @staticmethod
    def backward(ctx, gradient):
        to_x, to_weight, to_bias = _run_back(ctx.spacing, *arrays_of(*ctx.saved_tensors, gradient))
        to_offset = torch.from_numpy(to_bias) if ctx.has_bias else None
        return torch.from_numpy(to_x), torch.from_numpy(to_weight), to_offset, None


@numba.njit(fastmath=True, error_model="numpy", cache=True, nogil=True)
def _run(spacing, x, weight, bias):
    channels, taps = weight.shape
    length = x.shape[2] - (taps - 1) * spacing
    y = np.empty((len(x), channels, length), np.float32)
    for n in range(len(x)):
        for c in range(channels):
            row = y[n, c]
            row[:] = bias[c]
            for k in range(taps):
                w, heard = weight[c, k], x[n, c, k * spacing :]
                for i in range(length):
                    row[i] += w * heard[i]
    return y


@numba.njit(fastmath=True, error_model="numpy", cache=True, nogil=True)
def _run_back(spacing, x, weight, gradient):
    channels, taps = weight.shape
    to_x, to_weight, to_bias = np.zeros_like(x), np.zeros_like(weight), np.zeros(channels, np.float32)
    for n in range(len(x)):
        for c in range(channels):
            given = gradient[n, c]
            total = np.float32(0)
            for i in range(len(given)):
                total += given[i]
            to_bias[c] += total
            for k in range(taps):
                w, heard, to_heard = weight[c, k], x[n, c, k * spacing :], to_x[n, c, k * spacing :]
                total = np.float32(0)
                for i in range(len(given)):
                    total += given[i] * heard[i]
                    to_heard[i] += w * given[i]
                to_weight[c, k] += total
    return to_x, to_weight, to_bias
