"""From a coarser scale to a finer one as compiled loops: PyTorch's gradient of an index is many times slower."""

import numba
import numpy as np
import torch

from ...separation import scales
from .vectors import arrays_of


def stretched(x: torch.Tensor, length: int) -> torch.Tensor:
    """`models.separation.scales.stretched`, with the same arguments and result."""
    nearest = scales.stretched(torch.arange(x.shape[-1]), length)
    return _Stretched.apply(x.flatten(0, -2), nearest).unflatten(0, x.shape[:-1])


class _Stretched(torch.autograd.Function):
    """x [R, n] and places in it [L] -> [R, L]."""

    @staticmethod
    def forward(ctx, x, places):
        ctx.size, ctx.places = x.shape[1], places
        return torch.from_numpy(_run(*arrays_of(x, places)))

    @staticmethod
    def backward(ctx, gradient):
        return torch.from_numpy(_run_back(ctx.size, *arrays_of(gradient, ctx.places))), None


@numba.njit(cache=True, nogil=True)
def _run(x, places):
    y = np.empty((len(x), len(places)), np.float32)
    for r in range(len(x)):
        for i in range(len(places)):
            y[r, i] = x[r, places[i]]
    return y


@numba.njit(cache=True, nogil=True)
def _run_back(size, gradient, places):
    to_x = np.zeros((len(gradient), size), np.float32)
    for r in range(len(gradient)):
        for i in range(len(places)):
            to_x[r, places[i]] += gradient[r, i]
    return to_x
