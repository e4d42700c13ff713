"""What the audio callback and the worker thread share, and nothing else is."""

import numpy as np

from .handover import HandOver
from .rings import Ring
from .semaphore import open_semaphore

# A worker that is further behind than by so many chunks and one block, which comes at once, jumps to the newest chunk.
LONGEST_BACKLOG = 16


class Exchange:
    """Two rings and a bell. Every number in it has one writer.

    Parameters
    ----------
    channels : int
    hand_over : HandOver

    Attributes
    ----------
    longest_backlog : int
        Chunks that the worker catches up with.
    input : Ring
        Written by the callback.
    wet : Ring
        Written by the worker; the silence before the stream counts as written.
    bell : Semaphore
        Rung by the callback when a chunk is complete.
    asked : ndarray, int64, shape (1,)
        Position in the wet stream up to which the callback has asked.
    completed_ns : ndarray, int64
        When the last chunks became complete; chunk j is at index j modulo the length.
    failed : bool
        Set by the worker when it has given the model up.
    """

    def __init__(self, channels: int, hand_over: HandOver):
        self.hand_over = hand_over
        self.longest_backlog = LONGEST_BACKLOG + -(-hand_over.largest // hand_over.chunk)
        capacity = 2 * self.longest_backlog * hand_over.chunk + 2 * hand_over.largest + hand_over.delay
        self.input = Ring(channels, capacity)
        self.wet = Ring(channels, capacity, silence=hand_over.delay)
        self.bell = open_semaphore()
        self.asked = np.full(1, -hand_over.delay, np.int64)
        self.completed_ns = np.zeros(4 * self.longest_backlog, np.int64)
        self.failed = False
