"""Real-time hygiene: what is changed for a stream is as before after it."""

import gc
import os
import sys
import threading
from pathlib import Path

import pytest

from hearloop.runtime import realtime
from hearloop.runtime.realtime import Quiet, environment, lock_memory, raise_priority, unlock_memory
from hearloop.runtime.semaphore import PosixSemaphore, ThreadingSemaphore, open_semaphore


def test_the_garbage_collector_rests_during_a_stream_and_is_restored_after_it():
    interval, frozen = sys.getswitchinterval(), gc.get_freeze_count()
    with Quiet() as quiet:
        assert not gc.isenabled()
        assert gc.get_freeze_count() > 1000
        assert sys.getswitchinterval() < interval
        kept = [[] for _ in range(20_000)]  # enough for many young collections
        assert len(kept) == 20_000
        assert quiet.collections == 0
        gc.collect()
        assert quiet.collections == 1
    assert gc.isenabled()
    assert gc.get_freeze_count() == frozen
    assert sys.getswitchinterval() == interval
    assert quiet.collections == 1
    gc.collect()
    assert quiet.collections == 1


def test_a_collector_that_was_off_stays_off():
    gc.disable()
    try:
        with Quiet():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_of_two_that_overlap_the_last_one_restores_what_the_first_has_found():
    interval, frozen = sys.getswitchinterval(), gc.get_freeze_count()
    first, second = Quiet(), Quiet()
    first.__enter__()
    second.__enter__()
    first.__exit__()
    assert not gc.isenabled()
    assert gc.get_freeze_count() > frozen
    assert sys.getswitchinterval() == pytest.approx(realtime.SWITCH_INTERVAL_S)
    assert second.memory == first.memory
    gc.collect()
    assert (first.collections, second.collections) == (0, 1)
    second.__exit__()
    assert gc.isenabled()
    assert gc.get_freeze_count() == frozen
    assert sys.getswitchinterval() == interval


def in_a_thread(function):
    told = []
    thread = threading.Thread(target=lambda: told.append(function()))
    thread.start()
    thread.join()
    return told[0]


@pytest.mark.skipif(not hasattr(os, "sched_setscheduler"), reason="scheduling classes are those of Linux")
def test_the_scheduling_class_that_is_reported_is_the_one_that_the_thread_has():
    def raised():
        told = raise_priority(realtime.WORKER_PRIORITY)
        return told, os.sched_getscheduler(0), os.sched_getparam(0).sched_priority

    told, policy, priority = in_a_thread(raised)
    if told.startswith("SCHED_FIFO"):
        assert policy == os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
        assert priority == realtime.WORKER_PRIORITY
    else:
        assert policy == os.SCHED_OTHER
    assert os.sched_getscheduler(0) == os.SCHED_OTHER  # of this thread


@pytest.mark.skipif(not hasattr(os, "sched_setscheduler"), reason="scheduling classes are those of Linux")
def test_where_nothing_is_allowed_the_thread_stays_as_it_is_and_says_so(monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    assert in_a_thread(lambda: raise_priority(40)) in (f"nice {realtime.NICENESS}", "SCHED_OTHER")
    monkeypatch.setattr(os, "setpriority", refuse)
    assert in_a_thread(lambda: raise_priority(40)) == "SCHED_OTHER"


@pytest.mark.skipif(not hasattr(os, "sched_setscheduler"), reason="scheduling classes are those of Linux")
def test_a_thread_that_has_ended_has_no_priority_to_raise():
    assert raise_priority(40, 2**30) == "SCHED_OTHER"  # Linux numbers no thread so high


def test_memory_is_locked_or_the_reason_is_told():
    told = lock_memory()
    assert told == "locked" or "not " in told or "refused" in told
    if told == "locked":
        locked = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmLck")]
        assert int(locked[0].split()[1]) > 0
        unlock_memory()


def test_memory_is_not_locked_under_a_limit_that_a_later_allocation_would_hit(monkeypatch):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (8 << 20, 8 << 20))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "8192 KiB" in lock_memory()


def test_the_environment_names_what_matters_for_timing():
    told = environment()
    assert {"cpu", "cpus_allowed", "governor", "system", "python", "numpy", "numba", "onnxruntime"} <= set(told)


def test_the_environment_that_is_told_again_leaves_nothing_for_the_collector():
    environment()
    with Quiet():
        gc.collect()
        told = [environment() for _ in range(10)]
        assert gc.collect() == 0
    assert len(told) == 10


@pytest.mark.parametrize("make", [PosixSemaphore, ThreadingSemaphore, open_semaphore])
def test_a_semaphore_lets_as_many_through_as_were_posted(make):
    if make is PosixSemaphore and not sys.platform.startswith("linux"):
        pytest.skip("unnamed POSIX semaphores are those of Linux")
    semaphore, passed = make(), []
    enough = threading.Event()

    def wait():
        for _ in range(100):
            semaphore.wait()
            passed.append(None)
        enough.set()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    for _ in range(99):
        semaphore.post()
    assert not enough.wait(0.1)
    semaphore.post()
    assert enough.wait(10)
    assert len(passed) == 100
