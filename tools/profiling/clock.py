"""The clock that a paced run is driven by: absolute moments, so that no error adds up."""

import ctypes
import sys
import time
from time import perf_counter_ns
from typing import Protocol

_CLOCK_MONOTONIC, _TIMER_ABSTIME = 1, 1


class _TimeSpec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class Clock(Protocol):
    """What a run asks for the time. Moments are in ns, from any origin."""

    def now_ns(self) -> int: ...

    def processor_ns(self) -> int:
        """What the processor has given to the calling thread so far."""

    def sleep_until(self, moment_ns: int) -> None:
        """Return not before this moment; at once if it has passed."""


class RealClock:
    """The time of the wall. On Linux the kernel is told the moment itself (clock_nanosleep), as cyclictest does."""

    def __init__(self) -> None:
        self._moment = _TimeSpec()
        self._reference = ctypes.byref(self._moment)
        self._sleep = ctypes.CDLL(None).clock_nanosleep if sys.platform.startswith("linux") else None

    def now_ns(self) -> int:
        return perf_counter_ns()

    def processor_ns(self) -> int:
        return time.thread_time_ns()

    def sleep_until(self, moment_ns: int) -> None:
        if self._sleep is None:
            time.sleep(max(moment_ns - perf_counter_ns(), 0) / 1e9)
            return
        self._moment.seconds, self._moment.nanoseconds = divmod(moment_ns, 1_000_000_000)
        while self._sleep(_CLOCK_MONOTONIC, _TIMER_ABSTIME, self._reference, None):
            pass  # a signal came in between; the moment stays the same
