"""Times of a running stream, kept as histograms: no list that grows, and no outlier removed.

Everything is preallocated, and one kernel adds a value in well under a microsecond, so that the audio thread can do it.
"""

from typing import Any, NamedTuple

import numpy as np

from .kernels import kernel
from .records import Counts

BIN_NS = 1000
BINS = 50_000  # 50 ms; what is longer is counted apart, and its exact maximum kept

COUNT, TOTAL, LEAST, MOST, FIRST, OVERFLOW = range(6)
_NEVER = np.iinfo(np.int64).max


class TimesRecord(NamedTuple):
    bins: Counts
    summary: Counts


class Times:
    """Distribution of durations, with a resolution of 1 us.

    The first value is kept apart and is not part of the distribution: it tells about the start, not about the stream.
    """

    def __init__(self) -> None:
        self.record = TimesRecord(np.zeros(BINS, np.int64), np.zeros(6, np.int64))
        self.reset()

    def add(self, nanoseconds: int) -> None:
        add(*self.record, nanoseconds)

    def __len__(self) -> int:
        return int(self.record.summary[COUNT])

    def percentile(self, percent: float) -> float:
        """Upper edge, in us, of the bin that this share of the values does not exceed; nan without values."""
        if not len(self):
            return float("nan")
        rank = int(np.ceil(percent / 100 * len(self)))
        index = int(np.searchsorted(np.cumsum(self.record.bins), max(rank, 1)))
        most = int(self.record.summary[MOST])
        return min((index + 1) * BIN_NS if index < BINS else most, most) / 1000

    def to_json(self) -> dict[str, Any]:
        """{n, first, min, mean, p50, p99, p999, max, over_50_ms}; times in us, None where there are no values."""
        count, total, least, most, first, overflow = self.record.summary.tolist()
        return {
            "n": count,
            "first": first / 1000 if first >= 0 else None,
            "min": least / 1000 if count else None,
            "mean": round(total / count / 1000, 3) if count else None,
            "p50": self.percentile(50) if count else None,
            "p99": self.percentile(99) if count else None,
            "p999": self.percentile(99.9) if count else None,
            "max": most / 1000 if count else None,
            "over_50_ms": overflow,
        }

    def reset(self) -> None:
        self.record.bins[:] = 0
        self.record.summary[:] = (0, 0, _NEVER, 0, -1, 0)


@kernel("void(int64[::1], int64[::1], int64)")
def add(bins, summary, nanoseconds):
    value = max(nanoseconds, 0)
    if summary[FIRST] < 0:
        summary[FIRST] = value
        return
    summary[COUNT] += 1
    summary[TOTAL] += value
    summary[LEAST] = min(summary[LEAST], value)
    summary[MOST] = max(summary[MOST], value)
    index = value // BIN_NS
    if index < bins.shape[0]:
        bins[index] += 1
    else:
        summary[OVERFLOW] += 1
