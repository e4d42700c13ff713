"""Measuring several subjects side by side: they take turns, so that all meet the same disturbances."""

import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...runtime.denormals import flush_denormals
from ...runtime.realtime import WORKER_PRIORITY, Quiet, raise_priority
from .clock import Clock
from .figures import figures
from .resources import Resources, read_resources
from .schedule import Samples, run_back_to_back, run_paced
from .subjects import Subject

# Long enough that reading the counters in between costs nothing, short against what other programs do.
TURN_S = 0.128


@dataclass
class Row:
    """One subject, and what was measured of it; also of equal ones that ran `beside` it, at the same time."""

    subject: Subject
    samples: Samples
    resources: Resources = field(default_factory=Resources)
    collections: int = 0
    python_blocks: int = 0
    beside: Sequence[Subject] = ()

    @property
    def streams(self) -> int:
        return 1 + len(self.beside)

    def to_json(self) -> dict[str, Any]:
        """See docs/profile.md for each key."""
        subject, ledger = self.subject, self.subject.ledger
        outcomes = [each.outcome() for each in (subject, *self.beside)]
        return {
            "name": subject.name,
            "model": subject.model,
            "engine": subject.engine,
            "runs": subject.runs,
            "sha256": subject.sha256,
            "streams": self.streams,
            **figures(self.samples, self.streams),
            "rested": sum(outcome.rested for outcome in outcomes),
            "failed_frames": sum(outcome.failed_frames for outcome in outcomes),
            "resources": {
                **self.resources.to_json(),
                "garbage_collections": self.collections,
                "python_blocks": self.python_blocks,
            },
            "ledger": ledger_json(ledger),
            "notes": [*subject.notes, *(note for outcome in outcomes for note in outcome.notes)],
        }


def ledger_json(ledger: Any) -> dict[str, Any] | None:
    """Every delay by name, in samples and ms, and the sum; None where nothing is known."""
    if ledger is None:
        return None
    in_ms = 1000 / ledger.sample_rate
    return {
        "sample_rate": ledger.sample_rate,
        "delays": [
            {"name": name, "samples": round(samples, 3), "ms": round(samples * in_ms, 4)}
            for name, samples in ledger.items()
        ],
        "total_samples": round(ledger.total, 3),
        "total_ms": round(ledger.total_ms, 4),
    }


@dataclass
class Conditions:
    """What the system granted to the thread that was measured."""

    scheduling: str = "not started"
    memory: str = "unchanged"


def measure(
    subjects: Sequence[Subject], seconds: float, clock: Clock, paced: bool = True
) -> tuple[list[Row], Conditions]:
    """Run every subject for so many seconds of audio, in turns.

    Back to back, the priority of the thread is left alone: a thread of a real-time class that never sleeps is stopped
    by the system for 50 ms of every second.
    """
    rows = [Row(subject, Samples.empty(_blocks(subject, seconds), subject.job.period_ns)) for subject in subjects]
    conditions = Conditions()

    def work(quiet: Quiet) -> None:
        conditions.scheduling = raise_priority(WORKER_PRIORITY) if paced else "unchanged"
        flush_denormals()
        run: Callable[..., None] = run_paced if paced else run_back_to_back
        turn = 0
        while any([_turn(row, run, clock, turn, quiet) for row in rows]):
            turn += 1

    with Quiet() as quiet:
        conditions.memory = quiet.memory
        _in_threads([lambda: work(quiet)])
    return rows, conditions


def measure_together(subjects: Sequence[Subject], seconds: float, make_clock: Callable[[], Clock]) -> Row:
    """Run equal subjects at the same time, each in a thread of its own; all their blocks are one row."""
    rows = [Row(subject, Samples.empty(_blocks(subject, seconds), subject.job.period_ns)) for subject in subjects]
    merged = Row(rows[0].subject, rows[0].samples, beside=[row.subject for row in rows[1:]])

    def work(row: Row) -> None:
        raise_priority(WORKER_PRIORITY)
        flush_denormals()
        before = read_resources()
        run_paced(row.subject.job, make_clock(), row.samples, 0, len(row.samples), 0)
        row.resources.add_since(before, read_resources())

    with Quiet() as quiet:
        before, collections = read_resources(whole_process=True), quiet.collections
        blocks = sys.getallocatedblocks()
        _in_threads([lambda row=row: work(row) for row in rows])  # type: ignore[misc]
        merged.python_blocks = sys.getallocatedblocks() - blocks
        merged.resources.add_since(before, read_resources(whole_process=True))
        merged.collections = quiet.collections - collections
    merged.samples = Samples.joined([row.samples for row in rows])
    return merged


def _blocks(subject: Subject, seconds: float) -> int:
    return max(round(1e9 * seconds / subject.job.period_ns), 1)


def _turn(row: Row, run: Callable[..., None], clock: Clock, turn: int, quiet: Quiet) -> bool:
    """Run the next blocks of a row; False if there are none left."""
    per_turn = max(round(1e9 * TURN_S / row.samples.period_ns), 1)
    first = turn * per_turn
    count = min(per_turn, len(row.samples) - first)
    if count <= 0:
        return False
    before, collections = read_resources(), quiet.collections
    blocks = sys.getallocatedblocks()
    run(row.subject.job, clock, row.samples, first, count, turn)
    row.python_blocks += sys.getallocatedblocks() - blocks
    row.resources.add_since(before, read_resources())
    row.collections += quiet.collections - collections
    return True


def _in_threads(jobs: Sequence[Callable[[], None]]) -> None:
    """Run each in a thread of its own, and raise what one of them has raised."""
    raised: list[BaseException] = []

    def guarded(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=guarded, args=(job,), name="hearloop profile") for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]
