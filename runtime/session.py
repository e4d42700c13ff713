"""Everything of the live loop that depends on the host's block size, built, rehearsed and ended as one.

This is the worker form: any engine, beside the audio thread. For the other one see native_session.py.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Protocol

import numpy as np

from .callback import Callback, Tally
from .controls import Controls
from .exchange import Exchange
from .handover import plan_hand_over
from .ledger import Ledger
from .outputstage import OutputStage
from .rings import Ring
from .telemetry import Times
from .worker import WetPathLike, Worker, WorkerTelemetry

REHEARSED_FRAMES = 16
FADE_PATIENCE_S = 0.5
FADE_POLL_S = 0.01

# Makes a wet path that is fed with so many samples at a time; None for any number.
WetPathMaker = Callable[[int | None], WetPathLike]


@dataclass(frozen=True)
class Setting:
    """What stays the same whatever the block size is. Rates in Hz, `frame` in samples at `model_rate`."""

    channels: int
    sample_rate: int
    model_rate: int
    frame: int
    make_wet_path: WetPathMaker
    controls: Controls
    ceiling_dbfs: float


@dataclass
class Telemetry:
    """What is counted over all sessions of a loop: blocks, the duration of a call, and what it left of its block."""

    tally: Tally = field(default_factory=Tally)
    callback: Times = field(default_factory=Times)
    slack: Times = field(default_factory=Times)


class Session(Protocol):
    """What the live loop runs between two changes of the block size.

    Attributes
    ----------
    smallest, largest : int
        Block sizes that it is made for.
    chunk : int
        Samples that the wet path is given at a time.
    latency : Ledger
        From the callback's input to its output.
    retired : bool
        It is over, and its numbers stay.
    events : Counter
        Those of the wet path.
    idle : bool
        There is nothing to do: all that has come in is processed.
    callback_errors : int
    message : str
        What has last gone wrong.
    semaphore : str or None
        What wakes the worker.
    """

    smallest: int
    largest: int
    chunk: int
    latency: Ledger
    retired: bool

    @property
    def events(self) -> Counter[str]: ...

    @property
    def idle(self) -> bool: ...

    @property
    def callback_errors(self) -> int: ...

    @property
    def message(self) -> str: ...

    @property
    def semaphore(self) -> str | None: ...

    def start(self) -> None:
        """Begin, and open the output with a ramp."""

    def rehearse(self, output_channels: int) -> None:
        """Do everything once in this thread, so that a stream does nothing for the first time; instead of `start`."""

    def fade_out(self, gone: Callable[[], bool]) -> None:
        """Close the output with a ramp, and wait for its end, unless the device is `gone`."""

    def retire(self) -> None:
        """End. The callback does not touch the session any more when this returns."""


class WorkerSession:
    """Callback, output stage, exchange, worker and wet path for one block size of the host.

    Parameters
    ----------
    setting : Setting
    smallest, largest : int
        Bounds of the host's block size.
    telemetry : Telemetry
    model : WorkerTelemetry
    tap : Ring, optional
        Receives what is heard.

    Attributes
    ----------
    callback : Callback
        For the device, while the session is `running`.
    """

    def __init__(
        self,
        setting: Setting,
        smallest: int,
        largest: int,
        telemetry: Telemetry,
        model: WorkerTelemetry,
        tap: Ring | None = None,
    ):
        self.smallest, self.largest = smallest, largest
        self.hand_over = plan_hand_over(setting.frame, setting.model_rate, setting.sample_rate, smallest, largest)
        self.chunk = self.hand_over.chunk
        self.exchange = Exchange(setting.channels, self.hand_over)
        self.retired = self.running = False
        self._channels = setting.channels
        self._path = setting.make_wet_path(self.hand_over.chunk)
        self._path.reset()  # the engine may have run before
        delay = self._path.latency_samples + self.hand_over.delay
        self._stage = OutputStage(setting.channels, setting.sample_rate, delay, setting.controls, setting.ceiling_dbfs)
        self.callback = Callback(
            self.exchange,
            self._stage,
            setting.channels,
            setting.sample_rate,
            telemetry.tally,
            telemetry.callback,
            telemetry.slack,
            tap,
        )
        self.worker = Worker(self._path, setting.channels, setting.sample_rate, self.exchange, model)
        delays = dict(self._path.latency)
        # Chunks that end where no block ends cause the same kind of delay as frames that do.
        delays["re blocking"] = delays.get("re blocking", 0) + self.hand_over.delay - self.hand_over.budget
        self.latency = Ledger(setting.sample_rate, {**delays, "worker": self.hand_over.budget})

    @property
    def events(self) -> Counter[str]:
        return Counter(self._path.events)

    @property
    def idle(self) -> bool:
        return self.retired or self.worker.idle

    @property
    def callback_errors(self) -> int:
        return self.callback.errors

    @property
    def message(self) -> str:
        return self.callback.error

    @property
    def semaphore(self) -> str | None:
        return self.exchange.bell.name

    def start(self) -> None:
        self.worker.start()
        self._stage.start()
        self.running = True

    def rehearse(self, output_channels: int) -> None:
        frames = self.hand_over.largest
        indata = np.zeros((frames, self._channels), np.float32)
        outdata = np.zeros((frames, output_channels), np.float32)
        self._stage.start()
        for _ in range(-(-REHEARSED_FRAMES * self.hand_over.budget // frames)):
            self.callback.play(indata, outdata, frames)
            self.worker.catch_up()

    def fade_out(self, gone: Callable[[], bool]) -> None:
        fade_out(self._stage, gone)

    def retire(self) -> None:
        self.retired, self.running = True, False
        self.worker.stop()


def fade_out(stage: OutputStage, gone: Callable[[], bool]) -> None:
    """Close the output with a ramp, and wait for its end, unless the device is `gone`."""
    stage.stop()
    deadline_ns = perf_counter_ns() + 1e9 * FADE_PATIENCE_S
    while not (stage.silent or gone()) and perf_counter_ns() < deadline_ns:
        time.sleep(FADE_POLL_S)
