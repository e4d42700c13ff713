"""Where the time of a block goes: a stopwatch whose laps are the stages of the chain.

Whatever has passed since the last lap belongs to the stage that is named now, so that nothing is counted twice and
nothing is left out between two laps. A watch that is off, as it is unless somebody looks, costs a comparison a lap.
"""

import numpy as np

from .kernels import kernel
from .native_clock import now_ns

STAGES = ("in-queue", "resample", "analysis", "model", "synthesis", "safety", "out-queue")
IN_QUEUE, RESAMPLE, ANALYSIS, MODEL, SYNTHESIS, SAFETY, OUT_QUEUE, LAST, ON = range(9)


def new_laps(on: bool = False) -> np.ndarray:
    """A watch, int64: nanoseconds of each stage since `begin_laps`, the time of the last lap, and whether it runs."""
    laps = np.zeros(9, np.int64)
    laps[ON] = on
    return laps


@kernel("void(int64[::1], int64)")
def begin_laps(laps, started_ns):
    """Begin a block at this time."""
    if laps[ON]:
        for stage in range(LAST):
            laps[stage] = 0
        laps[LAST] = started_ns


@kernel("void(int64[::1], int64)")
def lap(laps, stage):
    """All since the last lap was this stage."""
    if laps[ON]:
        ns = now_ns()
        laps[stage] += ns - laps[LAST]
        laps[LAST] = ns
