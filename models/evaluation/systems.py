"""What can be measured: bundles through the runtime, checkpoints through PyTorch, other programs, nothing at all."""

import shlex
import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile
import torch
from scipy.signal import correlate, resample_poly

from ...runtime.bundle import load_bundle
from ...runtime.errors import HearloopError
from ...runtime.processor import Processor
from ...runtime.windows import window_pair
from ..frontend import enhance
from ..simulation.corpus import SAMPLE_RATE
from ..training.checkpoint import model_of_checkpoint, read_checkpoint


class System(Protocol):
    """Something that takes a noisy recording and returns a better one of the same length, without delay."""

    name: str
    latency_ms: float

    def enhance(self, audio: np.ndarray) -> np.ndarray: ...


class Unprocessed:
    """The mixture itself."""

    name, latency_ms = "unprocessed", 0.0

    def enhance(self, audio: np.ndarray) -> np.ndarray:
        return audio


class BundleSystem:
    """A bundle in the processor, as it ships: limiter and all."""

    def __init__(self, name_or_path: str, engine: str = "auto"):
        self._processor = Processor(load_bundle(name_or_path), sample_rate=SAMPLE_RATE, engine=engine)
        self.name = self._processor.info.name
        self.latency_ms = self._processor.info.latency_ms

    def enhance(self, audio: np.ndarray) -> np.ndarray:
        self._processor.reset()
        output = self._processor.process(audio[np.newaxis])
        delay = round(self._processor.latency.total)
        return np.concatenate([output, self._processor.flush()], axis=1)[0, delay : delay + len(audio)]


class CheckpointSystem:
    """The averaged weights of a training checkpoint, in PyTorch."""

    def __init__(self, path: str):
        content = read_checkpoint(path)
        self._model = model_of_checkpoint(content)
        self.name = f"{content['model']} ({Path(path).name})"
        pair = window_pair(str(self._model.window))
        self.latency_ms = 1000 * (pair.hop_length + pair.lookahead) / SAMPLE_RATE

    @torch.no_grad()
    def enhance(self, audio: np.ndarray) -> np.ndarray:
        return enhance(self._model, torch.from_numpy(audio)[None, None])[0, 0].numpy()


class CommandSystem:
    """Another program: `tool {input} {output}` reads a wav file at 16 kHz and writes one at any rate.

    What it is late by is found by correlation with the input, within 0.2 s, and taken away.
    """

    latency_ms = float("nan")

    def __init__(self, command: str):
        self._words = shlex.split(command)
        if not {"{input}", "{output}"} <= set(self._words):
            raise HearloopError(f"command is {command!r}; expected the words {{input}} and {{output}} in it")
        self.name = Path(self._words[0]).name

    def enhance(self, audio: np.ndarray) -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            files = {"{input}": f"{folder}/input.wav", "{output}": f"{folder}/output.wav"}
            soundfile.write(files["{input}"], audio, SAMPLE_RATE, subtype="FLOAT")
            words = [files.get(word, word) for word in self._words]
            try:
                subprocess.run(words, check=True, capture_output=True, text=True)
                found, rate = soundfile.read(files["{output}"], dtype="float32", always_2d=True)
            except (OSError, subprocess.CalledProcessError, soundfile.LibsndfileError) as error:
                said = (getattr(error, "stderr", "") or "").strip().splitlines()
                raise HearloopError(f"{shlex.join(self._words)}: {said[-1] if said else error}") from error
        output = found.mean(axis=1)
        if rate != SAMPLE_RATE:
            output = resample_poly(output, SAMPLE_RATE, rate).astype(np.float32)
        return _aligned(output, audio)


def _aligned(output: np.ndarray, audio: np.ndarray) -> np.ndarray:
    """The output moved to where it resembles the input most, with the input's length."""
    reach = SAMPLE_RATE // 5
    likeness = correlate(np.pad(output, (0, max(len(audio) - len(output), 0))), audio, method="fft")
    middle = len(audio) - 1
    first = max(middle - reach, 0)
    delay = int(np.argmax(np.abs(likeness[first : middle + reach + 1]))) + first - middle
    moved = output[delay:] if delay >= 0 else np.pad(output, (-delay, 0))
    return np.pad(moved, (0, max(len(audio) - len(moved), 0)))[: len(audio)]


def opener(name_or_path: str) -> Callable[[], System]:
    """What opens a checkpoint (.pt), else a bundle by name or path."""
    return partial(CheckpointSystem if name_or_path.endswith(".pt") else BundleSystem, name_or_path)
