"""The times of every single block of a stream, for whoever wants to look at it afterwards.

The histograms of `telemetry` are always kept and never grow; this is for a profile, which also asks which block it was,
how misses follow each other, and where the time went. All room is taken beforehand; blocks for which there is none
left are counted.
"""

import numpy as np

from .kernels import kernel
from .stages import LAST, STAGES

# Columns, all in ns: when it began, how much too late that was, from beginning to end, what was left of its time, how
# much of it the processor was given to the thread; then the stages.
BEGAN, LATENESS, COMPUTE, SLACK, PROCESSOR, FIRST_STAGE = range(6)
COLUMNS = FIRST_STAGE + len(STAGES)
WRITTEN, LEFT_OUT = range(2)


class FrameLog:
    """A table with a row for each block.

    Parameters
    ----------
    capacity : int
        Blocks. 0 is a log that takes nothing.

    Attributes
    ----------
    table : ndarray, int64, shape (capacity, COLUMNS)
    counts : ndarray, int64
        Rows written, and blocks that were left out.
    """

    def __init__(self, capacity: int = 0):
        self.table = np.zeros((capacity, COLUMNS), np.int64)
        self.table[:] = 0  # so that the pages are there before the first block
        self.counts = np.zeros(2, np.int64)

    @property
    def wanted(self) -> bool:
        return len(self.table) > 0

    @property
    def rows(self) -> np.ndarray:
        """What was written so far."""
        return self.table[: self.counts[WRITTEN]]

    @property
    def left_out(self) -> int:
        return int(self.counts[LEFT_OUT])

    def add(
        self, began_ns: int, lateness_ns: int, compute_ns: int, slack_ns: int, processor_ns: int, laps: np.ndarray
    ) -> None:
        log_frame(self.table, self.counts, began_ns, lateness_ns, compute_ns, slack_ns, processor_ns, laps)


@kernel("void(int64[:, ::1], int64[::1], int64, int64, int64, int64, int64, int64[::1])")
def log_frame(table, counts, began_ns, lateness_ns, compute_ns, slack_ns, processor_ns, laps):
    index = counts[WRITTEN]
    if index >= table.shape[0]:
        counts[LEFT_OUT] += 1
        return
    row = table[index]
    row[BEGAN] = began_ns
    row[LATENESS] = lateness_ns
    row[COMPUTE] = compute_ns
    row[SLACK] = slack_ns
    row[PROCESSOR] = processor_ns
    for stage in range(LAST):
        row[FIRST_STAGE + stage] = laps[stage]
    counts[WRITTEN] = index + 1
