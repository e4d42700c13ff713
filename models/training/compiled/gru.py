"""A GRU that trains faster on a CPU than PyTorch's own: the recurrence as one compiled loop, forward and backward.

PyTorch runs some fifty small operations per time step of a small GRU, and most of the time is theirs rather than the
arithmetic's. Here a step is one product of matrices, for many sequences, and one pass over its result.
"""

from collections.abc import Callable
from typing import TypeGuard

import numba
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from .lanes import LANES, add, load, store
from .linear import Product
from .vectors import arrays_of, sigmoid, tanh

# What the input adds [T, R, 3H], start [R, H], weight [3H, H], bias [4H], whether time runs backwards -> hidden
# [T, R, H]. The biases are those of r and z, of n, and of what r is multiplied with. The first is given away: it may be
# written over.
Steps = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, bool], torch.Tensor]

# Sequences that run together: as many as let the values of a step stay close to the processor.
TOGETHER = 128


class CompiledGRU(nn.Module):
    """`nn.GRU` with one layer, one or two directions, [time, batch, features]; same equations, names and results.

    `recurrence` runs all steps of one direction on the device where the layer is; `product` is that of the input and
    the transposed weights while the layer trains.
    """

    def __init__(self, gru: nn.GRU, recurrence: Steps, product: Product = functional.linear):
        super().__init__()
        self.recurrence, self.product = recurrence, product
        self.hidden_size = gru.hidden_size
        self.suffixes = ("", "_reverse") if gru.bidirectional else ("",)
        for name, parameter in gru.named_parameters():
            setattr(self, name, parameter)
        self.train(gru.training)

    def forward(self, x: torch.Tensor, hidden: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        if hidden is None:
            hidden = x.new_zeros(len(self.suffixes), x.shape[1], self.hidden_size)
        outputs = []
        for start, suffix in zip(hidden, self.suffixes, strict=True):
            weight_ih, weight_hh, bias_ih, bias_hh = (
                getattr(self, f"{kind}_l0{suffix}") for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            (both, of_input), (hidden_both, of_hidden) = (
                bias.split([2 * self.hidden_size, self.hidden_size]) for bias in (bias_ih, bias_hh)
            )
            bias = torch.cat([both + hidden_both, of_input, of_hidden])
            gates = (self.product if self.training else functional.linear)(x, weight_ih)
            outputs.append(self.recurrence(gates, start, weight_hh, bias, suffix == "_reverse"))
        ends = [y[0] if suffix else y[-1] for y, suffix in zip(outputs, self.suffixes, strict=True)]
        return torch.cat(outputs, dim=-1), torch.stack(ends)


def is_plain_gru(layer: nn.Module) -> TypeGuard[nn.GRU]:
    """Whether `CompiledGRU` can stand for a layer."""
    return type(layer) is nn.GRU and layer.num_layers == 1 and layer.bias and not layer.batch_first


class Recurrence(torch.autograd.Function):
    """`Steps` on a CPU. What the input adds becomes r, z and n, and these become gradients, all in one place."""

    @staticmethod
    def forward(ctx, gates, start, weight, bias, backwards):
        places, *others = arrays_of(gates, start, weight.T, bias)
        hidden, candidates = _run(backwards, places, *others)
        hidden = torch.from_numpy(hidden)
        ctx.save_for_backward(weight, start, hidden)
        ctx.places, ctx.candidates, ctx.backwards = places, candidates, backwards
        return hidden

    @staticmethod
    def backward(ctx, gradient):
        places, ctx.places = ctx.places, None
        if places is None:
            raise RuntimeError("a second way back through a compiled GRU; the first has written over what it needs")
        arrays = arrays_of(gradient, *ctx.saved_tensors)
        found = _run_back(ctx.backwards, places, ctx.candidates, *arrays)
        return *map(torch.from_numpy, (places, *found)), None


@numba.njit(error_model="numpy", cache=True, nogil=True)
def _run(backwards, gates, start, weight, bias):
    """Forward over all steps; writes r, z and n over the gates.

    Returns the hidden vector after each step, and what r is multiplied with in each, W_n h + b_n.
    """
    frames, rows, wide = gates.shape
    size = wide // 3
    hidden, candidates = np.empty((frames, rows, size), np.float32), np.empty((frames, rows, size), np.float32)
    products = np.empty((TOGETHER, wide), np.float32)
    for first in range(0, rows, TOGETHER):
        last = min(first + TOGETHER, rows)
        before, sums = start[first:last], products[: last - first]
        for step in range(frames):
            t = frames - 1 - step if backwards else step
            np.dot(before, weight, sums)
            gate, candidate, after = gates[t, first:last], candidates[t, first:last], hidden[t, first:last]
            for row in range(last - first):
                for j in range(0, size - LANES + 1, LANES):
                    _cell(gate, sums, bias, before, candidate, after, size, row, j, LANES)
                if size % LANES:
                    _cell(gate, sums, bias, before, candidate, after, size, row, size // LANES * LANES, size % LANES)
            before = after
    return hidden, candidates


@numba.njit(inline="always")
def _cell(gate, sums, bias, before, candidate, after, size, row, j, count):
    """`count` values of one row and step, from the j-th on."""
    at, of_r = row * size + j, 3 * row * size + j
    of_z, of_n = of_r + size, of_r + 2 * size
    r = sigmoid(load(gate, of_r, count) + load(sums, of_r, count) + load(bias, j, count))
    z = sigmoid(load(gate, of_z, count) + load(sums, of_z, count) + load(bias, size + j, count))
    inner = load(sums, of_n, count) + load(bias, 3 * size + j, count)
    n = tanh(load(gate, of_n, count) + load(bias, 2 * size + j, count) + r * inner)
    store(gate, of_r, count, r)
    store(gate, of_z, count, z)
    store(gate, of_n, count, n)
    store(candidate, at, count, inner)
    store(after, at, count, n + z * (load(before, at, count) - n))


@numba.njit(error_model="numpy", cache=True, nogil=True)
def _run_back(backwards, gates, candidates, gradient, weight, start, hidden):
    """Backward over all steps; writes the gradients of what the input adds over r, z and n.

    Returns the gradients of the start, of the weight and of the bias.
    """
    frames, rows, size = gradient.shape
    to_start = np.zeros((rows, size), np.float32)
    to_weight, to_bias = np.zeros((3 * size, size), np.float32), np.zeros(4 * size, np.float32)
    # Of one step: sums of few numbers lose less than one long sum.
    of_step, of_bias = np.empty((3 * size, size), np.float32), np.empty(4 * size, np.float32)
    recurrent, products = np.empty((TOGETHER, 3 * size), np.float32), np.empty((TOGETHER, size), np.float32)
    for first in range(0, rows, TOGETHER):
        last = min(first + TOGETHER, rows)
        carry, sums, product = to_start[first:last], recurrent[: last - first], products[: last - first]
        product[:] = 0
        for step in range(frames):
            t = step if backwards else frames - 1 - step
            old = start if step == frames - 1 else hidden[t + 1 if backwards else t - 1]
            old = old[first:last]
            gate, candidate, given = gates[t, first:last], candidates[t, first:last], gradient[t, first:last]
            of_bias[:] = 0
            for row in range(last - first):
                for j in range(0, size - LANES + 1, LANES):
                    _cell_back(gate, candidate, given, old, carry, product, sums, of_bias, size, row, j, LANES)
                if size % LANES:
                    j = size // LANES * LANES
                    _cell_back(gate, candidate, given, old, carry, product, sums, of_bias, size, row, j, size % LANES)
            np.dot(sums, weight, product)
            np.dot(sums.T, old, of_step)
            to_weight += of_step
            to_bias += of_bias
        carry += product
    return to_start, to_weight, to_bias


@numba.njit(inline="always")
def _cell_back(gate, candidate, given, old, carry, product, sums, of_bias, size, row, j, count):
    """`count` values of one row and step, from the j-th on."""
    one = np.float32(1)
    at, of_r = row * size + j, 3 * row * size + j
    of_z, of_n = of_r + size, of_r + 2 * size
    r, z, n = load(gate, of_r, count), load(gate, of_z, count), load(gate, of_n, count)
    whole = load(given, at, count) + load(carry, at, count) + load(product, at, count)
    to_n = whole * (one - z) * (one - n * n)
    to_z = whole * (load(old, at, count) - n) * z * (one - z)
    to_candidate = to_n * r
    to_r = to_candidate * load(candidate, at, count) * (one - r)
    store(carry, at, count, whole * z)
    store(gate, of_r, count, to_r)
    store(gate, of_z, count, to_z)
    store(gate, of_n, count, to_n)
    store(sums, of_r, count, to_r)
    store(sums, of_z, count, to_z)
    store(sums, of_n, count, to_candidate)
    add(of_bias, j, count, to_r)
    add(of_bias, size + j, count, to_z)
    add(of_bias, 2 * size + j, count, to_n)
    add(of_bias, 3 * size + j, count, to_candidate)
