"""The delay that it costs to let another thread do the work.

The callback is given blocks of n samples; the worker processes chunks of c samples, and has `budget` samples of time
for one. Let time count in samples, and a callback happen when its block has been captured. Chunk j is complete in the
callback at T, the first block end that is not before (j + 1) c. Its result is first needed in the callback at T', the
first block end that is after j c + delay. The worker keeps up if always T' - T >= budget.

All block ends are multiples of n, so that T <= (j + 1) c + n - g with g = gcd(c, n), and the smallest delay is

    c - g + n ceil(budget / n)

For one frame as chunk and budget, and blocks that divide a frame or are one, it is the re-blocking delay c - g that any
processor with frames has, and one frame for the worker. Blocks of changing sizes, up to n, need c - 1 + n - 1 + budget.
"""

from dataclasses import dataclass
from math import gcd

from .reblock import reblock_delay

SHORTEST_CHUNK = 64  # below, calls cost more time than they save delay
LONGEST_CHUNK = 1024  # the wet path would cut longer ones


def hand_over_delay(chunk: int, smallest: int, largest: int, budget: int) -> int:
    """Smallest delay, in samples, that gives a worker `budget` samples of time for each of its chunks.

    `smallest` and `largest` are the bounds of the host's block size; if they are equal, all blocks have that size.
    """
    if smallest == largest:
        return chunk - gcd(chunk, largest) + largest * -(-budget // largest)
    return chunk + largest - 2 + budget


@dataclass(frozen=True)
class HandOver:
    """How callback and worker share the work. All in samples at the rate of the device.

    Attributes
    ----------
    smallest, largest : int
        The host's block size.
    budget : int
        Time that the worker has for a chunk: one frame.
    chunk : int
        What the worker processes at a time.
    delay : int
        Wet samples are heard so much after the position at which the wet path emits them.
    """

    smallest: int
    largest: int
    budget: int
    chunk: int
    delay: int


def plan_hand_over(frame: int, model_rate: int, sample_rate: int, smallest: int, largest: int) -> HandOver:
    """Choose the chunk with which wet path and hand-over together cost the smallest delay.

    Where a frame is a whole number of samples, that is one frame. At 44.1 kHz it is 352.8 samples, and the host's own
    block is better than any rounding of that.

    Parameters
    ----------
    frame : int
        Samples per frame at `model_rate`.
    smallest, largest : int
        Bounds of the host's block size in samples at `sample_rate`.
    """
    budget = -(-frame * sample_rate // model_rate)
    best: tuple[int, int] | None = None
    for chunk in range(SHORTEST_CHUNK, LONGEST_CHUNK + 1):
        delay = hand_over_delay(chunk, smallest, largest, budget)
        if best is not None and delay > best[0]:
            continue
        total = delay + reblock_delay(frame, chunk, sample_rate, model_rate)
        if best is None or (total, abs(chunk - budget)) < (best[0], abs(best[1] - budget)):
            best = (total, chunk)
    assert best is not None
    chunk = best[1]
    return HandOver(smallest, largest, budget, chunk, hand_over_delay(chunk, smallest, largest, budget))
