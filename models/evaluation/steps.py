"""A streaming model over a whole recording, frame by frame, without its delay: what the processor does not run yet.

A bundle's step runs in its engine; the network of a checkpoint in PyTorch, in pieces, so that a recording of any length
needs the same memory.
"""

from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from ...runtime.bundle import Bundle
from ...runtime.engine import open_engine
from ...runtime.errors import HearloopError
from ...runtime.frontend import Analysis, Synthesis
from ...runtime.voice import Voice, steering_map
from ...runtime.windows import window_pair
from ..frontend import Stft
from ..simulation.corpus import SAMPLE_RATE
from ..training.checkpoint import model_of_checkpoint, read_checkpoint

PIECE_FRAMES = 500


class Step(Protocol):
    """The step of a model, for whole recordings at 16 kHz."""

    name: str
    task: str
    latency_ms: float

    def hear(self, audio: np.ndarray, voice: Voice | None = None) -> np.ndarray:
        """float32 [channels, samples] -> [outputs, samples], aligned; `voice` is the one that a target keeps."""


class BundleStep:
    """The step of a bundle in its engine."""

    def __init__(self, bundle: Bundle, engine: str = "auto"):
        self._bundle, self._engine = bundle, open_engine(bundle, engine)
        info = bundle.info
        self.name, self.task, self.latency_ms = info.name, info.task, info.latency_ms

    def hear(self, audio: np.ndarray, voice: Voice | None = None) -> np.ndarray:
        engine, info, samples = self._engine, self._bundle.info, audio.shape[1]
        _check_channels(self.name, info.channels_in, audio)
        padded = np.pad(audio, ((0, 0), (0, info.lookahead + -(samples + info.lookahead) % info.frame)))
        given = {} if voice is None else {info.port("embedding").name: steering_map(self._bundle, voice)}
        heard, made = info.port("spectrum"), info.port("spectrum", "outputs").name
        analysis, synthesis = Analysis(info.windows, info.channels_in), Synthesis(info.windows, info.channels_out)
        spectrum = np.zeros((info.channels_in, info.windows.bins), np.complex64)
        found = np.zeros((info.channels_out, padded.shape[1]), np.float32)
        engine.reset()
        for start in range(0, padded.shape[1], info.frame):
            analysis.step(np.ascontiguousarray(padded[:, start : start + info.frame]), spectrum)
            output = engine.step({heard.name: spectrum.view(np.float32).reshape(heard.shape), **given})[made]
            kept = output.view(np.complex64).reshape(info.channels_out, -1)
            synthesis.step(kept, found[:, start : start + info.frame])
        return found[:, info.lookahead : info.lookahead + samples]


class NetworkStep:
    """The averaged weights of a training checkpoint, in PyTorch; of networks that were trained together those of one.

    Parameters
    ----------
    path : str
    part : str, optional
        Which one; the main one by default.
    """

    def __init__(self, path: str, part: str | None = None):
        content = read_checkpoint(path)
        self._model = model_of_checkpoint(content, part)
        self.name = f"{part or content['model']} ({Path(path).name})"
        self.task = str(self._model.task)
        pair = window_pair(str(self._model.window))
        self._late = pair.lookahead + pair.hop_length * self._frames_late
        self.latency_ms = 1000 * (pair.hop_length + self._late) / SAMPLE_RATE

    @torch.no_grad()
    def hear(self, audio: np.ndarray, voice: Voice | None = None) -> np.ndarray:
        stft, samples = Stft(str(self._model.window)), audio.shape[1]
        padded = np.pad(audio, ((0, 0), (0, self._late + -(samples + self._late) % stft.hop_length)))
        given = () if voice is None else (self._steered(voice),)
        spectrum, found = self._outputs(stft, padded, *given)
        if len(spectrum) > 1:
            found = _linked(spectrum, found, self._frames_late)
        delayed, _ = stft.synthesis(found)
        return delayed.flatten(0, 1)[:, self._late : self._late + samples].numpy()

    def _steered(self, voice: Voice) -> torch.Tensor:
        steering = self._model.get_submodule("steering")
        size = steering.get_submodule("linear").in_features
        if len(voice.embedding) != size:
            raise HearloopError(
                f"model {self.name!r} takes embeddings of {size} values, {voice.model!r} gives {len(voice.embedding)}"
            )
        return steering(torch.tensor(voice.embedding)[None])

    @torch.no_grad()
    def hear_voice(self, look: np.ndarray) -> Voice:
        """A look float32 [2, samples] -> what the model, of task "enroll", knows of the voice at the end of it."""
        stft = Stft(str(self._model.window))
        whole = look.shape[1] // stft.hop_length * stft.hop_length
        return Voice(self._outputs(stft, look[:, :whole])[1][0, 0, -1].numpy(), self.name, "")

    @property
    def _frames_late(self) -> int:
        return int(getattr(self._model, "lookahead_frames", 0))

    def _outputs(self, stft: Stft, audio: np.ndarray, *given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The spectra of a recording, and what the network makes of them."""
        model, sound = self._model, torch.tensor(audio)
        # A network with one channel hears the channels one beside the other, each as if it was alone.
        batch = sound[:, None] if model.channels_in == 1 and model.task == "enhance" else sound[None]
        _check_channels(self.name, int(model.channels_in), batch[0])  # type: ignore[arg-type]
        spectrum, _ = stft.analysis(batch)
        state, found = model.initial_state(len(batch)), []
        for piece in spectrum.split(PIECE_FRAMES, dim=2):
            made, state = model(piece, *given, state)
            found.append(made)
        return spectrum, torch.cat(found, dim=2)


def _linked(spectrum: torch.Tensor, found: torch.Tensor, frames_late: int) -> torch.Tensor:
    """One common mask for all channels, as the processor has it; see `runtime.model_frames.SpectralFrames`."""
    heard, made = (torch.view_as_complex(each.contiguous()) for each in (spectrum, found))
    heard = torch.nn.functional.pad(heard, (0, 0, frames_late, 0))[:, :, : made.shape[2]]
    mask = (made * heard.conj()).sum(0) / (heard.abs().square().sum(0) + 1e-20)
    return torch.view_as_real(mask * heard)


def _check_channels(name: str, expected: int, audio: np.ndarray | torch.Tensor) -> None:
    if len(audio) != expected:
        raise HearloopError(f"model {name!r} hears {expected} channel(s), the recording has {len(audio)}")
