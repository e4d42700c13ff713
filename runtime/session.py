"""Everything of the live loop that depends on the host's block size, built, rehearsed and ended as one."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter_ns

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

# Makes a wet path that is fed with so many samples at a time.
WetPathMaker = Callable[[int], WetPathLike]


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
    """What is counted over all sessions of a loop."""

    tally: Tally = field(default_factory=Tally)
    callback: Times = field(default_factory=Times)
    worker: WorkerTelemetry = field(default_factory=WorkerTelemetry)


class Session:
    """Callback, output stage, exchange, worker and wet path for one block size of the host.

    Parameters
    ----------
    setting : Setting
    smallest, largest : int
        Bounds of the host's block size.
    telemetry : Telemetry
    tap : Ring, optional
        Receives what is heard.

    Attributes
    ----------
    callback : Callback
        For the device, from `start` to `retire`.
    latency : Ledger
        From the callback's input to its output.
    events : Counter
        Those of the wet path.
    """

    def __init__(self, setting: Setting, smallest: int, largest: int, telemetry: Telemetry, tap: Ring | None = None):
        self.hand_over = plan_hand_over(setting.frame, setting.model_rate, setting.sample_rate, smallest, largest)
        self.exchange = Exchange(setting.channels, self.hand_over)
        self.retired = False
        self._channels = setting.channels
        self._path = setting.make_wet_path(self.hand_over.chunk)
        self._path.reset()  # the engine may have run before
        delay = self._path.latency_samples + self.hand_over.delay
        self._stage = OutputStage(setting.channels, setting.sample_rate, delay, setting.controls, setting.ceiling_dbfs)
        self.callback = Callback(self.exchange, self._stage, setting.channels, telemetry.tally, telemetry.callback, tap)
        self.worker = Worker(self._path, setting.channels, setting.sample_rate, self.exchange, telemetry.worker)
        delays = dict(self._path.latency)
        # Chunks that end where no block ends cause the same kind of delay as frames that do.
        delays["re blocking"] = delays.get("re blocking", 0) + self.hand_over.delay - self.hand_over.budget
        self.latency = Ledger(setting.sample_rate, {**delays, "worker": self.hand_over.budget})

    @property
    def events(self) -> Counter[str]:
        return Counter(self._path.events)

    def start(self) -> None:
        """Let the worker run, and open the output with a ramp."""
        self.worker.start()
        self._stage.start()

    def rehearse(self, output_channels: int) -> None:
        """Do everything once in this thread, so that a stream does nothing for the first time; instead of `start`."""
        frames = self.hand_over.largest
        indata = np.zeros((frames, self._channels), np.float32)
        outdata = np.zeros((frames, output_channels), np.float32)
        self._stage.start()
        for _ in range(-(-REHEARSED_FRAMES * self.hand_over.budget // frames)):
            self.callback.play(indata, outdata, frames)
            self.worker.catch_up()

    def fade_out(self, gone: Callable[[], bool]) -> None:
        """Close the output with a ramp, and wait for its end, unless the device is `gone`."""
        self._stage.stop()
        deadline_ns = perf_counter_ns() + 1e9 * FADE_PATIENCE_S
        while not (self._stage.silent or gone()) and perf_counter_ns() < deadline_ns:
            time.sleep(FADE_POLL_S)

    def retire(self) -> None:
        """End the worker. The callback must not be called any more."""
        self.retired = True
        self.worker.stop()
