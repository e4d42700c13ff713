"""The figures of runs whose every moment is known: a clock that is told the time, and jobs that take what they say."""

import numpy as np
import pytest
from fake_time import MS, PERIOD_NS, FakeClock, FakeJob
from hypothesis import given
from hypothesis import strategies as st

from hearloop.tools.profiling.figures import BEYOND, EDGES_US, distribution, figures, longest_run
from hearloop.tools.profiling.measure import measure
from hearloop.tools.profiling.schedule import Samples, run_back_to_back, run_paced
from hearloop.tools.profiling.subjects import Subject
from hearloop.tools.profiling.table import number, whole


def run_fake(takes_ns, blocks=1000, late_ns=0, run=run_paced):
    clock, samples = FakeClock(late_ns), Samples.empty(blocks, PERIOD_NS)
    run(FakeJob(clock, takes_ns), clock, samples, 0, blocks, 0)
    return samples, figures(samples)


def test_a_calm_run_has_the_figures_that_it_was_given():
    _, found = run_fake(lambda index: 1 * MS, late_ns=50_000)
    for key, value in (("compute_us", 1000), ("lateness_us", 50), ("slack_us", 6950), ("processor_us", 1000)):
        told = found[key]
        assert {told[name] for name in ("min", "p50", "p90", "p99", "p99.9", "max", "mean")} == {value}, key
    assert found["misses"] == found["longest_miss_run"] == 0
    assert found["longest_clean_s"] == found["seconds"] == 8
    assert found["real_time_factor"] == 0.125
    assert found["first_us"] == 1000


def test_a_stall_every_hundredth_frame_is_seen_with_all_its_consequences():
    """20 ms instead of 1: that block is 12 ms too late, the next begins 12 ms late and ends 5 ms too late, the one
    after it is late but in time. The last stall is the last block of the run."""
    samples, found = run_fake(lambda index: 20 * MS if index % 100 == 99 else 1 * MS)
    assert found["misses"] == 2 * 10 - 1
    assert found["misses_per_hour"] == 19 / 8 * 3600
    assert found["longest_miss_run"] == 2
    assert found["longest_clean_s"] == 99 * 0.008  # before the first one
    assert (np.flatnonzero(samples.slack < 0)[:4] == [99, 100, 199, 200]).all()
    assert samples.lateness[99:103].tolist() == [0, 12 * MS, 5 * MS, 0]
    assert samples.slack[99:103].tolist() == [-12 * MS, -5 * MS, 2 * MS, 7 * MS]
    told = found["compute_us"]
    assert (told["min"], told["p50"], told["p90"], told["p99"], told["p99.9"], told["max"]) == (
        1000, 1000, 1000, 1000, 20000, 20000,
    )  # fmt: skip
    assert told["uncertain"] == ["p99.9"]
    assert told["histogram"]["overflow"] == 0
    edges, counts = told["histogram"]["edges"], told["histogram"]["counts"]
    where = {edges[k]: count for k, count in enumerate(counts) if count}
    assert sorted(where.values()) == [10, 990]
    assert max(where) <= 20000 < edges[edges.index(max(where)) + 1]
    assert found["real_time_factor"] == (990 + 10 * 20) / 1000 / 8


def test_drift_is_a_run_of_misses_without_end():
    """Each block takes 10 us more than the last one: from block 801 on nothing is in time, and lateness piles up."""
    samples, found = run_fake(lambda index: 10_000 * index, blocks=900)
    assert found["misses"] == found["longest_miss_run"] == 99
    assert np.flatnonzero(samples.slack < 0)[0] == 801
    assert found["compute_us"]["p50"] == 10 * 449
    assert found["compute_us"]["max"] == 8990
    # The last block begins late by what all the ones before have taken too much.
    assert found["lateness_us"]["max"] == sum(10 * index - 8000 for index in range(801, 899))
    assert samples.slack[-1] == PERIOD_NS - samples.lateness[-1] - samples.compute[-1]


def test_a_slow_start_is_told_apart_and_not_left_out():
    def takes(index):
        return 500 * MS if index == 0 else 3 * MS if index < 100 else 1 * MS

    _, found = run_fake(takes)
    assert found["first_us"] == 500_000
    assert found["first_100_us"]["p50"] == 3000
    assert found["first_100_us"]["max"] == 500_000
    assert found["compute_us"]["p50"] == 1000
    assert found["compute_us"]["max"] == 500_000
    assert found["compute_us"]["histogram"]["overflow"] == 1
    # 500 ms are 62.5 periods: block k begins at 500 + 3 (k - 1) ms and is in time from k = 100 on, for 797 < 808.
    assert found["misses"] == found["longest_miss_run"] == 99


def test_back_to_back_nothing_is_ever_late():
    samples, found = run_fake(lambda index: 9 * MS, run=run_back_to_back)
    assert found["lateness_us"]["max"] == 0
    assert found["misses"] == 1000
    assert samples.slack[0] == -1 * MS


def test_stages_add_up_to_the_whole_and_absent_ones_are_none():
    _, found = run_fake(lambda index: 800_000 + 8000 * index)
    stages = found["stages_us"]
    there = {name for name, told in stages.items() if told}
    assert there == {"model", "safety", "rest"}
    assert sum(stages[name]["share"] for name in there) == pytest.approx(1, abs=1e-6)
    assert stages["model"]["share"] == 0.75
    means = sum(stages[name]["mean"] for name in there)
    assert means == pytest.approx(found["compute_us"]["mean"], abs=1e-6)


def test_a_thread_that_is_interrupted_is_charged_less_than_it_took():
    clock, samples = FakeClock(), Samples.empty(10, PERIOD_NS)
    run_paced(FakeJob(clock, lambda _: 5 * MS, preempted_ns=4 * MS), clock, samples, 0, 10, 0)
    assert figures(samples)["processor_us"]["max"] == 1000


def test_several_rows_take_turns_and_none_misses_a_block():
    clock = FakeClock()
    subjects = [
        Subject(name, "", FakeJob(clock, lambda _, ms=ms: ms * MS), "fake") for name, ms in (("a", 1), ("b", 2))
    ]
    rows, _ = measure(subjects, 2.5, clock)
    for row, value in zip(rows, (1000, 2000), strict=True):
        told = row.to_json()
        assert told["blocks"] == 312
        assert told["compute_us"]["min"] == told["compute_us"]["max"] == value
        assert [turn["p50"] for turn in told["turns"]] == [value] * 20
        assert np.bincount(row.samples.turn).tolist() == [16] * 19 + [8]
        assert told["misses"] == 0


def test_of_streams_in_parallel_every_one_has_its_own_runs_and_the_time_is_that_of_the_clock():
    """The last block of one stream and the first of the next do not follow each other."""
    parts = []
    for late in (range(990, 1000), range(5)):
        samples, _ = run_fake(lambda index: 1 * MS)
        samples.slack[late] = -1
        parts.append(samples)
    found = figures(Samples.joined(parts), streams=2)
    assert (found["blocks"], found["seconds"]) == (2000, 8)
    assert (found["misses"], found["longest_miss_run"]) == (15, 10)
    assert found["misses_per_hour"] == 15 / 8 * 3600
    assert found["longest_clean_s"] == 995 * 0.008


def test_what_fails_while_it_is_measured_is_raised():
    clock = FakeClock()

    def takes(index):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        measure([Subject("a", "", FakeJob(clock, takes), "fake")], 1, clock)


@given(st.lists(st.integers(0, 300_000_000), min_size=1, max_size=400))
def test_percentiles_are_those_of_the_sorted_list(values):
    told = distribution(np.array(values))
    for percent, name in ((50, "p50"), (90, "p90"), (99, "p99"), (99.9, "p99.9")):
        assert told[name] == round(np.percentile(values, percent, method="inverted_cdf") / 1000, 3)
        beyond = len(values) * (1 - percent / 100)
        assert (name in told["uncertain"]) == (beyond < BEYOND - 1e-6)
    histogram = told["histogram"]
    assert sum(histogram["counts"]) + histogram["overflow"] + histogram["underflow"] == told["n"] == len(values)
    assert histogram["overflow"] == sum(value >= EDGES_US[-1] * 1000 for value in values)


@given(st.lists(st.booleans(), max_size=60))
def test_the_longest_run_is_the_longest_run(flags):
    text = "".join("x" if flag else " " for flag in flags)
    assert longest_run(np.array(flags, bool)) == max(map(len, text.split()), default=0)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (-7664.4, "-7664"), (999_999, "999999"), (1_813_199, "1813k"), (-1_234_567, "-1235k"), (3e10, "30000M")],
)
def test_numbers_of_the_table_leave_room_between_its_columns(value, text):
    assert whole(value) == text
    assert len(number(value)) <= 6
