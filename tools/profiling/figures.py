"""From a time for each block to the figures that a person judges by. No outlier is ever removed.

Percentiles are values that were measured: the smallest one that so many per cent of the values do not exceed. A
percentile of which less than ten values lie above says more about the luck of this run than about the system, and is
named in `uncertain`.
"""

from itertools import pairwise
from typing import Any

import numpy as np

from ...runtime.stages import MODEL, STAGES
from .schedule import Samples

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}
BEYOND = 10  # values that must lie above a percentile for it to be trusted
FIRST_BLOCKS = 100
# 20 bins a decade, from 1 us to 100 ms; the first bin begins at 0, and what is longer is counted apart.
EDGES_US = np.concatenate([[0.0], np.round(10 ** np.linspace(0, 5, 101), 4)])
REST = "rest"


def distribution(values_ns: np.ndarray, histogram: bool = True) -> dict[str, Any] | None:
    """Of durations in ns, all told in us: n, min, mean, percentiles, max, `uncertain`, and a histogram.

    None if there are no values. In the histogram `counts[i]` values are at least `edges[i]` and less than
    `edges[i + 1]`; those from the last edge on are `overflow`, and those that are negative `underflow`.
    """
    count = len(values_ns)
    if count == 0:
        return None
    us = np.sort(np.asarray(values_ns, np.float64)) / 1000
    found: dict[str, Any] = {"n": count, "min": us[0], "mean": float(us.mean())}
    for name, percent in PERCENTILES.items():
        # Rounded first: 99.9 % of 10,000 shall be 9,990 and not one more.
        found[name] = us[max(int(np.ceil(round(percent * count / 100, 6))), 1) - 1]
    found["max"] = us[-1]
    found = {key: round(float(value), 3) if key != "n" else value for key, value in found.items()}
    found["uncertain"] = [name for name, percent in PERCENTILES.items() if count * (1 - percent / 100) < BEYOND - 1e-6]
    if histogram:
        counts, _ = np.histogram(us[us < EDGES_US[-1]], EDGES_US)
        found["histogram"] = {
            "edges": EDGES_US.tolist(),
            "counts": counts.tolist(),
            "overflow": int((us >= EDGES_US[-1]).sum()),
            "underflow": int((us < 0).sum()),
        }
    return found


def longest_run(flags: np.ndarray) -> int:
    """Length of the longest run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(flags, np.int8), [0]])))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def figures(samples: Samples, streams: int = 1) -> dict[str, Any]:
    """Everything that can be said about the times of one run, of so many equal streams at the same time.

    The first call and the first hundred blocks are given apart as well; they are part of the whole.
    """
    period_ns, count = samples.period_ns, len(samples)
    missed = samples.slack < 0
    seconds = count / streams * period_ns / 1e9
    each = np.split(missed, streams)  # the streams lie one after the other, but ran side by side
    stages: dict[str, Any] = {}
    for index, name in enumerate(STAGES):
        times = samples.stages[:, index]
        stages[name] = _stage(times[times > 0], samples)
    rest = samples.compute - samples.stages.sum(axis=1)
    stages[REST] = _stage(rest, samples) if np.any(samples.stages) else None
    return {
        "blocks": count,
        "period_us": period_ns / 1000,
        "seconds": round(seconds, 6),
        "lateness_us": distribution(samples.lateness),
        "compute_us": distribution(samples.compute),
        "slack_us": distribution(samples.slack, histogram=False),
        "processor_us": distribution(samples.processor, histogram=False),
        "stages_us": stages,
        "first_us": float(samples.compute[0]) / 1000 if count else None,
        "first_100_us": distribution(samples.compute[:FIRST_BLOCKS], histogram=False),
        "misses": int(missed.sum()),
        "misses_per_hour": round(float(missed.sum()) / seconds * 3600, 3) if count else None,
        "longest_miss_run": max(longest_run(stream) for stream in each),
        "longest_clean_s": round(max(longest_run(~stream) for stream in each) * period_ns / 1e9, 6),
        "real_time_factor": round(float(samples.compute.mean()) / period_ns, 6) if count else None,
        "turns": _turns(samples),
    }


def _stage(times_ns: np.ndarray, samples: Samples) -> dict[str, Any] | None:
    """A stage over the blocks in which it ran, and its share of all the time; None if it never did."""
    found = distribution(times_ns, histogram=False)
    if found is not None:
        found["share"] = round(float(times_ns.sum()) / max(float(samples.compute.sum()), 1), 6)
    return found


def _turns(samples: Samples) -> list[dict[str, float]]:
    """The shortest and the median time of each turn, and what two runs are compared by.

    That is the median over the blocks in which the model ran, over all where it never did. Where blocks are shorter
    than a frame most have no model in them, and the median of all would say nothing of it.
    """
    starts = np.flatnonzero(np.diff(samples.turn, prepend=-1)).tolist()
    turns = []
    for start, end in pairwise([*starts, len(samples)]):
        us, ran = samples.compute[start:end] / 1000, samples.stages[start:end, MODEL] > 0
        found = {"min": us.min(), "p50": np.median(us), "model_p50": np.median(us[ran] if ran.any() else us)}
        turns.append({name: round(float(value), 3) for name, value in found.items()})
    return turns
