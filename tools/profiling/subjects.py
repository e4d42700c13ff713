"""What is measured: a model within the chain that runs it live, or its bare step.

A bundle says how audio becomes its input, so that the whole chain can be run, as the live loop would run it:

    compiled   the callback of the native path, machine code from the device's samples to the device's samples
    ort        what the worker and the callback do, one after the other in one thread

Of any other model only the step is known.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import perf_counter_ns

import numpy as np

from ...runtime.bundle import Bundle
from ...runtime.bundle_info import BundleInfo
from ...runtime.compiled_engine import CompiledEngine
from ...runtime.controls import Controls
from ...runtime.devices import C_CALLBACK
from ...runtime.errors import BundleError
from ...runtime.ledger import Ledger
from ...runtime.native_callback import callback
from ...runtime.native_session import NativeSession, NativeTelemetry
from ...runtime.ort import OrtEngine
from ...runtime.ort_session import open_session
from ...runtime.outputstage import OutputStage
from ...runtime.session import Setting, Telemetry
from ...runtime.stages import MODEL, ON, SAFETY, begin_laps, lap, new_laps
from ...runtime.traffic import Traffic
from ...runtime.wetpath import WetPath
from ...runtime.worker import WorkerTelemetry
from ...runtime.worker_session import WorkerSession
from .schedule import Job
from .signals import Signal

CEILING_DBFS = -1.0
LARGEST_BLOCK = 65536  # samples; longer than what any device asks for


@dataclass(frozen=True)
class Work:
    """How the audio comes: rate in Hz, channels, samples per block; `period_ms` between steps of a bare model."""

    sample_rate: int = 16000
    channels: int = 1
    block: int = 128
    period_ms: float = 8.0
    signal: str = "noise"
    threads: int = 1

    @property
    def block_ns(self) -> int:
        return round(1e9 * self.block / self.sample_rate)


@dataclass(frozen=True)
class Outcome:
    """What is to be told after a run, besides its times.

    Attributes
    ----------
    rested : int
        Blocks that were played without the model, because it was too slow or was given up.
    failed_frames : int
        At which the model gave nothing that can be sound.
    notes : list of str
    """

    rested: int = 0
    failed_frames: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass
class Subject:
    """Something to measure, with what is to be told about it.

    Attributes
    ----------
    runs : str
        What of the chain is run.
    ledger : Ledger or None
        From the microphone to the headphones, as far as it is known without a device.
    """

    model: str
    engine: str
    job: Job
    runs: str
    sha256: str = ""
    ledger: Ledger | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.model} {self.engine}".strip()

    def outcome(self) -> "Outcome":
        return self.job.outcome() if hasattr(self.job, "outcome") else Outcome()


def open_subject(bundle: Bundle, engine: str, work: Work) -> Subject:
    """A model with an engine, "compiled" or "ort", in its chain if it has one.

    Raises
    ------
    EngineError
        If the engine cannot run this model.
    """
    opened = (
        CompiledEngine(bundle)
        if engine == "compiled"
        else OrtEngine(bundle, open_session(bundle.model, work.threads, streaming=True))
    )
    subject = Subject(
        bundle.info.name, engine, BareStep(opened, work), "step", hashlib.sha256(bundle.model).hexdigest()
    )
    if not isinstance(bundle.info, BundleInfo):
        subject.notes.append("no bundle: the step alone, without the signal processing around it")
        return subject
    try:
        chain = NativeChain(opened, work) if isinstance(opened, CompiledEngine) else WorkerChain(opened, work)
    except BundleError as error:
        subject.notes.append(f"the step alone: {error}")
        return subject
    subject.job, subject.runs, subject.ledger = chain, chain.runs, chain.ledger
    return subject


class BareStep:
    """An engine's step, and nothing around it."""

    def __init__(self, engine: CompiledEngine | OrtEngine, work: Work):
        self.engine = engine
        self.period_ns, self.laps = round(1e6 * work.period_ms), new_laps(on=True)
        self._signals = {name: Signal(work.signal, array.shape) for name, array in engine.inputs.items()}

    def feed(self, index: int) -> None:
        for name, signal in self._signals.items():
            signal.fill(index, self.engine.inputs[name])

    def run(self) -> None:
        begin_laps(self.laps, perf_counter_ns())
        self.engine.run()
        lap(self.laps, MODEL)


class NativeChain:
    """The native path's callback, called as a device calls it."""

    runs = "native callback"

    def __init__(self, engine: CompiledEngine, work: Work):
        self.period_ns = work.block_ns
        channels = work.channels
        path: list[WetPath] = []

        def make(block: int | None) -> WetPath:
            path.append(WetPath(engine, channels, work.sample_rate, block))
            return path[-1]

        info = engine.info
        setting = Setting(channels, work.sample_rate, info.sample_rate, info.frame, make, Controls(), CEILING_DBFS)
        self._telemetry, self._traffic = Telemetry(), Traffic(channels, channels)
        self._session = NativeSession(
            setting, work.block, work.block, self._telemetry, NativeTelemetry(), self._traffic
        )
        self.laps = path[0].laps
        self.laps[ON] = True
        self._input = np.zeros((work.block, channels), np.float32)
        self._output = np.zeros_like(self._input)
        self._signal = Signal(work.signal, self._input.shape)
        self._call = C_CALLBACK(callback.address)
        arrays = self._input, self._output, self._traffic.numbers
        self._arguments = [array.ctypes.data for array in arrays]
        self._block = work.block
        self.ledger = Ledger(work.sample_rate, {"device input": float(work.block), **self._session.latency})
        self._session.start()

    def feed(self, index: int) -> None:
        self._signal.fill(index, self._input)

    def run(self) -> None:
        given, made, data = self._arguments
        self._call(given, made, self._block, None, 0, data)

    def outcome(self) -> Outcome:
        tally, events, notes = self._telemetry.tally, self._session.events, []
        if tally.bypasses:
            notes.append(f"too slow: the loop let the model rest during {tally.concealed} blocks; they are among these")
        if self._session.message:
            notes.append(self._session.message)
        return Outcome(tally.concealed, events["failed_frames"], notes + _failures(events))


class WorkerChain:
    """The wet path and the output stage, one after the other in one thread."""

    runs = "worker's chain"

    def __init__(self, engine: OrtEngine, work: Work):
        self.period_ns = work.block_ns
        channels, rate, info = work.channels, work.sample_rate, engine.info

        def make(block: int | None) -> WetPath:
            return WetPath(engine, channels, rate, block)

        # The ledger is that of the live loop, which hands the work to a second thread.
        setting = Setting(channels, rate, info.sample_rate, info.frame, make, Controls(), CEILING_DBFS)
        live = WorkerSession(setting, work.block, work.block, Telemetry(), WorkerTelemetry())
        self.ledger = Ledger(rate, {"device input": float(work.block), **live.latency})
        self._path = make(work.block)
        self._path.reset()
        self._stage = OutputStage(channels, rate, self._path.latency_samples, Controls(), CEILING_DBFS)
        self._stage.start()
        self.laps = self._path.laps
        self.laps[ON] = True
        self._input = np.zeros((channels, work.block), np.float32)
        self._wet, self._heard = np.zeros_like(self._input), np.zeros_like(self._input)
        self._signal = Signal(work.signal, self._input.shape)

    def feed(self, index: int) -> None:
        self._signal.fill(index, self._input)

    def run(self) -> None:
        begin_laps(self.laps, perf_counter_ns())
        self._path.process(self._input, self._wet)
        self._stage.process(self._input, self._wet, True, self._heard)
        lap(self.laps, SAFETY)

    def outcome(self) -> Outcome:
        events = self._path.events
        return Outcome(failed_frames=events["failed_frames"], notes=_failures(events))


def _failures(events: Mapping[str, int]) -> list[str]:
    return [f"{count} {name.replace('_', ' ')}" for name, count in events.items() if count]
