"""The inside of a state space layer as compiled loops: short convolution and selective scan, forward and backward.

The block form of `models.streaming.scan` multiplies small matrices and writes many of them to memory. Here the state of
a sequence stays in the first-level cache while the loop runs along it; for the gradient it is computed again.
"""

import numba
import numpy as np
import torch

from .vectors import arrays_of, sigmoid


def scan(
    x: torch.Tensor,
    dt: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    c: torch.Tensor,
    d: torch.Tensor,
    state: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`models.streaming.scan.selective_scan`, with the same arguments and results."""
    heads, width = x.shape[2:]
    y, last = _Scan.apply(x.flatten(2), dt, (dt * a).exp(), b, c, state.transpose(1, 2).flatten(2))
    return y.unflatten(2, (heads, width)) + d[:, None] * x, last.unflatten(2, (heads, width)).transpose(1, 2)


def convolve(window: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """`models.streaming.mamba.convolve`, with the same arguments and result."""
    return _Convolution.apply(window, weight, bias)


class _Scan(torch.autograd.Function):
    """x [S, L, I], dt and decay [S, L, heads], b and c [S, L, N], state [S, N, I] -> y [S, L, I], last [S, N, I]."""

    @staticmethod
    def forward(ctx, *inputs):
        ctx.save_for_backward(*inputs)
        y, last = _run(*arrays_of(*inputs))
        return torch.from_numpy(y), torch.from_numpy(last)

    @staticmethod
    def backward(ctx, to_y, to_last):
        return tuple(map(torch.from_numpy, _run_back(*arrays_of(*ctx.saved_tensors, to_y, to_last))))


class _Convolution(torch.autograd.Function):
    """window [S, L + taps - 1, I], weight [I, 1, taps], bias [I] -> silu of the convolution, [S, L, I]."""

    @staticmethod
    def forward(ctx, window, weight, bias):
        ctx.save_for_backward(window, weight, bias)
        return torch.from_numpy(_convolve(*arrays_of(window, weight[:, 0].T, bias)))

    @staticmethod
    def backward(ctx, gradient):
        window, weight, bias = ctx.saved_tensors
        to_window, to_weight, to_bias = _convolve_back(*arrays_of(window, weight[:, 0].T, bias, gradient))
        return torch.from_numpy(to_window), torch.from_numpy(to_weight).T.unsqueeze(1), torch.from_numpy(to_bias)


@numba.njit(fastmath=True, error_model="numpy", cache=True, nogil=True)
def _enter(x, dt, decay, entering, decays):
    """Spread step and decay of each head over its channels: what enters a state, and what is left of it."""
    width = len(x) // len(dt)
    for head in range(len(dt)):
        for i in range(head * width, (head + 1) * width):
            entering[i] = dt[head] * x[i]
            decays[i] = decay[head]


@numba.njit(fastmath=True, error_model="numpy", cache=True, nogil=True)
def _run(x, dt, decay, b, c, state):
    """Forward over all entries of each sequence."""
    sequences, length, inner = x.shape
    y, last = np.empty_like(x), state.copy()
    entering, decays = np.empty(inner, np.float32), np.empty(inner, np.float32)
    for s in range(sequences):
        for t in range(length):
            _enter(x[s, t], dt[s, t], decay[s, t], entering, decays)
            out = y[s, t]
            out[:] = 0
            for n in range(b.shape[2]):
                entry, reading, row = b[s, t, n], c[s, t, n], last[s, n]
                for i in range(inner):
                    row[i] = row[i] * decays[i] + entry * entering[i]
                for i in range(inner):
                    out[i] += reading * row[i]
    return y, last


@numba.njit(fastmath=True, error_model="numpy", cache=True, nogil=True)
def _run_back(x, dt, decay, b, c, state, to_y, to_last):
    """The states of a sequence once more, then backward through them: the gradients of all inputs."""
    sequences, length, inner = x.shape
    heads, states, width = dt.shape[2], b.shape[2], inner // dt.shape[2]
    to_x, to_dt, to_decay = np.empty_like(x), np.empty_like(dt), np.empty_like(decay)
    to_b, to_c, to_state = np.empty_like(b), np.empty_like(c), to_last.copy()
    past = np.empty((length + 1, states, inner), np.float32)
    entering, decays = np.empty(inner, np.float32), np.empty(inner, np.float32)
    to_entering, to_decays = np.empty(inner, np.float32), np.empty(inner, np.float32)
    for s in range(sequences):
        past[0] = state[s]
        for t in range(length):
            _enter(x[s, t], dt[s, t], decay[s, t], entering, decays)
            for n in range(states):
                entry, before, after = b[s, t, n], past[t, n], past[t + 1, n]
                for i in range(inner):
                    after[i] = before[i] * decays[i] + entry * entering[i]
        for t in range(length - 1, -1, -1):
            _enter(x[s, t], dt[s, t], decay[s, t], entering, decays)
            to_entering[:] = 0
            to_decays[:] = 0
            given = to_y[s, t]
            for n in range(states):
                entry, reading, row = b[s, t, n], c[s, t, n], to_state[s, n]
                before, after = past[t, n], past[t + 1, n]
                read, entered = np.float32(0), np.float32(0)
                for i in range(inner):
                    read += given[i] * after[i]
                for i in range(inner):
                    whole = row[i] + reading * given[i]
                    entered += whole * entering[i]
                    to_entering[i] += entry * whole
                    to_decays[i] += whole * before[i]
                    row[i] = whole * decays[i]
                to_c[s, t, n] = read
                to_b[s, t, n] = entered
            for head in range(heads):
                step, left = np.float32(0), np.float32(0)
                for i in range(head * width, (head + 1) * width):
                    step += to_entering[i] * x[s, t, i]
                    left += to_decays[i]
                    to_x[s, t, i] = dt[s, t, head] * to_entering[i]
                to_dt[s, t, head] = step
                to_decay[s, t, head] = left
    return to_x, to_dt, to_decay, to_b, to_c, to_state


@numba.njit(fastmath=True, error_model="numpy", cache=True, nogil=True)
def _convolve(window, weight, bias):
    taps, inner = weight.shape
    length = window.shape[1] - taps + 1
    y = np.empty((len(window), length, inner), np.float32)
    sums = np.empty(inner, np.float32)
    for s in range(len(window)):
        for t in range(length):
            sums[:] = bias
            for k in range(taps):
                for i in range(inner):
                    sums[i] += weight[k, i] * window[s, t + k, i]
            for i in range(inner):
                y[s, t, i] = sums[i] * sigmoid(sums[i])
    return y


@numba.njit(fastmath=True, error_model="numpy", cache=True, nogil=True)
def _convolve_back(window, weight, bias, gradient):
    taps, inner = weight.shape
    length = window.shape[1] - taps + 1
    one = np.float32(1)
    to_window, to_weight, to_bias = np.zeros_like(window), np.zeros_like(weight), np.zeros_like(bias)
    sums = np.empty(inner, np.float32)
    for s in range(len(window)):
        for t in range(length):
            sums[:] = bias
            for k in range(taps):
                for i in range(inner):
                    sums[i] += weight[k, i] * window[s, t + k, i]
            for i in range(inner):
                open_share = sigmoid(sums[i])
                sums[i] = gradient[s, t, i] * open_share * (one + sums[i] * (one - open_share))
            for i in range(inner):
                to_bias[i] += sums[i]
            for k in range(taps):
                for i in range(inner):
                    to_weight[k, i] += sums[i] * window[s, t + k, i]
                for i in range(inner):
                    to_window[s, t + k, i] += sums[i] * weight[k, i]
    return to_window, to_weight, to_bias
