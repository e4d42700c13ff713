"""A PReLU whose way back is one compiled loop, where PyTorch's makes a map of gradients of the slopes to sum it."""

from typing import TypeGuard

import numba
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from .vectors import arrays_of


class CompiledPReLU(nn.PReLU):
    """`nn.PReLU`; same parameters and results."""

    @classmethod
    def of(cls, layer: nn.PReLU) -> "CompiledPReLU":
        """With the slopes of another, shared."""
        compiled = cls(layer.num_parameters, device="meta")
        compiled.weight = layer.weight
        return compiled.train(layer.training)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # The loop wants channels one after the other, and the layers before want back the order they gave.
        return _PReLU.apply(x, self.weight) if x.is_contiguous() else functional.prelu(x, self.weight)


def is_prelu_of_channels(layer: nn.Module) -> TypeGuard[nn.PReLU]:
    """Whether `CompiledPReLU` can stand for a layer: one slope for each of several channels."""
    return type(layer) is nn.PReLU and layer.num_parameters > 1


class _PReLU(torch.autograd.Function):
    """x [N, C, ...], weight [C]."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return functional.prelu(x, weight)

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        rows = x.shape[0], len(weight), -1
        to_x, to_weight = _run_back(*arrays_of(x.reshape(rows), weight, gradient.reshape(rows)))
        return torch.from_numpy(to_x).view(x.shape), torch.from_numpy(to_weight)


@numba.njit(fastmath=True, error_model="numpy", cache=True, nogil=True)
def _run_back(x, weight, gradient):
    zero = np.float32(0)
    to_x, to_weight = np.empty_like(x), np.zeros_like(weight)
    for n in range(len(x)):
        for c in range(len(weight)):
            slope, heard, given, to_heard = weight[c], x[n, c], gradient[n, c], to_x[n, c]
            total = zero
            for i in range(len(heard)):
                to_heard[i] = given[i] if heard[i] > zero else slope * given[i]
                total += min(heard[i], zero) * given[i]
            to_weight[c] += total
    return to_x, to_weight
