"""A GRU that trains faster on a CPU than PyTorch's own: the recurrence as one compiled loop, forward and backward.

PyTorch runs some fifty small operations per time step of a small GRU, and most of the time is theirs rather than the
arithmetic's. Here a step is one product of matrices, for all sequences, and one pass over its result.
"""

from collections.abc import Callable
from typing import TypeGuard

import numba
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from .vectors import arrays_of, sigmoid, tanh

# What the input adds [T, R, 3H], start [R, H], weight [3H, H], bias [4H], whether time runs backwards -> hidden
# [T, R, H]. The biases are those of r and z, of n, and of what r is multiplied with.
Steps = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, bool], torch.Tensor]


class CompiledGRU(nn.Module):
    """`nn.GRU` with one layer, one or two directions, [time, batch, features]; same equations, names and results.

    `recurrence` runs all steps of one direction on the device where the layer is.
    """

    def __init__(self, gru: nn.GRU, recurrence: Steps):
        super().__init__()
        self.recurrence = recurrence
        self.hidden_size = gru.hidden_size
        self.suffixes = ("", "_reverse") if gru.bidirectional else ("",)
        for name, parameter in gru.named_parameters():
            setattr(self, name, parameter)

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
            gates = functional.linear(x, weight_ih)
            outputs.append(self.recurrence(gates, start, weight_hh, bias, suffix == "_reverse"))
        ends = [y[0] if suffix else y[-1] for y, suffix in zip(outputs, self.suffixes, strict=True)]
        return torch.cat(outputs, dim=-1), torch.stack(ends)


def is_plain_gru(layer: nn.Module) -> TypeGuard[nn.GRU]:
    """Whether `CompiledGRU` can stand for a layer."""
    return type(layer) is nn.GRU and layer.num_layers == 1 and layer.bias and not layer.batch_first


class Recurrence(torch.autograd.Function):
    """`Steps` on a CPU."""

    @staticmethod
    def forward(ctx, gates, start, weight, bias, backwards):
        hidden, activated = _run(backwards, *arrays_of(weight.T, gates, start, bias))
        hidden = torch.from_numpy(hidden)
        ctx.save_for_backward(weight, start, hidden)
        ctx.activated, ctx.backwards = activated, backwards
        return hidden

    @staticmethod
    def backward(ctx, gradient):
        weight, start, hidden = ctx.saved_tensors
        before = torch.cat([hidden[1:], start[None]] if ctx.backwards else [start[None], hidden[:-1]])
        to_gates, to_recurrent, to_start = _run_back(ctx.backwards, ctx.activated, *arrays_of(weight, gradient, before))
        recurrent = torch.from_numpy(to_recurrent).flatten(0, 1)
        to_weight = recurrent.T @ before.flatten(0, 1)
        to_gates = torch.from_numpy(to_gates)
        to_bias = torch.cat([to_gates.sum((0, 1)), recurrent[:, 2 * hidden.shape[-1] :].sum(0)])
        return to_gates, torch.from_numpy(to_start), to_weight, to_bias, None


@numba.njit(fastmath=True, error_model="numpy", cache=True, nogil=True)
def _run(backwards, weight, gates, start, bias):
    """Forward over all steps. Returns the hidden vector after each step, and r, z, n, W_n h + b_n of each."""
    frames, rows, wide = gates.shape
    size = wide // 3
    hidden = np.empty((frames, rows, size), np.float32)
    activated = np.empty((frames, rows, 4 * size), np.float32)
    products, n, before = np.empty((rows, wide), np.float32), np.empty(size, np.float32), start
    for step in range(frames):
        t = frames - 1 - step if backwards else step
        np.dot(before, weight, products)
        for row in range(rows):
            x, sums, h, kept, after = gates[t, row], products[row], before[row], activated[t, row], hidden[t, row]
            # Short loops over few arrays each: only those does the compiler turn into vector instructions.
            for j in range(2 * size):
                kept[j] = sigmoid(x[j] + sums[j] + bias[j])
            for j in range(2 * size, 3 * size):
                kept[size + j] = sums[j] + bias[size + j]
            for j in range(size):
                n[j] = tanh(x[2 * size + j] + bias[2 * size + j] + kept[j] * kept[3 * size + j])
            for j in range(size):
                after[j] = n[j] + kept[size + j] * (h[j] - n[j])
            kept[2 * size : 3 * size] = n
        before = hidden[t]
    return hidden, activated


@numba.njit(fastmath=True, error_model="numpy", cache=True, nogil=True)
def _run_back(backwards, activated, weight, gradient, before):
    """Backward over all steps. Returns the gradients of the input's gates, of the recurrent sums, and of the start."""
    frames, rows, size = gradient.shape
    one = np.float32(1)
    to_gates = np.empty((frames, rows, 3 * size), np.float32)
    to_recurrent = np.empty((frames, rows, 3 * size), np.float32)
    carried, products = np.zeros((rows, size), np.float32), np.empty((rows, size), np.float32)
    whole, inner = np.empty(size, np.float32), np.empty(size, np.float32)
    for step in range(frames):
        t = step if backwards else frames - 1 - step
        for row in range(rows):
            kept, old, given = activated[t, row], before[t, row], gradient[t, row]
            gate, sums, carry = to_gates[t, row], to_recurrent[t, row], carried[row]
            r, z, n, candidate = kept[:size], kept[size : 2 * size], kept[2 * size : 3 * size], kept[3 * size :]
            for j in range(size):
                whole[j] = given[j] + carry[j]
            for j in range(size):
                inner[j] = whole[j] * (one - z[j]) * (one - n[j] * n[j])
            for j in range(size):
                sums[size + j] = whole[j] * (old[j] - n[j]) * z[j] * (one - z[j])
            for j in range(size):
                sums[j] = inner[j] * candidate[j] * r[j] * (one - r[j])
            for j in range(size):
                sums[2 * size + j] = inner[j] * r[j]
            for j in range(size):
                carry[j] = whole[j] * z[j]
            gate[: 2 * size] = sums[: 2 * size]
            gate[2 * size :] = inner
        np.dot(to_recurrent[t], weight, products)
        carried += products
    return to_gates, to_recurrent, carried
