"""Seconds of training: all but those in which the process was halted."""

import os
import signal
import subprocess
import sys
import time

import pytest

from hearloop.models.training import clock as module
from hearloop.models.training.clock import TrainingClock

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGCONT"), reason="this system halts no processes")

TICKING = """
import time
from hearloop.models.training.clock import TrainingClock
clock = TrainingClock()
clock.listen()
clock.start()
began = time.monotonic()
print("ticking", flush=True)
while time.monotonic() - began < 2.5:
    time.sleep(0.005)
    clock.tick()
print(time.monotonic() - began, clock.seconds)
"""


@pytest.fixture
def times(monkeypatch):
    """What the clock is told it is."""
    moments = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: moments[0])
    before = signal.getsignal(signal.SIGCONT)
    yield moments
    signal.signal(signal.SIGCONT, before)


def test_steps_add_up_over_the_parts_of_a_run(times):
    clock = TrainingClock()
    clock.seconds = 100.0
    times[0] = 50.0  # until the first step, nothing is learnt
    clock.start()
    for moment in (51.0, 53.5):
        times[0] = moment
        clock.tick()
    assert clock.seconds == 103.5


def test_a_step_in_which_the_process_was_continued_counts_nothing(times):
    clock = TrainingClock()
    clock.listen()
    clock.start()
    for moment in (1.0, 2.0, 900.0, 901.0):
        if moment == 900.0:
            os.kill(os.getpid(), signal.SIGCONT)
        times[0] = moment
        clock.tick()
    assert clock.seconds == 3.0


def test_a_halt_while_the_clock_is_read_counts_nothing_either(times, monkeypatch):
    """Nobody tells on which side of the reading it was: neither this step counts nor the next."""
    clock = TrainingClock()
    clock.listen()
    clock.start()

    def read_and_halted():
        now = times[0]
        monkeypatch.setattr(module.time, "monotonic", lambda: times[0])
        times[0] = 900.0
        os.kill(os.getpid(), signal.SIGCONT)
        return now

    times[0] = 2.0
    monkeypatch.setattr(module.time, "monotonic", read_and_halted)
    clock.tick()
    for moment in (901.0, 902.0):
        times[0] = moment
        clock.tick()
    assert clock.seconds == 1.0


def test_a_process_that_is_halted_does_not_count_the_halt():
    process = subprocess.Popen([sys.executable, "-c", TICKING], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGSTOP)
    time.sleep(1.5)
    process.send_signal(signal.SIGCONT)
    said, _ = process.communicate(timeout=60)
    passed, counted = map(float, said.split())
    assert 0 < counted < passed - 1.4
