"""The two reference rows of every table: doing nothing, and a piece of work that is always the same."""

from time import perf_counter_ns

import numpy as np

from ...runtime.kernels import kernel
from ...runtime.ledger import Ledger
from ...runtime.stages import IN_QUEUE, MODEL, begin_laps, lap, new_laps
from .signals import Signal
from .subjects import Subject, Work

PASSTHROUGH, YARDSTICK = "passthrough", "yardstick"
REFERENCES = (PASSTHROUGH, YARDSTICK)

_ROWS, _COLUMNS = 512, 128  # 256 kB of weights, as a small model has


def references(work: Work) -> list[Subject]:
    """A copy from input to output, for what the loop itself takes; and the yardstick, for how fast the machine is.

    A shared or throttled machine may be half as fast an hour later. The yardstick is a product of a fixed matrix and
    a vector, three times over: memory and arithmetic, as in a small model. `compare` divides by it.
    """
    ledger = Ledger(work.sample_rate, {"device input": float(work.block)})
    return [
        Subject(PASSTHROUGH, "", Copy(work), "copy", ledger=ledger),
        Subject(YARDSTICK, "", Yardstick(work), "fixed product"),
    ]


class Copy:
    """No processing."""

    def __init__(self, work: Work):
        self.period_ns, self.laps = work.block_ns, new_laps(on=True)
        self._input = np.zeros((work.channels, work.block), np.float32)
        self._output = np.zeros_like(self._input)
        self._signal = Signal(work.signal, self._input.shape)

    def feed(self, index: int) -> None:
        self._signal.fill(index, self._input)

    def run(self) -> None:
        begin_laps(self.laps, perf_counter_ns())
        np.copyto(self._output, self._input)
        lap(self.laps, IN_QUEUE)


class Yardstick:
    """The same work for every block, whatever is measured beside it."""

    def __init__(self, work: Work):
        self.period_ns, self.laps = work.block_ns, new_laps(on=True)
        random = np.random.default_rng(1)
        self._weights = (random.standard_normal((_ROWS, _COLUMNS)) / np.sqrt(_COLUMNS)).astype(np.float32)
        self._given = random.standard_normal(_COLUMNS).astype(np.float32)
        self._made = np.zeros(_ROWS, np.float32)

    def feed(self, index: int) -> None:
        pass

    def run(self) -> None:
        begin_laps(self.laps, perf_counter_ns())
        _product(self._weights, self._given, self._made)
        lap(self.laps, MODEL)


@kernel("void(float32[:, ::1], float32[::1], float32[::1])")
def _product(weights, given, made):
    rows, columns = weights.shape
    for _ in range(3):
        for row in range(rows):
            total = np.float32(0)
            for column in range(columns):
                total += weights[row, column] * given[column]
            made[row] = total
