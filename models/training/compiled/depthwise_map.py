"""Depthwise convolutions over maps, whose way back is faster than PyTorch's on a CPU.

Forward PyTorch is fast, and the gradient of the input is such a convolution again, with the taps mirrored. Only the
gradient of the weights takes long: here it is a compiled loop.
"""

from typing import TypeGuard

import numba
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from .vectors import arrays_of


class CompiledDepthwiseMap(nn.Module):
    """A convolution for which `is_depthwise_map` is true; same equation, names and results."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.in_channels, self.padding, self.dilation = conv.in_channels, int(conv.padding[1]), conv.dilation[0]
        self.weight, self.bias = conv.weight, conv.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, C, T, F] -> [N, C, T', F']."""
        y = _DepthwiseMap.apply(x, self.weight, self.padding, self.dilation)
        return y if self.bias is None else y + self.bias[:, None, None]


def is_depthwise_map(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether a layer is a convolution along two axes, one input to one output, with zeros around the second axis."""
    if not isinstance(layer, nn.Conv2d) or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        return False
    (_, taps), (before, beside) = layer.kernel_size, layer.padding
    shape = (*layer.stride, layer.dilation[1], before) == (1, 1, 1, 0) and taps > 1 and beside < taps
    return shape and layer.groups == layer.in_channels == layer.out_channels


class _DepthwiseMap(torch.autograd.Function):
    """x [N, C, T, F], weight [C, 1, frames, bands], zeros beside F, frames between taps."""

    @staticmethod
    def forward(ctx, x, weight, padding, dilation):
        ctx.save_for_backward(x, weight)
        ctx.padding, ctx.dilation = padding, dilation
        return functional.conv2d(x, weight, None, 1, (0, padding), (dilation, 1), len(weight))

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        channels, _, frames, bands = weight.shape
        around = ((frames - 1) * ctx.dilation, bands - 1 - ctx.padding)
        to_x = functional.conv2d(gradient, weight.flip(2, 3), None, 1, around, (ctx.dilation, 1), channels)
        to_weight = _run_back(ctx.padding, ctx.dilation, *arrays_of(x, weight[:, 0], gradient))
        return to_x, torch.from_numpy(to_weight)[:, None], None, None


@numba.njit(fastmath=True, error_model="numpy", cache=True, nogil=True)
def _run_back(padding, dilation, x, weight, gradient):
    """The gradient of every tap: what it heard, times the gradient of what it made of that."""
    channels, frames, bands = weight.shape
    wide, to_weight = x.shape[3], np.zeros_like(weight)
    for n in range(len(x)):
        for c in range(channels):
            for t in range(gradient.shape[2]):
                for i in range(frames):
                    for k in range(bands):
                        # The first of the bands that this tap hears, and the first that it makes.
                        hears, makes = max(k - padding, 0), max(padding - k, 0)
                        heard, given = x[n, c, t + i * dilation, hears:], gradient[n, c, t, makes:]
                        total = np.float32(0)
                        for f in range(min(wide - hears, len(given))):
                            total += heard[f] * given[f]
                        to_weight[c, i, k] += total
    return to_weight
