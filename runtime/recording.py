"""A sound file of what is heard, written while it is heard."""

import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from .errors import AudioError
from .files import LARGEST_WAV_BYTES, SAMPLE_BYTES, SUFFIXES, check_limits
from .rings import Ring

RING_S = 8.0
PERIOD_S = 0.25


class Recording:
    """Writes a stream to a sound file from a thread of its own; the audio callback only fills `ring`.

    Parameters
    ----------
    path : Path
        wav, flac or ogg.
    channels : int
    sample_rate : int
        In Hz.

    Attributes
    ----------
    lost_samples : int
        What the disk was too slow for; silence stands in its place, so that the rest keeps its time.
    error : str
        Why the file ends early.

    Raises
    ------
    AudioError
        If the file cannot be created, or cannot hold the rate or the channels.
    """

    def __init__(self, path: Path, channels: int, sample_rate: int):
        if path.suffix.lower() not in SUFFIXES:
            raise AudioError(f"{path}: cannot be created; expected a name that ends with {', '.join(SUFFIXES)}")
        check_limits(path, channels, sample_rate)
        try:
            self._file = soundfile.SoundFile(path, "w", sample_rate, channels)
        except (OSError, ValueError, TypeError, soundfile.SoundFileError) as error:
            raise AudioError(f"{path}: cannot be created ({error}); expected a wav, flac or ogg file") from error
        self._path, self._sample_rate = path, sample_rate
        self.ring = Ring(channels, round(RING_S * sample_rate))
        self.lost_samples = 0
        self.error = ""
        self._position = 0
        self._most_samples = sys.maxsize
        if self._file.format == "WAV":
            self._most_samples = LARGEST_WAV_BYTES // (channels * SAMPLE_BYTES[self._file.subtype])
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="hearloop recording", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what is left and complete the file."""
        self._stopping = True
        self._thread.join()

    @property
    def message(self) -> str:
        """What the file lacks of what was heard; empty if it is complete."""
        if self.error:
            written_s = self._position / self._sample_rate
            return f"{self._path}: the recording ends after {written_s:.1f} s ({self.error})"
        if self.lost_samples:
            lost_s = self.lost_samples / self._sample_rate
            return f"{self._path}: {lost_s:.1f} s of the recording are silence, for which the disk was too slow"
        return ""

    def to_json(self) -> dict[str, Any]:
        return {"lost_samples": self.lost_samples, "error": self.error, "message": self.message}

    def _run(self) -> None:
        try:
            with self._file:
                while not self._stopping:
                    time.sleep(PERIOD_S)
                    self._write(self.ring.end)
                    self._file.flush()  # what has been written survives whatever comes
                self._write(self.ring.end)
        except (OSError, soundfile.SoundFileError, AudioError) as error:
            self.error = str(error)

    def _write(self, end: int) -> None:
        full = end > self._most_samples
        end = min(end, self._most_samples)
        block = np.zeros((self.ring.samples.shape[0], end - self._position), np.float32)
        if not self.ring.read(self._position, block):
            self.lost_samples += block.shape[1]
            block[:] = 0
        self._file.write(block.T)
        self._position = end
        if full:
            raise AudioError("a wav file holds 4 GiB; use flac for so long a recording")
