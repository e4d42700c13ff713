"""Times: the histogram says what the sorted list would say."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearloop.runtime.telemetry import Times


@given(st.lists(st.integers(0, 200_000_000), min_size=2, max_size=300))
def test_percentiles_agree_with_the_sorted_list_to_one_microsecond(values):
    times = Times()
    for value in values:
        times.add(value)
    first, *rest = values
    told = times.to_json()
    assert told["n"] == len(rest)
    assert told["first"] == first / 1000
    assert told["min"] == min(rest) / 1000
    assert told["max"] == max(rest) / 1000
    assert told["mean"] == pytest.approx(np.mean(rest) / 1000, abs=1e-3)
    assert told["over_50_ms"] == sum(value >= 50_000_000 for value in rest)
    for percent, name in ((50, "p50"), (99, "p99"), (99.9, "p999")):
        true = np.percentile(rest, percent, method="inverted_cdf") / 1000
        if true < 50_000:  # beyond the histogram only the maximum is known
            assert true <= told[name] <= true + 1


def test_without_values_there_are_no_figures():
    assert Times().to_json() == {
        "n": 0, "first": None, "min": None, "mean": None, "p50": None, "p99": None, "p999": None, "max": None,
        "over_50_ms": 0,
    }  # fmt: skip
    times = Times()
    times.add(5000)
    assert times.to_json()["first"] == 5
    assert times.to_json()["max"] is None


def test_adding_keeps_nothing():
    times = Times()
    for k in range(3000):
        times.add(100_000 * k)
        if k == 1000:
            before = sys.getallocatedblocks()
    assert sys.getallocatedblocks() - before < 10
