"""The live loop on the worker path: any engine, in a thread beside the audio thread."""

from collections import Counter
from collections.abc import Callable

import numpy as np

from .callback import Callback
from .exchange import Exchange
from .handover import plan_hand_over
from .ledger import Ledger
from .outputstage import OutputStage
from .rings import Ring
from .session import REHEARSED_FRAMES, Setting, Telemetry, fade_out
from .worker import Worker, WorkerTelemetry


class WorkerSession:
    """Callback, output stage, exchange, worker and wet path for one block size of the host.

    Parameters
    ----------
    setting : Setting
    smallest, largest : int
        Bounds of the host's block size.
    telemetry : Telemetry
    model_telemetry : WorkerTelemetry
    tap : Ring, optional
        Receives what is heard.

    Attributes
    ----------
    callback : Callback
        For the device, until the session is retired.
    """

    def __init__(
        self,
        setting: Setting,
        smallest: int,
        largest: int,
        telemetry: Telemetry,
        model_telemetry: WorkerTelemetry,
        tap: Ring | None = None,
    ):
        self.smallest, self.largest = smallest, largest
        self.hand_over = plan_hand_over(setting.frame, setting.model_rate, setting.sample_rate, smallest, largest)
        self.chunk = self.hand_over.chunk
        self.exchange = Exchange(setting.channels, self.hand_over)
        self.retired = False
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
        self.worker = Worker(self._path, setting.channels, setting.sample_rate, self.exchange, model_telemetry)
        delays = dict(self._path.latency)
        # Chunks that end where no block ends cause the same kind of delay as frames that do.
        delays["re-blocking"] = delays.get("re-blocking", 0) + self.hand_over.delay - self.hand_over.budget
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

    def release_model(self) -> None:
        self.worker.stop()
        self.exchange.failed = True

    def retire(self) -> None:
        self.retired = True
        self.worker.stop()
