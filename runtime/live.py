"""The live loop: microphones, a model, headphones, until somebody says stop.

It takes one of two paths. An engine whose step is a C function runs inside the callback, and all of it is machine
code (see native_callback.py):

    device --> wet path --> output stage --> device

Any other engine runs in a thread of its own. The callback belongs to the sound system and never waits, and the worker
has one frame of time for each frame, which is the one frame of delay that this path costs (see handover.py):

    device --> callback --> input ring --> worker: wet path
                  |                              |
    device <-- output stage <---- wet ring <-----+
"""

import contextlib
import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from .bundle import Bundle
from .controls import Controls
from .devices import Device
from .engine import Engine, NativeEngine, open_engine
from .errors import DeviceError, EngineError, HearloopError
from .framelog import FrameLog
from .ledger import Ledger
from .live_paths import LivePath, NativePath, WorkerPath
from .load import load_step
from .realtime import Quiet, environment
from .recording import Recording
from .session import Setting, Telemetry, WetPathMaker
from .succession import Succession
from .telemetry import Times
from .voice import Voice, check_voice, steering_map
from .wetpath import WetPath, expect_bundle

PATHS = ("auto", "native", "worker")

BLOCKS_TO_LISTEN = 8
PATIENCE_S = 3.0
SILENCE_S = 2.0
# Seldom: a thread that is interrupted by other programs while it holds the GIL holds up the audio threads too.
POLL_S = 0.1
LISTENING_POLL_S = 0.01


class LiveLoop:
    """Runs a model between the input and the output of a sound device.

    Parameters
    ----------
    model : str, Path, Bundle
        Name of a shipped bundle, path of a bundle file, or a loaded bundle.
    device : Device
        Opened, not started. Its input channels are processed, and each is heard on its output; one on all outputs.
    engine : {"auto", "ort", "compiled"}
    controls : Controls, optional
        May be changed at any time, from any thread.
    ceiling_dbfs : float
        No output sample ever exceeds this.
    record : Path, optional
        Sound file to write what is heard to.
    wet_path : callable, optional
        Makes a substitute for the model's WetPath, from the number of samples per call. `model` is then not opened.
    path : {"auto", "native", "worker"}
        Whether the model runs inside the callback or in a thread of its own; "auto" takes the former if it can.
    log : FrameLog, optional
        Receives the times of every block, and of its stages.
    voice : Voice, optional
        Whom a model of task "target" shall let through; `listen_to` chooses another.

    Raises
    ------
    BundleError
        If the model is an ONNX file that is no bundle.
    DeviceError
        If the device has several input channels, but not as many output channels.
    EngineError
        If the path is unknown, or native and the engine has no step that is a C function.
    HearloopError
        If the controls have another number of source gains than the model has sources, or the model needs a voice and
        none is given, or the other way round.

    Attributes
    ----------
    path : str
        "native" or "worker".
    controls : Controls
    telemetry : Telemetry
        `tally` of the blocks, with levels; times of the `callback`, and the `slack` that it left.
    fault : str
        How the device has vanished.

    Examples
    --------
    >>> with LiveLoop("enhance-small", PortAudioDevice()) as loop:
    ...     loop.wait(10)
    >>> print(loop.stats()["misses"])
    """

    def __init__(
        self,
        model: str | Path | Bundle,
        device: Device,
        engine: str = "auto",
        controls: Controls | None = None,
        ceiling_dbfs: float = -1.0,
        record: Path | None = None,
        wet_path: WetPathMaker | None = None,
        path: str = "auto",
        log: FrameLog | None = None,
        voice: Voice | None = None,
    ):
        if path not in PATHS:
            raise EngineError(f"path is {path!r}; expected one of {', '.join(PATHS)}")
        if device.input_channels not in (1, device.output_channels):
            raise DeviceError(
                f"device {device.name!r} has {device.input_channels} input channels and {device.output_channels} "
                "output channels; expected one input channel, or as many as there are outputs"
            )
        self.device, self.controls = device, controls or Controls()
        self.channels, self.sample_rate = device.input_channels, device.sample_rate
        self._engine: Engine | None = None
        self._model = model
        self.model_name = "none"
        model_rate, frame, native = 16000, 128, False
        if wet_path is None:
            self._model = model = load_step(model)
            # Only machine code can run inside the callback, so there is no beginning with something else.
            opened = self._engine = open_engine(model, "compiled" if (path, engine) == ("native", "auto") else engine)
            info = expect_bundle(opened)
            self.controls.expect_sources(info.sources, info.name)
            check_voice(info, voice)
            if voice is not None:
                self.listen_to(voice)
            self.model_name, model_rate, frame = info.name, info.sample_rate, info.frame
            wet_path, native = self._wet_path_maker(opened), isinstance(opened, NativeEngine)
        if path == "native" and not native:
            raise EngineError(f"engine {self.engine_name!r} cannot take the native path; use path 'worker' or 'auto'")
        self._setting = Setting(
            self.channels, self.sample_rate, model_rate, frame, wet_path, self.controls, ceiling_dbfs
        )
        in_callback = native and path != "worker"
        self._path: LivePath = (NativePath if in_callback else WorkerPath)(self._setting, device)
        self.path = self._path.name
        if log is not None:
            self._path.model_telemetry.log = log
        self._record = record
        self._recording: Recording | None = None
        self._quiet = Quiet()
        self.telemetry = Telemetry()
        self._sessions = Succession(self._path, device, self.telemetry)
        self.fault = ""
        self._started_ns = self._ended_ns = 0
        # One thread at a time starts, stops, or follows the device; the next one finds what has become of the loop.
        # A signal's handler runs in a thread that may be at that itself: it must not wait, and leaves word.
        self._lock = threading.RLock()
        self._busy = self._stop_wanted = False
        self._last_sample: int | None = None

    @property
    def engine_name(self) -> str:
        """Of the engine that runs now; "auto" may begin with one and go on with another."""
        return self._engine.name if self._engine is not None else "none"

    @property
    def engine_note(self) -> str:
        """Why the model is not run as machine code, where that was wanted and is known."""
        return str(getattr(self._engine, "note", ""))

    def _wet_path_maker(self, engine: Engine) -> WetPathMaker:
        return lambda chunk: WetPath(engine, self.channels, self.sample_rate, chunk, controls=self.controls)

    def listen_to(self, voice: Voice) -> None:
        """Let another voice through from now on; as `Processor.listen_to`, at any time and from any thread."""
        self.controls.steer(steering_map(self._model, voice))

    def start(self) -> None:
        """Set everything up, start the device, and open the output with a ramp.

        Raises
        ------
        DeviceError
            If the device does not start, or does not call back.
        HearloopError
            If the loop has been started before.
        """
        with self._undivided():
            if self._started_ns:
                raise HearloopError(
                    f"the live loop on {self.device.name!r} has been started before, {self.seconds:.1f} s of it; "
                    "expected a new LiveLoop, for each runs once"
                )
            smallest, largest = self.device.block_sizes or (self._setting.frame, self._setting.frame)
            self._path.rehearse(smallest, largest)
            tap = None
            if self._record:
                self._recording = Recording(self._record, self.channels, self.sample_rate)
                tap = self._recording.ring
            self._quiet.__enter__()
            self._started_ns = perf_counter_ns()
            try:
                if self.device.block_sizes:
                    self._sessions.begin(*self.device.block_sizes, tap)
                self._path.start_device()
                if self._sessions.current is None:
                    self._listen()
                    self._sessions.begin(self._path.traffic.smallest, self._path.traffic.largest, tap)
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """Close the output with a ramp, then the device. May be called more than once, and from any thread.

        A signal's handler that interrupts `start`, `check` or `stop` itself comes back at once, and the loop is stopped
        where that would end.
        """
        with self._lock:
            if self._busy:
                self._stop_wanted = True
            elif self._started_ns and not self._ended_ns:
                with self._undivided():
                    self._sessions.end(gone=lambda: bool(self.fault or self.device.fault))
                    self.device.stop()
                    self._ended_ns = perf_counter_ns()
                    self._quiet.__exit__()
                    if self._recording:
                        self._recording.close()

    @contextlib.contextmanager
    def _undivided(self) -> Iterator[None]:
        """Keep other threads waiting, and `stop` from coming in between."""
        with self._lock:
            self._busy = True
            try:
                yield
            finally:
                self._busy = False
                if self._stop_wanted:
                    self._stop_wanted = False
                    self.stop()

    def __enter__(self) -> "LiveLoop":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait(self, seconds: float | None = None) -> None:
        """Let it run for so long, until it is stopped, or the device has no more input and all of it has been heard.

        Raises
        ------
        DeviceError
            If the device vanishes.
        HearloopError
            If the loop has not been started.
        """
        deadline_ns = math.inf if seconds is None else perf_counter_ns() + 1e9 * seconds
        while perf_counter_ns() < deadline_ns and not (self._ended_ns or self.finished):
            self.check()
            time.sleep(min(POLL_S, max(deadline_ns - perf_counter_ns(), 0) / 1e9))

    def check(self) -> None:
        """Raise DeviceError if the device has vanished; follow it if its block size has changed.

        Once the loop is stopped there is nothing to do; before it is started this is a HearloopError.
        """
        with self._undivided():
            if not self._started_ns:
                raise HearloopError(f"the live loop on {self.device.name!r} does not run; expected `start` before this")
            if self._ended_ns:
                return
            fault, traffic = self.device.fault, self._path.traffic
            silent_s = (perf_counter_ns() - max(traffic.heard_ns, self._started_ns)) / 1e9
            if fault is None and silent_s > max(SILENCE_S, 20 * traffic.largest / self.sample_rate):
                fault = "it does not call back any more"
            if self.device.finished and self._last_sample is None:
                self._last_sample = traffic.samples
            if fault is not None:
                self.fault = f"device {self.device.name!r} has vanished after {self.seconds - silent_s:.1f} s: {fault}"
                raise DeviceError(self.fault)
            self._path.attend()
            self._sessions.follow()

    @property
    def latency(self) -> Ledger:
        """From microphone to headphones, in samples of the device's rate; known once the loop runs."""
        return self._sessions.latency

    @property
    def finished(self) -> bool:
        """Whether the device has no more input, and all of it has been heard."""
        return self._last_sample is not None and self._path.traffic.samples >= self._last_sample + self.latency.total

    @property
    def seconds(self) -> float:
        """How long the loop has run."""
        return ((self._ended_ns or perf_counter_ns()) - self._started_ns) / 1e9 if self._started_ns else 0.0

    @property
    def settled(self) -> bool:
        """Whether nobody has anything to do: all that has come in is processed."""
        session = self._sessions.current
        return session is None or session.idle

    @property
    def compute(self) -> Times:
        """What the model takes, with its signal processing, for a frame or for a chunk of the worker."""
        return self._path.model_telemetry.compute

    @property
    def xruns(self) -> int:
        """Gaps that the device has reported."""
        return self.device.xruns + self._path.traffic.xruns

    def stats(self) -> dict[str, Any]:
        """Everything that was counted, as plain numbers and texts; at any time, also after a fault.

        `frames` that the model has processed; `misses` and `concealed` in blocks (see `Tally`); `late_chunks` by cause,
        `dropped_chunks` and `failures` (see `WorkerTelemetry` and `NativeTelemetry`); `xruns` that the device has
        reported; `ledger` in samples of the device's rate, `latency_samples` its total in samples of the model's rate;
        times in us; `recording`, None without one, is complete after `stop`. `message` tells what has gone wrong.
        """
        setting, path, session = self._setting, self._path, self._sessions.current
        tally, model_telemetry, traffic = self.telemetry.tally, path.model_telemetry, path.traffic
        recording = self._recording.to_json() if self._recording else None
        message = model_telemetry.message or (session.message if session else "")
        causes = (message, recording["message"] if recording else "")
        return {
            "model": self.model_name,
            "engine": self.engine_name,
            "path": self.path,
            "device": self.device.name,
            "sample_rate": self.sample_rate,
            "channels": self.channels,
            "seconds": round(self.seconds, 3),
            "frames": path.frames,
            "blocks": tally.blocks,
            "block_sizes": [traffic.smallest, traffic.largest],
            "misses": tally.misses,
            "longest_miss_run": tally.longest_miss_run,
            "concealed": tally.concealed,
            "bypasses": tally.bypasses,
            "xruns": self.xruns,
            "late_chunks": dict(model_telemetry.late),
            "dropped_chunks": model_telemetry.dropped,
            "failures": model_telemetry.failures,
            "callback_errors": session.callback_errors if session else 0,
            "events": {"failed_frames": 0, "bad_samples": 0, **self._sessions.events},
            "recording": recording,
            "message": self.fault or "; ".join(filter(None, causes)),
            "latency_samples": round(self.latency.at_rate(setting.model_rate).total, 3),
            "latency_ms": round(self.latency.total_ms, 3),
            "ledger": {name: round(samples, 3) for name, samples in self.latency.items()},
            "chunk_samples": session.chunk if session else None,
            "compute_us": model_telemetry.compute.to_json(),
            "wake_us": model_telemetry.wake.to_json(),
            "callback_us": self.telemetry.callback.to_json(),
            "slack_us": self.telemetry.slack.to_json(),
            "environment": {
                **environment(),
                "scheduling": path.scheduling,
                "semaphore": session.semaphore if session else None,
                "memory": self._quiet.memory,
                "garbage_collections": self._quiet.collections,
            },
        }

    def _listen(self) -> None:
        """Wait until the host's block size is known; until then the output is silent."""
        deadline_ns = perf_counter_ns() + 1e9 * PATIENCE_S
        traffic = self._path.traffic
        while traffic.blocks < BLOCKS_TO_LISTEN:
            if perf_counter_ns() > deadline_ns or self.device.fault:
                raise DeviceError(
                    f"device {self.device.name!r}: {traffic.blocks} callbacks within {PATIENCE_S:g} s of its start, "
                    f"expected {BLOCKS_TO_LISTEN} ({self.device.fault or 'no fault reported'})"
                )
            time.sleep(LISTENING_POLL_S)
