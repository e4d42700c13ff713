"""A sound device made of software: it plays a recording into the microphone and keeps what the headphones get.

No sound card, no PortAudio. Its clock is real: the callbacks come at absolute times, as those of a sound card do, so
that what is measured on it is the behaviour of a live stream.
"""

import itertools
import math
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile

from .devices import AudioCallback, python_callback
from .errors import AudioError, DeviceError

# A sound card has at least one block in hand when a callback is late; only then is there a gap.
PATIENCE_BLOCKS = 2
TAIL_S = 1.0
BLOCK_S = 0.008


class Clock(Protocol):
    """Tells the software device when a block has been captured."""

    def wait(self, seconds: float) -> float:
        """Sleep until so long after the start; returns how late it is, in seconds. An exception ends the stream."""

    def postpone(self, seconds: float) -> None:
        """Let everything happen so much later."""


class RealTimeClock:
    """The time of the wall, from the first call on."""

    def __init__(self) -> None:
        self._start: float | None = None

    def wait(self, seconds: float) -> float:
        if self._start is None:
            self._start = time.perf_counter()
        left = self._start + seconds - time.perf_counter()
        if left > 0:
            time.sleep(left)
        return time.perf_counter() - self._start - seconds

    def postpone(self, seconds: float) -> None:
        if self._start is not None:
            self._start += seconds


class SoftwareDevice:
    """A recording as microphone and an array as headphones. See `devices.Device`.

    Parameters
    ----------
    audio : ndarray, float32, shape (channels, samples)
        What the microphones hear; repeated, or cut, to `seconds`, and followed by silence.
    sample_rate : int
        In Hz.
    block_size : int or sequence of int, optional
        Frames per callback; several sizes take turns. By default 8 ms.
    seconds : float, optional
        Length of the stream; by default that of the recording. `math.inf` repeats for ever.
    output_channels : int, optional
        By default as many as the input has.
    keep_output : bool
        Keep what the headphones play, which takes memory for all of `seconds`. An endless device keeps nothing.
    clock : Clock, optional

    Attributes
    ----------
    output : ndarray, float32, shape (output_channels, samples)
        What the headphones have played since the start of the stream, on the time line of the input: a block can go
        out when it has come in, so that the device has a latency of one block, the largest one. Goes on for
        one second after the end. Empty if it is not kept.
    """

    def __init__(
        self,
        audio: np.ndarray,
        sample_rate: int,
        block_size: int | Sequence[int] | None = None,
        seconds: float | None = None,
        output_channels: int | None = None,
        keep_output: bool = True,
        clock: Clock | None = None,
        name: str = "software device",
    ):
        self._audio = np.atleast_2d(np.asarray(audio, np.float32))
        if block_size is None:
            block_size = round(BLOCK_S * sample_rate)
        sizes = [block_size] if isinstance(block_size, int) else list(block_size)
        if self._audio.shape[1] == 0:
            raise AudioError(f"{name}: the recording has no samples")
        if not sizes or min(sizes) < 1:
            raise DeviceError(f"{name}: block_size is {block_size!r}; expected whole numbers of at least 1")
        self.name, self.sample_rate = name, sample_rate
        self.input_channels = self._audio.shape[0]
        self.output_channels = output_channels or self.input_channels
        self.block_sizes: tuple[int, int] | None = (min(sizes), max(sizes))
        self._largest = max(sizes)
        self.input_latency_samples = float(self._largest)
        self.output_latency_samples = 0.0
        self.xruns = 0
        self.fault: str | None = None
        self.position = 0
        length = self._audio.shape[1] if seconds is None else seconds * sample_rate
        self._length = math.inf if math.isinf(length) else round(length)
        kept = round(length + TAIL_S * sample_rate) if keep_output and not math.isinf(length) else 0
        self._played = np.zeros((self.output_channels, kept), np.float32)
        self._sizes, self._clock = itertools.cycle(sizes), clock or RealTimeClock()
        self._stopping = False
        self._thread: threading.Thread | None = None

    @classmethod
    def from_file(cls, path: str | Path, **settings: object) -> "SoftwareDevice":
        """A device that hears a sound file; settings as above. Raises AudioError if the file cannot be read."""
        try:
            audio, sample_rate = soundfile.read(path, dtype="float32", always_2d=True)
        except (OSError, soundfile.SoundFileError) as error:
            raise AudioError(f"{path}: not a sound file that can be read ({error})") from error
        return cls(audio.T, sample_rate, name=f"software device ({Path(path).name})", **settings)  # type: ignore[arg-type]

    @property
    def finished(self) -> bool:
        return self.position >= self._length

    @property
    def output(self) -> np.ndarray:
        played = min(self.position + self._largest, self._played.shape[1])
        return self._played[:, :played]

    def start(self, callback: AudioCallback) -> None:
        if self._thread is not None:
            raise DeviceError(f"{self.name}: has been started before; a software device runs once")
        self._thread = threading.Thread(target=self._run, args=(callback,), name="hearloop audio", daemon=True)
        self._thread.start()

    def start_native(self, callback: int, data: int) -> None:
        self.start(python_callback(callback, data))

    def stop(self) -> None:
        self._stopping = True
        if self._thread is not None:
            self._thread.join(timeout=5)

    def _run(self, callback: AudioCallback) -> None:
        indata = np.zeros((self._largest, self.input_channels), np.float32)
        outdata = np.zeros((self._largest, self.output_channels), np.float32)
        try:
            while not self._stopping:
                frames = next(self._sizes)
                late = self._clock.wait((self.position + frames) / self.sample_rate)
                if late > PATIENCE_BLOCKS * frames / self.sample_rate:
                    self.xruns += 1
                    self._clock.postpone(late)
                self._capture(indata[:frames])
                callback(indata[:frames], outdata[:frames], frames)
                self._play(outdata[:frames])
                self.position += frames
        except Exception as error:
            self.fault = str(error)

    def _capture(self, indata: np.ndarray) -> None:
        indata[:] = 0
        wanted = int(min(len(indata), max(self._length - self.position, 0)))
        taken = 0
        while taken < wanted:
            at = (self.position + taken) % self._audio.shape[1]
            part = min(wanted - taken, self._audio.shape[1] - at)
            indata[taken : taken + part] = self._audio[:, at : at + part].T
            taken += part

    def _play(self, outdata: np.ndarray) -> None:
        start = self.position + self._largest
        part = min(len(outdata), max(self._played.shape[1] - start, 0))
        self._played[:, start : start + part] = outdata[:part].T
