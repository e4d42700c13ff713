"""Stages and the log of blocks: nothing is counted twice, nothing is left out, and no room is no harm."""

from time import perf_counter_ns

import numpy as np
import pytest
from native_engine import NativeGain

from hearloop.runtime import live
from hearloop.runtime.framelog import BEGAN, COMPUTE, FIRST_STAGE, PROCESSOR, SLACK, FrameLog
from hearloop.runtime.live import LiveLoop
from hearloop.runtime.software_device import SoftwareDevice
from hearloop.runtime.stages import LAST, MODEL, RESAMPLE, SAFETY, STAGES, begin_laps, lap, new_laps

SPIN_MS = 0.5


def test_the_laps_of_a_watch_add_up_to_all_that_has_passed():
    laps, started_ns = new_laps(on=True), perf_counter_ns()
    begin_laps(laps, started_ns)
    for stage in (RESAMPLE, MODEL, RESAMPLE, SAFETY) * 100:
        lap(laps, stage)
    assert laps[:LAST].sum() == laps[LAST] - started_ns
    assert np.flatnonzero(laps[:LAST]).tolist() == [RESAMPLE, MODEL, SAFETY]
    begin_laps(laps, perf_counter_ns())
    assert laps[:LAST].sum() == 0


def test_a_watch_that_is_off_stays_as_it_is():
    laps = new_laps()
    begin_laps(laps, perf_counter_ns())
    lap(laps, MODEL)
    assert not laps.any()


def test_a_full_log_counts_what_it_leaves_out():
    log = FrameLog(3)
    for k in range(5):
        log.add(k, 10 * k, 100, 200, 50, np.arange(9))
    assert log.rows[:, BEGAN].tolist() == [0, 1, 2]
    assert log.rows[2, FIRST_STAGE:].tolist() == list(range(len(STAGES)))
    assert log.left_out == 2
    assert not FrameLog().wanted


@pytest.fixture(params=["native", "worker"])
def path(request, monkeypatch, make_bundle):
    bundle = make_bundle()
    monkeypatch.setattr(live, "load_step", lambda model: model)
    monkeypatch.setattr(live, "open_engine", lambda *_: NativeGain(bundle, spin_ms=SPIN_MS))
    return request.param


@pytest.mark.parametrize("rate", [16000, 48000])
def test_the_stages_of_a_running_stream_are_within_the_whole(path, rate):
    """The model's stage is at least as long as the model is known to take, and what does not exist takes no time."""
    device, log = SoftwareDevice(np.zeros((1, rate), np.float32), rate), FrameLog(200)
    with LiveLoop("", device, "compiled", path=path, log=log) as loop:
        loop.wait()
    rows = log.rows
    assert len(rows) > 100
    assert log.left_out == 0
    stages = dict(zip(STAGES, rows[:, FIRST_STAGE:].T, strict=True))
    assert (rows[:, FIRST_STAGE:].sum(axis=1) <= rows[:, COMPUTE]).all()
    # At 48 kHz the filter on the way in holds samples back, so that the first block completes no frame.
    stepped = stages["model"] > 0
    assert stepped[1:].all()
    assert (stages["model"][stepped] >= SPIN_MS * 1e6).all()
    for name in ("analysis", "synthesis"):
        np.testing.assert_array_equal(stages[name] > 0, stepped)
    for name in ("in-queue", "out-queue"):
        assert (stages[name] > 0).all()
    assert (stages["resample"] > 0).all() == (rate != 16000)
    assert (stages["safety"] > 0).all() == (path == "native")  # the worker's output stage is in the callback
    assert (np.diff(rows[:, BEGAN]) > 0).all()
    assert (rows[:, PROCESSOR] > 0).all()
    if path == "native":
        np.testing.assert_array_equal(rows[:, COMPUTE] + rows[:, SLACK], 8_000_000)


def test_without_a_log_nobody_looks_at_the_clock(path):
    device = SoftwareDevice(np.zeros((1, 4000), np.float32), 16000)
    with LiveLoop("", device, "compiled", path=path) as loop:
        loop.wait()
        session = loop._sessions.current
    assert not session._path.laps.any()
