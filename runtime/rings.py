"""The ring that hands samples from one thread to another, addressed by absolute position.

A sample's position is its number since the stream began. Both sides count by themselves, so a sample that comes too
late is simply not found when it is asked for, and what follows it is still in its place: nothing can shift.

One thread writes, one thread reads, and neither ever waits. The writer announces what it is about to overwrite before
it does so, and what it has written afterwards; the reader looks at the announcement before and after copying (a
sequence lock: Boehm, "Can seqlocks get along with programming language memory models?", MSPC 2012).
"""

import numpy as np

from .atomics import fence, load, store
from .kernels import kernel

# The ring holds the samples at positions START <= position < END.
START, END = 0, 1


class Ring:
    """The newest samples of a stream.

    Parameters
    ----------
    channels : int
    capacity : int
        Samples per channel that are kept.
    start : int
        Position of the first sample to come. With `silence` given, so many zeros before it count as written.
    silence : int
    """

    def __init__(self, channels: int, capacity: int, start: int = 0, silence: int = 0):
        self.samples = np.zeros((channels, capacity), np.float32)
        self.span = np.array([start - min(silence, capacity), start], np.int64)

    @property
    def start(self) -> int:
        """Position of the oldest sample held."""
        return int(self.span[START])

    @property
    def end(self) -> int:
        """Position after the newest sample held."""
        return int(self.span[END])

    def write(self, position: int, samples: np.ndarray) -> None:
        """Write float32 (channels, n <= capacity) at a position not before `end`; a gap empties the ring first."""
        write(self.samples, self.span, position, samples)

    def read(self, position: int, out: np.ndarray) -> bool:
        """Fill float32 (channels, n) with the samples from `position` on; False if not all of them are there."""
        return read(self.samples, self.span, position, out)


@kernel("void(float32[:, ::1], int64[::1], int64, float32[:, :])")
def write(ring, span, position, samples):
    channels, capacity = ring.shape
    count = samples.shape[1]
    kept = span[START] if position == span[END] else position
    store(span, START, max(kept, position + count - capacity))
    fence()
    for channel in range(channels):
        at = position % capacity
        for n in range(count):
            ring[channel, at] = samples[channel, n]
            at = at + 1 if at + 1 < capacity else 0
    fence()
    store(span, END, position + count)


@kernel("boolean(float32[:, ::1], int64[::1], int64, float32[:, :])")
def read(ring, span, position, out):
    channels, capacity = ring.shape
    count = out.shape[1]
    if position + count > load(span, END) or position < load(span, START):
        return False
    fence()
    for channel in range(channels):
        at = position % capacity
        for n in range(count):
            out[channel, n] = ring[channel, at]
            at = at + 1 if at + 1 < capacity else 0
    fence()
    return position >= load(span, START)
