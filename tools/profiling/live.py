"""The figures of a running stream: a device, the live loop, and a row for every block that it has played.

What is a block, and what is late, depends on the path:

    native   a call of the audio callback; late is how much more than one block after the call before it began
    worker   a chunk of the worker thread; late is how long after its completion by the callback the work on it began
"""

import hashlib
import sys
from time import perf_counter_ns, thread_time_ns
from typing import Any

import numpy as np

from ...runtime.bundle import Bundle
from ...runtime.devices import Device
from ...runtime.framelog import BEGAN, COMPUTE, FIRST_STAGE, LATENESS, PROCESSOR, SLACK, FrameLog
from ...runtime.live import LiveLoop
from ...runtime.load import load_model
from ...runtime.stages import LAST, begin_laps, lap, new_laps
from .measure import Row
from .resources import Resources, read_resources
from .schedule import Samples
from .subjects import Outcome, Subject

SHORTEST_BLOCK = 64  # room is taken for blocks of so many samples, and for a second more


class _Stream:
    """Stands in for a job: the device sets the pace."""

    def __init__(self, outcome: Outcome):
        self._outcome = outcome
        self.period_ns, self.laps = 0, np.zeros(0, np.int64)

    def feed(self, index: int) -> None: ...

    def run(self) -> None: ...

    def outcome(self) -> Outcome:
        return self._outcome


def measure_live(
    model: str | Bundle, device: Device, seconds: float, engine: str = "auto", path: str = "auto"
) -> tuple[Row, dict[str, Any]]:
    """Run the live loop for so long, or to the end of what the device has to hear.

    Returns
    -------
    Row
    dict
        What the loop itself has counted; see `LiveLoop.stats`.
    """
    log = FrameLog(round((seconds + 1) * device.sample_rate / SHORTEST_BLOCK))
    used = Resources()
    loop = LiveLoop(model, device, engine, path=path, log=log)
    with loop:
        before = read_resources(whole_process=True)
        blocks = sys.getallocatedblocks()
        loop.wait(seconds)
        blocks = sys.getallocatedblocks() - blocks
        used.add_since(before, read_resources(whole_process=True))
    stats = loop.stats()
    samples = _samples(log, stats["chunk_samples"] if loop.path == "worker" else _block(stats), device.sample_rate)
    subject = Subject(
        model=loop.model_name,
        engine=loop.engine_name,
        job=_Stream(_outcome(stats, log)),
        runs=f"{loop.path} path",
        sha256=_sha256(model),
        ledger=loop.latency,
    )
    return Row(subject, samples, used, stats["environment"]["garbage_collections"], blocks), stats


def _block(stats: dict[str, Any]) -> int:
    return int(stats["block_sizes"][1])


def _samples(log: FrameLog, block: int, sample_rate: int) -> Samples:
    rows = log.rows
    period_ns = round(1e9 * block / sample_rate)
    began = rows[:, BEGAN]
    turn = (began - began[0]) // 1_000_000_000 if len(rows) else np.zeros(0, np.int64)
    return Samples(
        period_ns,
        rows[:, LATENESS],
        rows[:, COMPUTE],
        rows[:, SLACK],
        rows[:, PROCESSOR],
        rows[:, FIRST_STAGE:],
        turn,
    )


def _outcome(stats: dict[str, Any], log: FrameLog) -> Outcome:
    # A worker's model never rests: blocks that are concealed there came too late, and the model has run for them.
    rested = stats["concealed"] if stats["path"] == "native" else 0
    return Outcome(rested, stats["events"]["failed_frames"], _notes(stats, log))


def _notes(stats: dict[str, Any], log: FrameLog) -> list[str]:
    notes = [
        f"{stats['misses']} misses and {stats['concealed']} concealed of {stats['blocks']} blocks by the loop's own "
        f"count, {stats['xruns']} gaps told by the device"
    ]
    late = {cause: count for cause, count in stats["late_chunks"].items() if count}
    if late:
        notes.append("late because of " + ", ".join(f"{cause}: {count}" for cause, count in late.items()))
    if stats["path"] == "worker":
        callback = stats["callback_us"]
        notes.append(
            f"the audio callback beside it: p50 {callback['p50']:.0f} us, p99.9 {callback['p999']:.0f} us, max "
            f"{callback['max']:.0f} us; the safety stage is in there"
        )
    if log.left_out:
        notes.append(f"{log.left_out} blocks found no room in the log and are not among these")
    if stats["message"]:
        notes.append(stats["message"])
    return notes


def _sha256(model: str | Bundle) -> str:
    return hashlib.sha256(load_model(model).model).hexdigest()


def cost_of_logging_ns(blocks: int = 2000) -> int:
    """What it takes at most to watch a block of a running stream: the laps, two clocks and the log, called from Python.

    In the native callback the same kernels are called without Python, which is many times faster.
    """
    log, laps, times = FrameLog(blocks), new_laps(on=True), np.zeros(blocks, np.int64)
    for index in range(blocks):
        started_ns = perf_counter_ns()
        begin_laps(laps, started_ns)
        for stage in range(LAST):
            lap(laps, stage)
        log.add(started_ns, 0, 0, 0, thread_time_ns() - thread_time_ns(), laps)
        times[index] = perf_counter_ns() - started_ns
    return int(np.median(times))
