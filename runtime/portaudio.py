"""Sound cards, through PortAudio. Imported only by those who want one; the library itself may be missing."""

import atexit
import contextlib
import importlib
import os
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from .devices import AudioCallback, DeviceDescription, find_device
from .errors import DeviceError

CLOSING_PATIENCE_S = 3.0
JACK = "JACK Audio Connection Kit"  # as PortAudio calls it


def list_devices() -> list[DeviceDescription]:
    """All sound devices; raises DeviceError if PortAudio is not installed."""
    sounddevice = _sounddevice()
    hosts = sounddevice.query_hostapis()
    default_host = hosts[0] if hosts else {"default_input_device": -1, "default_output_device": -1}
    with contextlib.suppress(IndexError):
        default_host = hosts[sounddevice.default.hostapi]
    # A host without devices has no default; the first host that has one speaks for the system.
    default = {
        direction: next(
            (
                host[f"default_{direction}_device"]
                for host in (default_host, *hosts)
                if host[f"default_{direction}_device"] >= 0
            ),
            -1,
        )
        for direction in ("input", "output")
    }
    return [
        DeviceDescription(
            index=index,
            name=device["name"],
            host=hosts[device["hostapi"]]["name"],
            inputs=device["max_input_channels"],
            outputs=device["max_output_channels"],
            sample_rate=round(device["default_samplerate"]),
            default_input=index == default["input"],
            default_output=index == default["output"],
        )
        for index, device in enumerate(sounddevice.query_devices())
    ]


def record(seconds: float, input_device: str | int | None = None, channels: int = 2) -> tuple[np.ndarray, int]:
    """Listen at the rate that a device prefers: float32 (channels, samples), and the rate in Hz.

    Raises
    ------
    DeviceError
        If there is no such device, or it cannot record so many channels.
    """
    device = find_device(input_device, list_devices(), "input", channels)
    rate, sounddevice = device.sample_rate, _sounddevice()
    try:
        sound = sounddevice.rec(
            round(seconds * rate), rate, channels=channels, dtype="float32", device=device.index, blocking=True
        )
    except (sounddevice.PortAudioError, ValueError) as error:
        raise DeviceError(
            f"{device.name!r} cannot record {channels} channel(s) at {rate} Hz ({error}); a file can be given instead"
        ) from error
    return np.ascontiguousarray(sound.T), rate


class PortAudioDevice:
    """A sound card, or two on one clock, as one duplex stream of float32. See `devices.Device`.

    The block size is left to the host: asking for one makes PortAudio re-block, which doubles the delay on JACK.

    Parameters
    ----------
    input_device, output_device : str, int or None
        Index, part of the name, or None for the default.
    channels : int
        From the input. A single channel is played on two, where there are two.
    sample_rate : int, optional
        In Hz; by default the one that the input device prefers.
    latency : {"low", "high"} or float
        What to ask the host for; a number is in seconds.

    Raises
    ------
    DeviceError
        If PortAudio is missing, a device is unknown, or it refuses the channels or the rate.
    """

    block_sizes: tuple[int, int] | None = None
    finished = False

    def __init__(
        self,
        input_device: str | int | None = None,
        output_device: str | int | None = None,
        channels: int = 1,
        sample_rate: int | None = None,
        latency: str | float = "low",
    ):
        self._sounddevice = _sounddevice()
        devices = list_devices()
        source = find_device(input_device, devices, "input", channels)
        if output_device is None and source.outputs:
            output_device = source.index  # one device has one clock
        sink = find_device(output_device, devices, "output", channels)
        self.name = source.name if source.index == sink.index else f"{source.name} and {sink.name}"
        self.sample_rate = sample_rate or source.sample_rate
        self.input_channels = channels
        self.output_channels = max(channels, min(sink.outputs, 2))
        self.xruns = 0
        self._host = source.host
        self._latency_samples = 0.0, 0.0
        self._callback: AudioCallback | None = None
        self._stream: Any = None
        self._settings = {
            "samplerate": self.sample_rate,
            "blocksize": 0,
            "device": (source.index, sink.index),
            "channels": (self.input_channels, self.output_channels),
            "dtype": "float32",
            "latency": latency,
        }
        self._told = (
            f"{self.input_channels} in and {self.output_channels} out at {self.sample_rate} Hz; it prefers "
            f"{source.sample_rate} Hz ({source.host})"
        )
        with self._refusal():
            for check, side, count in (
                (self._sounddevice.check_input_settings, source, self.input_channels),
                (self._sounddevice.check_output_settings, sink, self.output_channels),
            ):
                check(side.index, count, "float32", samplerate=self.sample_rate)

    def start(self, callback: AudioCallback) -> None:
        self._callback = callback
        self._start(callback=self._on_audio, wrap_callback="array")

    def start_native(self, callback: int, data: int) -> None:
        cast = self._sounddevice._ffi.cast
        self._start(callback=cast("PaStreamCallback *", callback), userdata=cast("void *", data))

    def _start(self, **callback: Any) -> None:
        # PortAudio takes the callback when it opens a stream, and names the ports of each one it opens differently,
        # so this is not done before.
        with self._refusal():
            self._stream = self._sounddevice._StreamBase("duplex", **self._settings, **callback)
            self._stream.start()
        self._note_latency(self._stream)

    @property
    def input_latency_samples(self) -> float:
        self._ask_latency()
        return self._latency_samples[0]

    @property
    def output_latency_samples(self) -> float:
        self._ask_latency()
        return self._latency_samples[1]

    def _ask_latency(self) -> None:
        # PortAudio tells what a stream takes when it opens it. JACK can change its block size under one that runs, and
        # only another stream, which is opened and never started, is told what holds from then on.
        if self._host != JACK or self._stream is None:
            return
        with contextlib.suppress(self._sounddevice.PortAudioError):
            asked = self._sounddevice._StreamBase(
                "duplex", **self._settings, callback=lambda *_: None, wrap_callback="array"
            )
            self._note_latency(asked)
            asked.close()

    def _note_latency(self, stream: Any) -> None:
        input_s, output_s = stream.latency
        self._latency_samples = round(input_s * self.sample_rate, 3), round(output_s * self.sample_rate, 3)

    @contextlib.contextmanager
    def _refusal(self) -> Iterator[None]:
        try:
            yield
        except (self._sounddevice.PortAudioError, ValueError) as error:
            raise DeviceError(f"device {self.name!r} refuses {self._told}: {error}") from error

    def stop(self) -> None:
        stream, self._stream = self._stream, None
        if stream is None:
            return
        # A sound system that has gone never answers, so somebody else waits for it.
        closing = threading.Thread(target=self._close, args=(stream,), name="hearloop closing", daemon=True)
        closing.start()
        closing.join(timeout=CLOSING_PATIENCE_S)
        if closing.is_alive():
            # At exit, sounddevice would wait for the same stream once more.
            atexit.unregister(self._sounddevice._exit_handler)

    def _close(self, stream: Any) -> None:
        for step in (stream.stop, stream.close):  # `stop` plays what is pending
            with contextlib.suppress(self._sounddevice.PortAudioError):
                step()

    @property
    def fault(self) -> str | None:
        stream = self._stream
        if stream is None:
            return None
        with contextlib.suppress(self._sounddevice.PortAudioError):
            if stream.active:
                return None
        return "the stream was ended by the system"

    def _on_audio(self, indata: Any, outdata: Any, frames: int, time: Any, status: Any) -> None:
        if status:
            self.xruns += 1
        self._callback(indata, outdata, frames)  # type: ignore[misc]


def _sounddevice() -> Any:
    with _quiet_stderr():
        try:
            return importlib.import_module("sounddevice")
        except OSError as error:
            raise DeviceError(
                f"{error}; install PortAudio: `apt install libportaudio2` (Debian, Ubuntu), `dnf install portaudio` "
                "(Fedora) or `brew install portaudio` (macOS); without it, the software device still works"
            ) from error


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """PortAudio asks every sound system there might be, and the absent ones complain on the terminal."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
