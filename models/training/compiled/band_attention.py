"""Attention among bands by scores that are averaged over the past, as compiled loops, forward and backward.

PyTorch writes several matrices per frame and head to memory, gigabytes in a step, and takes the mean frame by frame.
Here the mean scores of a head stay in the first-level cache while the loop runs over the frames.
"""

import numba
import numpy as np
import torch

from .vectors import arrays_of, exp_below_zero


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, state: torch.Tensor, decay: float, sharpness: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """`models.separation.tiger.attend`, with the same arguments and results."""
    return _Attention.apply(query, key, value, state, decay, sharpness)


class _Attention(torch.autograd.Function):
    """query and key [B, T, H, F, Q], value [B, T, H, F, V], state [B, H, F, F] -> [B, T, H, F, V], the last state."""

    @staticmethod
    def forward(ctx, query, key, value, state, decay, sharpness):
        y, weights, last = _run(np.float32(decay), np.float32(sharpness), *arrays_of(query, key, value, state))
        ctx.save_for_backward(query, key, value)
        ctx.weights, ctx.constants = torch.from_numpy(weights), (np.float32(decay), np.float32(sharpness))
        return torch.from_numpy(y), torch.from_numpy(last)

    @staticmethod
    def backward(ctx, to_y, to_last):
        found = _run_back(*ctx.constants, *arrays_of(*ctx.saved_tensors, to_y, to_last, ctx.weights))
        return *map(torch.from_numpy, found), None, None


@numba.njit(fastmath=True, error_model="numpy", cache=True, nogil=True)
def _run(decay, sharpness, query, key, value, state):
    """Forward; returns the result, the weights [B, H, T, F, F] and the last state."""
    batch, frames, heads, bands, size = query.shape
    y, last = np.empty_like(value), state.copy()
    weights = np.empty((batch, heads, frames, bands, bands), np.float32)
    rest, one = np.float32(1) - decay, np.float32(1)
    for b in range(batch):
        for h in range(heads):
            for t in range(frames):
                keys = key[b, t, h].T.copy()
                for i in range(bands):
                    row, mean, out = weights[b, h, t, i], last[b, h, i], y[b, t, h, i]
                    row[:] = 0
                    for c in range(size):
                        q = rest * query[b, t, h, i, c]
                        for j in range(bands):
                            row[j] += q * keys[c, j]
                    total = np.float32(0)
                    for j in range(bands):
                        mean[j] = decay * mean[j] + row[j]
                        # The mean of cosines is at most one, which takes the place of the largest.
                        row[j] = exp_below_zero(sharpness * (mean[j] - one))
                        total += row[j]
                    share = one / total
                    for j in range(bands):
                        row[j] *= share
                    out[:] = 0
                    for j in range(bands):
                        for c in range(len(out)):
                            out[c] += row[j] * value[b, t, h, j, c]
    return y, weights, last


@numba.njit(fastmath=True, error_model="numpy", cache=True, nogil=True)
def _run_back(decay, sharpness, query, key, value, to_y, to_last, weights):
    """Backward over all frames: the gradients of query, key, value and state."""
    batch, frames, heads, bands, size = query.shape
    to_query, to_key, to_value, to_state = (
        np.empty_like(query), np.empty_like(key), np.empty_like(value), to_last.copy(),
    )  # fmt: skip
    rest = np.float32(1) - decay
    slope = np.empty(bands, np.float32)
    for b in range(batch):
        for h in range(heads):
            for t in range(frames - 1, -1, -1):
                keys, values = key[b, t, h].T.copy(), value[b, t, h].T.copy()
                to_keys, to_values = np.zeros_like(keys), np.zeros_like(values)
                for i in range(bands):
                    row, carried, given = weights[b, h, t, i], to_state[b, h, i], to_y[b, t, h, i]
                    slope[:] = 0
                    for c in range(len(given)):
                        for j in range(bands):
                            slope[j] += given[c] * values[c, j]
                            to_values[c, j] += given[c] * row[j]
                    middle = np.float32(0)
                    for j in range(bands):
                        middle += slope[j] * row[j]
                    for j in range(bands):
                        whole = carried[j] + sharpness * row[j] * (slope[j] - middle)
                        carried[j] = decay * whole
                        slope[j] = rest * whole
                    for c in range(size):
                        q, total = query[b, t, h, i, c], np.float32(0)
                        for j in range(bands):
                            total += slope[j] * keys[c, j]
                            to_keys[c, j] += slope[j] * q
                        to_query[b, t, h, i, c] = total
                to_key[b, t, h] = to_keys.T
                to_value[b, t, h] = to_values.T
    return to_query, to_key, to_value, to_state
