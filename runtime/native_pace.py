"""Whether a model that runs inside the audio callback keeps up, and what to do if it does not.

Nothing can rescue a block that is finished too late: it is a miss, and is heard as a gap. What can be avoided are the
next ones:

    running --(some late blocks in a row)--> resting --(after a while)--> probing --(in time for long enough)--> running
                                                ^                            |
                                                +----(late once more)--------+   and the next rest is twice as long

While it rests the model is not run; while it is probed it runs, but is not heard. It starts a probe afresh, for what it
remembers is past. Blocks in which no frame was complete say nothing about the model and are not counted as in time.
"""

import numpy as np

from .callback import (
    BLOCKS,
    BLOCKS_TO_RETURN,
    BYPASSED,
    BYPASSES,
    CONCEALED,
    LONGEST_RUN,
    MISSES,
    MISSES_TO_BYPASS,
    RUN,
)
from .kernels import kernel
from .worker import FAILURES_TO_GIVE_UP

SHORTEST_REST_S, LONGEST_REST_S = 0.5, 32.0
# After so many blocks in time the next rest is a short one again.
BLOCKS_TO_FORGIVE = 1000

# DERAILED: the host's blocks are not those that were planned for, so that nothing would be in its place any more.
RUNNING, RESTING, PROBING, GIVEN_UP, DERAILED = range(5)
MODE, REST_LEFT, NEXT_REST, SHORTEST_REST, LONGEST_REST, IN_TIME, FAILED_RUN = range(7)


def new_pace(sample_rate: int) -> np.ndarray:
    """The state of `keep_pace` for a stream that begins; rests are in samples."""
    shortest, longest = round(SHORTEST_REST_S * sample_rate), round(LONGEST_REST_S * sample_rate)
    return np.array([RUNNING, 0, shortest, shortest, longest, 0, 0], np.int64)


@kernel("boolean(int64[::1])")
def model_runs(pace):
    return pace[MODE] == RUNNING or pace[MODE] == PROBING


@kernel("boolean(int64[::1])")
def model_is_heard(pace):
    return pace[MODE] == RUNNING


@kernel("void(int64[::1])")
def _rest(pace):
    pace[MODE] = RESTING
    pace[REST_LEFT] = pace[NEXT_REST]
    pace[NEXT_REST] = min(2 * pace[NEXT_REST], pace[LONGEST_REST])


@kernel("boolean(int64[::1], int64[::1], int64, boolean, boolean, boolean)")
def keep_pace(pace, tally, samples, heard, stepped, late):
    """Count a block that has been played; returns whether the model is to begin afresh.

    `heard` tells whether it was the model's, `stepped` whether a frame was completed in it, `late` whether that was
    too late.
    """
    tally[BLOCKS] += 1
    if not heard:
        tally[CONCEALED] += 1
    if late:
        tally[MISSES] += 1
        tally[RUN] += 1
        tally[LONGEST_RUN] = max(tally[LONGEST_RUN], tally[RUN])
        pace[IN_TIME] = 0
    elif stepped:
        tally[RUN] = 0
        pace[IN_TIME] += 1
    afresh = False
    if pace[MODE] == RUNNING:
        if tally[RUN] >= MISSES_TO_BYPASS:
            tally[BYPASSES] += 1
            _rest(pace)
        elif pace[IN_TIME] >= BLOCKS_TO_FORGIVE:
            pace[NEXT_REST] = pace[SHORTEST_REST]
    elif pace[MODE] == PROBING:
        if late:
            _rest(pace)
        elif pace[IN_TIME] >= BLOCKS_TO_RETURN:
            pace[MODE] = RUNNING
    elif pace[MODE] == RESTING:
        pace[REST_LEFT] -= samples
        if pace[REST_LEFT] <= 0:
            pace[MODE] = PROBING
            pace[IN_TIME] = tally[RUN] = 0
            afresh = True
    tally[BYPASSED] = pace[MODE] != RUNNING
    return afresh


@kernel("void(int64[::1], boolean)")
def judge_frame(pace, fine):
    """Give a model up that fails at too many frames in a row: it costs as much as a good one and helps nobody."""
    pace[FAILED_RUN] = 0 if fine else pace[FAILED_RUN] + 1
    if pace[FAILED_RUN] >= FAILURES_TO_GIVE_UP:
        pace[MODE] = GIVEN_UP
