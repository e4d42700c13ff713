"""The delay that fixed frames cost when blocks of another size come in, and the queue that realises it.

A processor must return as many samples as it is given, at once. It can only compute when a frame is complete, so it has
to keep some finished samples in hand: the re-blocking delay. The smallest one that never runs dry follows from
counting. If F(n) outputs exist after n inputs, the delay is the largest n - F(n) over all n at which a block can end.
For frames of i and blocks of o samples at one rate this is i - gcd(o, i), and i - 1 when blocks may have any size.
"""

from math import gcd
from typing import NamedTuple

import numpy as np

from .kernels import kernel
from .records import Counts, Matrix
from .resample import produced, ratio


def reblock_delay(frame: int, block_size: int | None, sample_rate: int, model_rate: int) -> int:
    """Smallest delay, in samples at `sample_rate`, with which every block can be answered at once.

    Parameters
    ----------
    frame : int
        Samples per frame at `model_rate`.
    block_size : int or None
        Samples per block at `sample_rate` if all blocks have that size; None if they may have any.
    """
    p, q = ratio(sample_rate, model_rate)
    period = q * frame // gcd(p, frame)  # after so many outer samples everything repeats
    step = block_size or 1
    ends = step * np.arange(1, period // gcd(step, period) + 1, dtype=np.int64)
    frames = produced(ends, p, q) // frame
    return int(np.max(ends - produced(frames * frame, q, p)))


class QueueRecord(NamedTuple):
    ring: Matrix
    state: Counts  # read position, fill


class Queue:
    """First-in first-out queue of samples, float32 (channels, capacity), that starts with `prefill` zeros."""

    def __init__(self, channels: int, capacity: int, prefill: int = 0):
        self.prefill = prefill
        self.record = QueueRecord(np.zeros((channels, capacity), np.float32), np.array([0, prefill], np.int64))

    def push(self, samples: np.ndarray, count: int) -> None:
        push(*self.record, samples, count)

    def pop(self, samples: np.ndarray, count: int) -> None:
        pop(*self.record, samples, count)

    def __len__(self) -> int:
        return int(self.record.state[1])

    def reset(self) -> None:
        self.record.ring[:] = 0
        self.record.state[:] = (0, self.prefill)


@kernel("void(float32[:, ::1], int64[::1], float32[:, :], int64)")
def push(ring, state, samples, count):
    channels, capacity = ring.shape
    for channel in range(channels):
        at = (state[0] + state[1]) % capacity
        for n in range(count):
            ring[channel, at] = samples[channel, n]
            at = at + 1 if at + 1 < capacity else 0
    state[1] += count


@kernel("void(float32[:, ::1], int64[::1], float32[:, :], int64)")
def pop(ring, state, samples, count):
    channels, capacity = ring.shape
    for channel in range(channels):
        at = state[0]
        for n in range(count):
            samples[channel, n] = ring[channel, at]
            at = at + 1 if at + 1 < capacity else 0
    state[0] = (state[0] + count) % capacity
    state[1] -= count
