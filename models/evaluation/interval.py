"""Means with bootstrap intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLINGS = 2000


@dataclass(frozen=True)
class Interval:
    """A mean over recordings and the 95 % bootstrap interval of it (percentile method)."""

    mean: float
    low: float
    high: float
    count: int


def interval(values: Sequence[float]) -> Interval:
    """Mean and bootstrap interval; values that are not numbers (a measure that is undefined there) are left out."""
    known = np.array([value for value in values if np.isfinite(value)])
    if len(known) == 0:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    draws = np.random.default_rng(0).integers(len(known), size=(RESAMPLINGS, len(known)))
    low, high = np.percentile(known[draws].mean(axis=1), [2.5, 97.5])
    return Interval(float(known.mean()), float(low), float(high), len(known))
