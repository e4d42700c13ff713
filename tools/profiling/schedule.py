"""Running something again and again and writing down what each time took: at the pace of a device, or back to back.

Paced, block n arrives at `start + n period` and has to be finished when the next one arrives. The moments are fixed
beforehand: after a stall the blocks that piled up are worked off one after the other, each late by what is left of it.
Nothing is skipped, nothing is left out of the figures, and nothing is allocated that stays.
"""

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ...runtime.stages import LAST, begin_laps, lap
from .clock import Clock

LEAD_NS = 2_000_000


class Job(Protocol):
    """What is run.

    Attributes
    ----------
    period_ns : int
        How often a block arrives.
    laps : ndarray, int64
        The watch of `runtime.stages`, on.
    """

    period_ns: int
    laps: np.ndarray

    def feed(self, index: int) -> None:
        """Put the next block of input in its place; not part of what is timed."""

    def run(self) -> None:
        """Process it; the watch has begun."""


@dataclass(frozen=True)
class Samples:
    """What was measured, a number for each block, all in ns.

    Attributes
    ----------
    period_ns : int
    lateness : ndarray
        From the moment when the block arrived to the beginning of work on it.
    compute : ndarray
        From the beginning to the end.
    slack : ndarray
        From the end to the moment when the next block arrives; negative is a miss.
    processor : ndarray
        How much of `compute` the processor was given to this thread.
    stages : ndarray, shape (n, stages)
    turn : ndarray
        Number of the turn in which the block was run.
    """

    period_ns: int
    lateness: np.ndarray
    compute: np.ndarray
    slack: np.ndarray
    processor: np.ndarray
    stages: np.ndarray
    turn: np.ndarray

    def __len__(self) -> int:
        return len(self.compute)

    @classmethod
    def empty(cls, count: int, period_ns: int) -> "Samples":
        """Room for so many blocks, with all its pages in place."""

        def column() -> np.ndarray:
            return np.full(count, -1, np.int64)

        stages = np.full((count, LAST), -1, np.int64)
        return cls(period_ns, column(), column(), column(), column(), stages, column())

    @classmethod
    def joined(cls, parts: Sequence["Samples"]) -> "Samples":
        """One after the other, each part as a turn of its own."""

        def column(name: str) -> np.ndarray:
            return np.concatenate([getattr(part, name) for part in parts])

        return cls(
            parts[0].period_ns,
            column("lateness"),
            column("compute"),
            column("slack"),
            column("processor"),
            column("stages"),
            np.repeat(np.arange(len(parts)), [len(part) for part in parts]),
        )


def run_paced(job: Job, clock: Clock, samples: Samples, first: int, count: int, turn: int) -> None:
    """Run blocks `first` to `first + count` at the pace of a device, and write into those rows."""
    period_ns = samples.period_ns
    start_ns = clock.now_ns() + LEAD_NS
    for index in range(first, first + count):
        job.feed(index)
        due_ns = start_ns + (index - first) * period_ns
        clock.sleep_until(due_ns)
        _run_one(job, clock, samples, index, due_ns, turn)


def run_back_to_back(job: Job, clock: Clock, samples: Samples, first: int, count: int, turn: int) -> None:
    """The same without any pause: a block arrives when the one before is done, so that nothing is ever late."""
    for index in range(first, first + count):
        job.feed(index)
        _run_one(job, clock, samples, index, clock.now_ns(), turn)


def _run_one(job: Job, clock: Clock, samples: Samples, index: int, due_ns: int, turn: int) -> None:
    given_ns = clock.processor_ns()
    began_ns = clock.now_ns()
    job.run()
    ended_ns = clock.now_ns()
    samples.processor[index] = clock.processor_ns() - given_ns
    samples.lateness[index] = began_ns - due_ns
    samples.compute[index] = ended_ns - began_ns
    samples.slack[index] = due_ns + samples.period_ns - ended_ns
    samples.stages[index] = job.laps[:LAST]
    samples.turn[index] = turn


class _Nothing:
    """A job without work, for the cost of measuring."""

    def __init__(self, job: Job):
        self.period_ns, self.laps = job.period_ns, job.laps

    def feed(self, index: int) -> None:
        pass

    def run(self) -> None:
        pass


def cost_of_measuring_ns(job: Job, clock: Clock, blocks: int = 2000) -> int:
    """What the measurement itself takes of a block, the median: clocks, bookkeeping, and the laps of the watch."""
    samples, times = Samples.empty(blocks, job.period_ns), np.zeros(blocks, np.int64)
    nothing, laps = _Nothing(job), job.laps.copy()
    gc.collect()
    for index in range(blocks):
        started_ns = clock.now_ns()
        run_back_to_back(nothing, clock, samples, index, 1, 0)
        begin_laps(laps, started_ns)
        for stage in range(LAST):
            lap(laps, stage)
        times[index] = clock.now_ns() - started_ns
    return int(np.median(times))
