"""Means with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, t

RESAMPLINGS = 2000
FEW = 10  # below that, a bootstrap is too narrow: of four recordings, it holds the mean in 80 % of cases
UPPER = 0.975  # of the two ends that hold 95 % between them


@dataclass(frozen=True)
class Interval:
    """A mean over recordings and the 95 % interval of it, of which nothing is known (not a number) from one alone."""

    mean: float
    low: float
    high: float
    count: int


def interval(values: Sequence[float]) -> Interval:
    """Mean with bootstrap interval (percentile method), of fewer than ten values with that of Student's t.

    Values that are not numbers (a measure that is undefined there) are left out.
    """
    known = np.array([value for value in values if np.isfinite(value)])
    count = len(known)
    mean = float(known.mean()) if count else float("nan")
    if count < 2:
        return Interval(mean, float("nan"), float("nan"), count)
    if count < FEW:
        half = float(t.ppf(UPPER, count - 1) * known.std(ddof=1) / np.sqrt(count))
        return Interval(mean, mean - half, mean + half, count)
    draws = np.random.default_rng(0).integers(count, size=(RESAMPLINGS, count))
    low, high = np.percentile(known[draws].mean(axis=1), [2.5, 97.5])
    return Interval(mean, float(low), float(high), count)


def share_interval(percents: Sequence[float]) -> Interval:
    """Of values that are all 0 or 100 %: their share, with Wilson's interval, which has a width where all are equal.

    Wilson 1927. Values that are not numbers are left out.
    """
    known = np.array([percent for percent in percents if np.isfinite(percent)])
    if len(known) == 0:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    found = binomtest(int(np.count_nonzero(known)), len(known)).proportion_ci(method="wilson")
    return Interval(float(known.mean()), 100 * float(found.low), 100 * float(found.high), len(known))
