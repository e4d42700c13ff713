"""What can be measured: bundles through the runtime, checkpoints through PyTorch, and no processing at all."""

from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from ...runtime.bundle import load_bundle
from ...runtime.processor import Processor
from ...runtime.windows import window_pair
from ..frontend import enhance
from ..simulation.corpus import SAMPLE_RATE
from .checkpoint import model_of_checkpoint, read_checkpoint


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


def open_system(name_or_path: str) -> System:
    """A checkpoint (.pt), else a bundle by name or path."""
    return CheckpointSystem(name_or_path) if name_or_path.endswith(".pt") else BundleSystem(name_or_path)
