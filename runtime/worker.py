"""The worker thread of the live loop: it runs the model, beside the audio thread, one chunk at a time."""

import threading
from time import perf_counter_ns, thread_time_ns
from typing import Protocol

import numpy as np

from .denormals import flush_denormals
from .exchange import Exchange
from .framelog import FrameLog
from .ledger import Ledger
from .realtime import WORKER_PRIORITY, raise_priority
from .stages import ON, begin_laps, new_laps
from .telemetry import Times

# Failures in a row after which the model is given up. A failing step costs as much as a good one and helps nobody.
FAILURES_TO_GIVE_UP = 100

CAUSES = ("compute", "scheduling", "host")


class WetPathLike(Protocol):
    """What the worker runs: a WetPath, or something like it."""

    latency: Ledger
    latency_samples: int

    @property
    def events(self) -> dict[str, int]: ...

    @property
    def frame_count(self) -> int: ...

    def process(self, samples: np.ndarray, out: np.ndarray) -> None: ...

    def reset(self) -> None: ...


class WorkerTelemetry:
    """What the worker counts; it outlives the worker.

    Attributes
    ----------
    compute : Times
        Duration of each chunk, by the clock on the wall.
    wake : Times
        From the completion of a chunk to the start of work on it, where the worker was waiting for it.
    dropped : int
        Chunks that were left out to catch up.
    late : dict
        Chunks that came too late, by cause. `compute`: the thread was charged with more processor time than a frame
        lasts, to which a virtual machine may add what its host took away. `scheduling`: the thread was not run, or
        interrupted, by the system. `host`: the device asked sooner than its block size promised.
    failures : int
        Chunks in which the model raised an error or failed at a frame; `message` tells the last one.
    log : FrameLog
        Row by row what the chunks took, if there is room in it.
    """

    def __init__(self) -> None:
        self.compute, self.wake = Times(), Times()
        self.log = FrameLog()
        self.samples = self.dropped = self.failures = 0
        self.late = dict.fromkeys(CAUSES, 0)
        self.message = ""
        self.scheduling = "not started"


class Worker:
    """Takes chunks from the exchange's input ring, and writes what `path` makes of them to its wet ring.

    Whatever takes too long is still processed, because the model's memory shall not miss it, and thrown away by the
    reader. Only a backlog that is not worth catching up is left out; then, as after a failure, the output counts again
    when the path no longer holds anything from before.
    """

    def __init__(
        self, path: WetPathLike, channels: int, sample_rate: int, exchange: Exchange, telemetry: WorkerTelemetry
    ):
        chunk = exchange.hand_over.chunk
        self._path, self._exchange, self._telemetry, self._chunk = path, exchange, telemetry, chunk
        self._budget_ns = round(1e9 * exchange.hand_over.budget / sample_rate)
        self._samples = np.zeros((channels, chunk), np.float32)
        self._out = np.zeros_like(self._samples)
        self._position = 0
        self._valid_from = 0
        self._failures_in_a_row = 0
        self._cause: str | None = None  # of the lateness since the worker last woke
        self._stopping = False
        self._laps = getattr(path, "laps", new_laps())
        self._laps[ON] = telemetry.log.wanted
        self._thread = threading.Thread(target=self._run, name="hearloop worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread; one that hangs in the model is left behind."""
        self._stopping = True
        self._exchange.bell.post()
        self._thread.join(timeout=2)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do: all that has come in is processed, or the model has been given up."""
        return self._exchange.failed or self._exchange.input.end - self._position < self._chunk

    def _run(self) -> None:
        self._telemetry.scheduling = raise_priority(WORKER_PRIORITY)
        flush_denormals()
        while True:
            self._exchange.bell.wait()
            if self._stopping:
                return
            self.catch_up()
            if self._exchange.failed:
                return

    def catch_up(self) -> None:
        """Process everything that has come in; the thread does so whenever the bell rings."""
        woken_cpu_ns = thread_time_ns()
        fresh = True
        self._cause = None
        while not (self.idle or self._stopping):
            backlog = (self._exchange.input.end - self._position) // self._chunk
            too_far = backlog > self._exchange.longest_backlog
            if too_far or not self._exchange.input.read(self._position, self._samples):
                self._jump(self._position + max(backlog - 1, 1) * self._chunk)
                continue
            completed_ns = self._completed_ns()
            started_ns = perf_counter_ns()
            if fresh:
                self._telemetry.wake.add(started_ns - completed_ns)
                fresh = False
            logged = self._telemetry.log.wanted
            started_cpu_ns = thread_time_ns() if logged else 0
            begin_laps(self._laps, started_ns)
            good = self._process()
            ended_ns = perf_counter_ns()
            self._telemetry.compute.add(ended_ns - started_ns)
            if logged:
                self._telemetry.log.add(
                    started_ns,
                    started_ns - completed_ns,
                    ended_ns - started_ns,
                    completed_ns + self._budget_ns - ended_ns,
                    thread_time_ns() - started_cpu_ns,
                    self._laps,
                )
            if good and self._position >= self._valid_from:
                if self._exchange.asked[0] > self._position:
                    self._blame(ended_ns - completed_ns, thread_time_ns() - woken_cpu_ns)
                self._exchange.wet.write(self._position, self._out)
            self._position += self._chunk

    def _process(self) -> bool:
        """Run the path over the chunk; False if there is no output."""
        telemetry, frames = self._telemetry, self._path.frame_count
        failed_frames = self._path.events.get("failed_frames", 0)
        message = "the model's output is not finite or far beyond all sound, or its engine failed"
        good = True
        try:
            self._path.process(self._samples, self._out)
        except Exception as error:  # any engine, any reason: the sound goes on without it
            good, message = False, f"{type(error).__name__}: {error}"
            self._restart_path()
        telemetry.samples += self._chunk
        if good and self._path.events.get("failed_frames", 0) == failed_frames:
            if self._path.frame_count > frames:  # a chunk that completes none says nothing about the model
                self._failures_in_a_row = 0
            return True
        telemetry.failures += 1
        telemetry.message = message
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= FAILURES_TO_GIVE_UP:
            telemetry.message = f"the model failed {FAILURES_TO_GIVE_UP} times in a row and was given up; {message}"
            self._exchange.failed = True
        return good

    def _restart_path(self) -> None:
        self._valid_from = self._position + self._chunk + self._path.latency_samples
        try:
            self._path.reset()
        except Exception as error:
            self._telemetry.message = f"the model cannot be reset: {type(error).__name__}: {error}"
            self._exchange.failed = True

    def _jump(self, position: int) -> None:
        self._telemetry.dropped += (position - self._position) // self._chunk
        self._position = position
        self._valid_from = position + self._path.latency_samples

    def _completed_ns(self) -> int:
        completed_ns = self._exchange.completed_ns
        return int(completed_ns[self._position // self._chunk % len(completed_ns)])

    def _blame(self, elapsed_ns: int, processor_ns: int) -> None:
        """Count a late chunk. What is late only because the one before was late has the same cause."""
        if self._cause is None:
            if elapsed_ns <= self._budget_ns:
                self._cause = "host"
            elif processor_ns > self._budget_ns:
                self._cause = "compute"
            else:
                self._cause = "scheduling"
        self._telemetry.late[self._cause] += 1
