"""Comparing two reports, and conditions: what is the same is called equal, what is a fifth slower is caught."""

import copy

import numpy as np
import pytest
from fake_time import MS, FakeClock, FakeJob

from hearloop.runtime.errors import HearloopError
from hearloop.tools.profiling.compare import compare, comparison_table, differences
from hearloop.tools.profiling.conditions import failures, parse_conditions
from hearloop.tools.profiling.measure import measure
from hearloop.tools.profiling.subjects import Subject


def report(speed=1.0, machine=1.0, seed=1, turns=20, noise=0.03, delay_ms=12.0):
    """Of a model that takes 100 us, or `speed` times that, on a machine that is `machine` times as slow.

    Every turn has its own disturbance, which model and yardstick share in the main, as on a real machine.
    """
    random = np.random.default_rng(seed)
    shared = machine * (1 + 5 * noise * random.random(turns))

    def row(name, us, **more):
        times = us * shared * (1 + noise * random.standard_normal(turns))
        return {"name": name, "model": name, "sha256": "", "turns": [{"min": t, "p50": t} for t in times], **more}

    rows = [row("yardstick", 50.0), row("model", 100.0 * speed, ledger={"total_ms": delay_ms})]
    return {"settings": {"block": 128}, "environment": {"cpu": "one"}, "rows": rows}


@pytest.mark.parametrize("seed", range(20))
def test_two_runs_of_the_same_thing_are_equal(seed):
    (verdict,) = compare(report(seed=seed), report(seed=seed + 100))
    assert verdict.outcome == "equal"
    assert not verdict.worse


@pytest.mark.parametrize("seed", range(20))
def test_a_planted_slow_down_of_a_fifth_is_caught(seed):
    (verdict,) = compare(report(seed=seed), report(speed=1.2, seed=seed + 100))
    assert verdict.outcome == "slower"
    assert verdict.worse
    assert verdict.ratio == pytest.approx(1.2, abs=0.06)


@pytest.mark.parametrize("machine", [0.9, 1.1])
def test_a_machine_in_another_state_is_not_the_models_fault(machine):
    (verdict,) = compare(report(), report(machine=machine, seed=2))
    assert verdict.outcome == "equal"
    assert verdict.tolerance > 0.11
    (verdict,) = compare(report(), report(speed=1.3, machine=machine, seed=2))
    assert verdict.outcome == "slower"


def test_a_faster_model_is_told_and_is_not_worse():
    (verdict,) = compare(report(), report(speed=0.7, seed=2))
    assert (verdict.outcome, verdict.worse) == ("faster", False)


def test_too_short_and_wild_runs_prove_nothing():
    (verdict,) = compare(report(turns=2, noise=0.3, seed=3), report(turns=2, noise=0.3, seed=9))
    assert verdict.outcome == "unclear"


@pytest.mark.parametrize(("then", "now", "outcome"), [(5, 20, "unclear"), (20, 5, "unclear"), (6, 6, "slower")])
def test_fewer_than_six_turns_prove_nothing_however_alike_they_are(then, now, outcome):
    (verdict,) = compare(report(turns=then, noise=0), report(speed=1.5, turns=now, noise=0))
    assert verdict.outcome == outcome
    assert ("only 5 turns" in verdict.remark) == (outcome == "unclear")
    assert max(map(len, comparison_table([verdict], []).splitlines())) <= 80


@pytest.mark.parametrize("which", [0, 1])
def test_a_row_whose_model_rested_proves_nothing(which):
    reports = report(), report(speed=0.1)
    reports[which]["rows"][1]["rested"] = 3
    (verdict,) = compare(*reports)
    assert verdict.outcome == "unclear"
    assert "blocks without the model" in verdict.remark


def test_blocks_without_the_model_do_not_hide_what_has_become_of_it():
    """At 48 kHz in blocks of 128 samples a frame is complete in every third block."""

    def run(model_us):
        return measured(lambda index: 1000 * (model_us if index % 3 == 2 else 10), runs=lambda index: index % 3 == 2)

    then, now = run(200), run(1200)
    (verdict,) = compare(then, now)
    assert (verdict.outcome, verdict.ratio) == ("slower", pytest.approx(6))
    # A report that does not tell these blocks apart is compared by all of them, as it always was.
    for turn in then["rows"][1]["turns"]:
        del turn["model_p50"]
    (verdict,) = compare(then, now)
    assert (verdict.outcome, verdict.ratio) == ("equal", 1)


def test_more_delay_and_missing_rows_are_worse_whatever_the_speed():
    now = report(seed=2, delay_ms=20.0)
    assert [verdict.outcome for verdict in compare(report(), now)] == ["equal", "later"]
    now["rows"].pop()
    (verdict,) = compare(report(), now)
    assert (verdict.outcome, verdict.worse) == ("missing", True)


def test_what_is_not_the_same_about_two_runs_is_told():
    then, now = report(), copy.deepcopy(report())
    now["settings"]["block"] = 64
    now["settings"] |= {"path": "worker", "device": "headset"}
    now["environment"]["cpu"] = "another"
    now["rows"][1]["sha256"] = "1"
    told = differences(then, now)
    assert len(told) == 5
    printed = comparison_table(compare(then, now), told)
    assert "not the same: block: 128 then, 64 now" in printed


def measured(model_ns, yardstick_ns=50_000, blocks_s=5, runs=lambda index: True):
    """The report of a run in which nothing is left to chance; the model runs in some of its blocks."""
    clock = FakeClock()
    jobs = {"yardstick": FakeJob(clock, lambda _: yardstick_ns), "model": FakeJob(clock, model_ns, runs=runs)}
    subjects = [Subject(name, "", job, "fake") for name, job in jobs.items()]
    rows, _ = measure(subjects, blocks_s, clock)
    return {"settings": {}, "environment": {}, "rows": [row.to_json() for row in rows]}


def test_with_a_clock_that_is_told_the_time_the_ratio_is_exact():
    def stalling(us):
        return lambda index: 20 * MS if index % 100 == 99 else us * 1000

    then = measured(stalling(100))
    (same,) = compare(then, measured(stalling(100)))
    assert (same.outcome, same.ratio, same.low, same.high) == ("equal", 1, 1, 1)
    (slower,) = compare(then, measured(stalling(120)))
    assert slower.outcome == "slower"
    assert slower.ratio == slower.low == slower.high == pytest.approx(1.2)
    (slowed,) = compare(then, measured(stalling(150), yardstick_ns=75_000))
    assert (slowed.outcome, slowed.ratio) == ("equal", pytest.approx(1))


ROW = {
    "name": "m compiled",
    "model": "m",
    "misses": 2,
    "misses_per_hour": 10.0,
    "longest_miss_run": 1,
    "longest_clean_s": 5.0,
    "rested": 4,
    "failed_frames": 0,
    "first_us": 900.0,
    "real_time_factor": 0.25,
    "seconds": 10.0,
    "compute_us": {"p50": 100.0, "p99.9": 4001.0, "max": 9000.0, "min": 50.0},
    "lateness_us": {"p99": 80.0},
    "slack_us": {"min": -1000.0},
    "first_100_us": {"max": 900.0},
    "stages_us": {"model": {"p50": 60.0}, "resample": None},
    "resources": {
        "processor_s": 2.5, "resident_bytes": 2_000_000, "garbage_collections": 0, "minor_faults": 3, "major_faults": 1
    },
    "ledger": {"total_ms": 12.0},
}  # fmt: skip


@pytest.mark.parametrize(
    ("true", "false"),
    [
        ("p99.9>4ms", "p99.9>4.01ms"),
        ("max>8999us", "max>0.009s"),
        ("misses>1", "misses>2"),
        ("lateness.p99>79us", "lateness.p99>80us"),
        ("slack.min<0us", "slack.min<-1ms"),
        ("stage.model.p50>59us", "stage.resample.p50>0us"),
        ("first100.max>0.8ms", "first>1ms"),
        ("cpu>24%", "rtf>25%"),
        ("memory_growth>1.9MB", "gc>0"),
        ("page_faults>3", "longest_miss_run>1"),
        ("latency>11.9ms", "latency>12ms"),
        ("longest_clean<6s", "misses_per_hour>10"),
        ("rested>3", "failed_frames>0"),
    ],
)
def test_conditions_hold_where_they_are_true(true, false):
    assert failures(parse_conditions(false), [ROW]) == []
    (told,) = failures(parse_conditions(f"{false}, {true}"), [ROW])
    assert told.startswith(f"m compiled: {true}")


def test_reference_rows_are_no_models():
    assert failures(parse_conditions("misses>0"), [ROW | {"model": "passthrough"}]) == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("p99.9", "not understood"),
        ("p99.9>4", "unit is ''; expected 'us' or 'ms' or 's'"),
        ("misses>4ms", "unit is 'ms'"),
        ("p98>4ms", "no figure 'p98'"),
        ("stage.toast.p50>1ms", "no figure 'stage.toast.p50'"),
        ("p50>1.2.3ms", "not a number"),
    ],
)
def test_conditions_that_are_not_understood_are_refused(text, complaint):
    with pytest.raises(HearloopError, match=complaint.replace("?", "\\?")):
        parse_conditions(f"misses>0,{text}")
