"""A clock that is told the time, and jobs that take what they say."""

from collections.abc import Callable

from hearloop.runtime.stages import MODEL, SAFETY, new_laps

PERIOD_NS = 8_000_000
MS = 1_000_000


class FakeClock:
    """Time passes only where somebody says so. Every sleep ends `late_ns` too late."""

    def __init__(self, late_ns: int = 0):
        self.ns, self.late_ns, self.worked_ns = 1_000_000_000, late_ns, 0

    def now_ns(self) -> int:
        return self.ns

    def processor_ns(self) -> int:
        return self.worked_ns

    def sleep_until(self, moment_ns: int) -> None:
        if moment_ns > self.ns:
            self.ns = moment_ns + self.late_ns


class FakeJob:
    """Takes `takes_ns(index)`: three quarters of it in the model, if that `runs`, and an eighth in the safety stage."""

    def __init__(
        self,
        clock: FakeClock,
        takes_ns: Callable[[int], int],
        preempted_ns: int = 0,
        runs: Callable[[int], bool] = lambda index: True,
    ):
        self.period_ns, self.laps = PERIOD_NS, new_laps()
        self._clock, self._takes_ns, self._preempted_ns, self._runs = clock, takes_ns, preempted_ns, runs
        self._index = 0

    def feed(self, index: int) -> None:
        self._index = index

    def run(self) -> None:
        taken = self._takes_ns(self._index)
        self._clock.ns += taken
        self._clock.worked_ns += taken - self._preempted_ns
        self.laps[MODEL], self.laps[SAFETY] = taken * 3 // 4 if self._runs(self._index) else 0, taken // 8
