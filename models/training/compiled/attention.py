"""Attention among few neighbours as compiled loops, forward and backward.

With heads of some six channels and some thirty keys per query, the matrices are so small that a matrix library spends
its time between them. Here keys lie one behind the other per channel, and one query at a time runs over its keys.
"""

import numba
import numpy as np
import torch

from ...streaming.attention import attend as in_pytorch
from .vectors import arrays_of, exp_below_zero

LONGEST = 1 << 16  # frames in one call: nothing here grows with their square


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    heads: int,
    hidden: torch.Tensor | None,
    window: int,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """`models.streaming.attention.attend`, with the same arguments and result."""
    if bias is not None:
        return in_pytorch(query, key, value, heads, hidden, window, bias)
    rows = query.shape[:-2]
    flat = [part.flatten(0, -3) for part in (query, key, value)]
    if hidden is None:
        hidden = key.new_zeros(1, key.shape[-2])
    return _Attention.apply(*flat, hidden, heads, window).unflatten(0, rows)


class _Attention(torch.autograd.Function):
    """query [R, T, C], key and value [R, K, C], hidden [R or less, K], heads, window -> [R, T, C]."""

    @staticmethod
    def forward(ctx, query, key, value, hidden, heads, window):
        y, weights = _run(heads, window, *arrays_of(query, key, value, hidden))
        ctx.save_for_backward(query, key, value)
        ctx.weights = torch.from_numpy(weights)
        return torch.from_numpy(y)

    @staticmethod
    def backward(ctx, gradient):
        found = _run_back(*arrays_of(*ctx.saved_tensors, gradient, ctx.weights))
        return *map(torch.from_numpy, found), None, None, None


@numba.njit(fastmath=True, error_model="numpy", cache=True, nogil=True)
def _turn(rows, first, turned):
    """Channels `first` and following of rows [K, C] one behind the other: [size, K]."""
    for i in range(len(turned)):
        for j in range(len(rows)):
            turned[i, j] = rows[j, first + i]


@numba.njit(error_model="numpy", cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz", "arcp"})
def _run(heads, window, query, key, value, hidden):
    """Forward; returns the result and the weights [R, heads, T, keys seen]."""
    rows, length, channels = query.shape
    keys, size = key.shape[1], channels // heads
    seen = window + 1 if window else keys
    scale = np.float32(1 / np.sqrt(size))
    y = np.empty_like(query)
    weights = np.empty((rows, heads, length, seen), np.float32)
    turned_key, turned_value = np.empty((size, keys), np.float32), np.empty((size, keys), np.float32)
    for r in range(rows):
        unseen = hidden[r * len(hidden) // rows]
        for head in range(heads):
            _turn(key[r], head * size, turned_key)
            _turn(value[r], head * size, turned_value)
            for t in range(length):
                first = t if window else 0
                weight = weights[r, head, t]
                weight[:] = unseen[first : first + seen]
                for i in range(size):
                    factor, row = scale * query[r, t, head * size + i], turned_key[i, first : first + seen]
                    for j in range(seen):
                        weight[j] += factor * row[j]
                largest = weight[0]
                for j in range(seen):
                    largest = max(largest, weight[j])
                for j in range(seen):
                    weight[j] = exp_below_zero(weight[j] - largest)
                total = np.float32(0)
                for j in range(seen):
                    total += weight[j]
                for j in range(seen):
                    weight[j] /= total
                for i in range(size):
                    mixed, row = np.float32(0), turned_value[i, first : first + seen]
                    for j in range(seen):
                        mixed += weight[j] * row[j]
                    y[r, t, head * size + i] = mixed
    return y, weights


@numba.njit(fastmath=True, error_model="numpy", cache=True, nogil=True)
def _run_back(query, key, value, gradient, weights):
    """Backward; returns the gradients of query, key and value."""
    rows, length, channels = query.shape
    keys, heads, seen = key.shape[1], weights.shape[1], weights.shape[3]
    size = channels // heads
    moving = keys > seen
    scale = np.float32(1 / np.sqrt(size))
    to_query, to_key, to_value = np.empty_like(query), np.empty_like(key), np.empty_like(value)
    turned_key, turned_value = np.empty((size, keys), np.float32), np.empty((size, keys), np.float32)
    key_sum, value_sum = np.empty((size, keys), np.float32), np.empty((size, keys), np.float32)
    scores = np.empty(seen, np.float32)
    for r in range(rows):
        for head in range(heads):
            _turn(key[r], head * size, turned_key)
            _turn(value[r], head * size, turned_value)
            key_sum[:] = 0
            value_sum[:] = 0
            for t in range(length):
                first = t if moving else 0
                weight = weights[r, head, t]
                scores[:] = 0
                for i in range(size):
                    given, row = gradient[r, t, head * size + i], turned_value[i, first : first + seen]
                    total = value_sum[i, first : first + seen]
                    for j in range(seen):
                        scores[j] += given * row[j]
                    for j in range(seen):
                        total[j] += given * weight[j]
                mean = np.float32(0)
                for j in range(seen):
                    mean += weight[j] * scores[j]
                for j in range(seen):
                    scores[j] = scale * weight[j] * (scores[j] - mean)
                for i in range(size):
                    asked, row = query[r, t, head * size + i], turned_key[i, first : first + seen]
                    total = key_sum[i, first : first + seen]
                    pull = np.float32(0)
                    for j in range(seen):
                        pull += scores[j] * row[j]
                    for j in range(seen):
                        total[j] += asked * scores[j]
                    to_query[r, t, head * size + i] = pull
            for i in range(size):
                for j in range(keys):
                    to_key[r, j, head * size + i] = key_sum[i, j]
                    to_value[r, j, head * size + i] = value_sum[i, j]
    return to_query, to_key, to_value
