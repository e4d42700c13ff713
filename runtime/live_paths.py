"""The two paths of the live loop: the model inside the audio callback, or in a thread beside it."""

from time import perf_counter_ns
from typing import Protocol

import numpy as np

from .devices import Device
from .native_callback import callback as native_callback
from .native_session import NativeSession, NativeTelemetry
from .realtime import AUDIO_PRIORITY, raise_priority
from .rings import Ring
from .session import Session, Setting, Telemetry
from .traffic import Traffic
from .worker import WorkerTelemetry
from .worker_session import WorkerSession


class LivePath(Protocol):
    """What depends on where the model runs, for as long as the loop does.

    Attributes
    ----------
    name : str
    model_telemetry : WorkerTelemetry or NativeTelemetry
        What is counted where the model runs.
    traffic : Traffic
        What has come through the device.
    frames : int
        Frames that the model has processed.
    scheduling : dict of str to str
        Scheduling class of each thread that matters.
    """

    name: str
    traffic: Traffic

    @property
    def model_telemetry(self) -> WorkerTelemetry | NativeTelemetry: ...

    @property
    def frames(self) -> int: ...

    @property
    def scheduling(self) -> dict[str, str]: ...

    def start_device(self) -> None:
        """Let the device call back; what is heard is silence until a session is started."""

    def play(self, smallest: int, largest: int, telemetry: Telemetry, tap: Ring | None) -> Session:
        """Make a session for these block sizes, and let the device play it from its next block on."""

    def rehearse(self, smallest: int, largest: int) -> None:
        """Let a session that has nothing but the model in common with the real one do everything once."""

    def attend(self) -> None:
        """Do what can only be done once the device calls back."""


class WorkerPath:
    """Any engine, in a thread of its own. See `LivePath`."""

    name = "worker"

    def __init__(self, setting: Setting, device: Device):
        self.model_telemetry = WorkerTelemetry()
        self.traffic = Traffic(device.input_channels, device.output_channels)
        self._setting, self._device = setting, device
        self._session: WorkerSession | None = None

    @property
    def frames(self) -> int:
        setting = self._setting
        return self.model_telemetry.samples * setting.model_rate // (setting.sample_rate * setting.frame)

    @property
    def scheduling(self) -> dict[str, str]:
        audio = self._session.callback.scheduling if self._session else "not started"
        return {"audio": audio, "worker": self.model_telemetry.scheduling}

    def start_device(self) -> None:
        self._device.start(self._on_audio)

    def play(self, smallest: int, largest: int, telemetry: Telemetry, tap: Ring | None) -> WorkerSession:
        session = WorkerSession(self._setting, smallest, largest, telemetry, self.model_telemetry, tap)
        self.traffic.forget_sizes()
        session.start()
        self._session = session
        return session

    def rehearse(self, smallest: int, largest: int) -> None:
        session = WorkerSession(self._setting, smallest, largest, Telemetry(), WorkerTelemetry())
        session.rehearse(self._device.output_channels)

    def attend(self) -> None:
        pass

    def _on_audio(self, indata: np.ndarray, outdata: np.ndarray, frames: int) -> None:
        self.traffic.note(frames, perf_counter_ns())
        session = self._session
        if session is not None and not session.retired:
            session.callback(indata, outdata, frames)
        else:
            outdata.fill(0)


class NativePath:
    """An engine whose step is a C function, inside the audio callback. See `LivePath`."""

    name = "native"

    def __init__(self, setting: Setting, device: Device):
        self.model_telemetry = NativeTelemetry()
        self.traffic = Traffic(device.input_channels, device.output_channels)
        self._setting, self._device = setting, device
        self.scheduling = {"audio": "not started"}

    @property
    def frames(self) -> int:
        return self.model_telemetry.frames

    def start_device(self) -> None:
        self._device.start_native(native_callback.address, self.traffic.numbers.ctypes.data)

    def play(self, smallest: int, largest: int, telemetry: Telemetry, tap: Ring | None) -> NativeSession:
        session = NativeSession(self._setting, smallest, largest, telemetry, self.model_telemetry, self.traffic, tap)
        self.traffic.forget_sizes()
        session.start()
        return session

    def rehearse(self, smallest: int, largest: int) -> None:
        traffic = Traffic(self._device.input_channels, self._device.output_channels)
        session = NativeSession(self._setting, smallest, largest, Telemetry(), NativeTelemetry(), traffic)
        session.rehearse(self._device.output_channels)

    def attend(self) -> None:
        # The callback runs no Python, so its thread cannot do this itself.
        if self.scheduling["audio"] == "not started" and self.traffic.thread:
            self.scheduling["audio"] = raise_priority(AUDIO_PRIORITY, self.traffic.thread)
