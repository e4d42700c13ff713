"""Linear layers of many rows on a CPU: products with a small matrix, forward and backward, a few rows at a time.

The library of PyTorch reads rows from memory and writes them for every gradient anew, and on processors of AMD it
leaves half of the arithmetic unused. Here the rows of both gradients are read once, and stay close for both products.
"""

from collections.abc import Callable
from typing import TypeGuard

import numba
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from .vectors import arrays_of

# x [..., in] and weight [out, in] -> [..., out]
Product = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

FEWEST_FEATURES = 16  # with less, every number is used too seldom for the product to matter
TOGETHER = 128  # rows


class CompiledLinear(nn.Linear):
    """`nn.Linear` with another product while it trains; same parameters and names."""

    product: Product

    @classmethod
    def of(cls, linear: nn.Linear, product: Product) -> "CompiledLinear":
        """With the parameters of another, shared."""
        compiled = cls(linear.in_features, linear.out_features, device="meta")
        compiled.weight, compiled.bias, compiled.product = linear.weight, linear.bias, product
        return compiled.train(linear.training)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return functional.linear(x, self.weight, self.bias)
        y = self.product(x, self.weight)
        return y if self.bias is None else y + self.bias


def is_wide_linear(layer: nn.Module) -> TypeGuard[nn.Linear]:
    """Whether `CompiledLinear` can stand for a layer, and gains."""
    return type(layer) is nn.Linear and min(layer.in_features, layer.out_features) >= FEWEST_FEATURES


def product(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """x [..., in] and weight [out, in] -> [..., out], in float32."""
    return _Product.apply(x, weight)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.shape = x.shape
        rows, of_rows = arrays_of(x.reshape(-1, x.shape[-1]), weight.T)
        ctx.save_for_backward(torch.from_numpy(rows), weight)
        return torch.from_numpy(_run(rows, of_rows)).view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx, gradient):
        to_x, to_weight = _run_back(*arrays_of(*ctx.saved_tensors, gradient.reshape(-1, gradient.shape[-1])))
        return torch.from_numpy(to_x).view(ctx.shape), torch.from_numpy(to_weight)


@numba.njit(error_model="numpy", cache=True, nogil=True)
def _run(x, weight):
    y = np.empty((len(x), weight.shape[1]), np.float32)
    for first in range(0, len(x), TOGETHER):
        np.dot(x[first : first + TOGETHER], weight, y[first : first + TOGETHER])
    return y


@numba.njit(error_model="numpy", cache=True, nogil=True)
def _run_back(x, weight, gradient):
    to_x, to_weight, part = np.empty_like(x), np.zeros_like(weight), np.empty_like(weight)
    for first in range(0, len(x), TOGETHER):
        given = gradient[first : first + TOGETHER]
        np.dot(given, weight, to_x[first : first + TOGETHER])
        np.dot(given.T, x[first : first + TOGETHER], part)
        to_weight += part
    return to_x, to_weight
