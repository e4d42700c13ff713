"""Whose fault it is that something comes too late: of the model's computing, of the system's scheduling, or the host's.

On the worker path the clocks are told the time. On the native path the model takes 9 ms of blocks of 8 ms: of the
processor, or of the clock on the wall.
"""

import ctypes
import time

import numpy as np
import pytest
from fake_time import MS, FakeClock
from live_parts import Turned
from native_engine import NativeGain
from signals import noise

from hearloop.runtime import live
from hearloop.runtime import worker as module
from hearloop.runtime.callback import MISSES_TO_BYPASS
from hearloop.runtime.exchange import Exchange
from hearloop.runtime.handover import plan_hand_over
from hearloop.runtime.live import LiveLoop
from hearloop.runtime.software_device import SoftwareDevice
from hearloop.runtime.worker import CAUSES, Worker, WorkerTelemetry

MODEL_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)


@pytest.mark.parametrize(
    ("elapsed_ms", "processor_ms", "cause"), [(9, 9, "compute"), (9, 7, "scheduling"), (7, 7, "host")]
)
@pytest.mark.parametrize("chunks", [1, 2])
def test_a_late_chunk_of_the_worker_is_counted_by_its_cause_and_so_is_what_it_delays(
    elapsed_ms, processor_ms, cause, chunks, monkeypatch
):
    clock = FakeClock()

    def work(chunk):
        clock.ns += elapsed_ms * MS
        clock.worked_ns += processor_ms * MS

    monkeypatch.setattr(module, "perf_counter_ns", clock.now_ns)
    monkeypatch.setattr(module, "thread_time_ns", clock.processor_ns)
    exchange, telemetry = Exchange(1, plan_hand_over(128, 16000, 16000, 128, 128)), WorkerTelemetry()
    worker = Worker(Turned(action=work), 1, 16000, exchange, telemetry)
    exchange.input.write(0, noise(128 * chunks))
    exchange.completed_ns[:chunks] = clock.ns
    exchange.asked[0] = 128 * chunks
    worker.catch_up()
    assert telemetry.late == dict.fromkeys(CAUSES, 0) | {cause: chunks}


def compute():
    started_ns = time.thread_time_ns()
    while time.thread_time_ns() - started_ns < 9 * MS:
        pass


@pytest.mark.realtime
@pytest.mark.parametrize(("cause", "take"), [("compute", compute), ("scheduling", lambda: time.sleep(0.009))])
def test_a_late_block_of_the_native_path_is_counted_by_its_cause_and_has_no_slack(
    cause, take, make_bundle, monkeypatch
):
    step = MODEL_FUNCTION(lambda memory, constants: take())
    engine = NativeGain(make_bundle())
    engine.step_address = ctypes.cast(step, ctypes.c_void_p).value
    monkeypatch.setattr(live, "open_engine", lambda model, name: engine)
    with LiveLoop(engine.model, SoftwareDevice(np.zeros((1, 8000)), 16000, 128), path="native") as loop:
        loop.wait()
    stats = loop.stats()
    assert stats["late_chunks"][cause] >= MISSES_TO_BYPASS
    assert stats["slack_us"]["min"] == 0
