"""The network of a training checkpoint over a whole recording, without its delay.

In pieces, so that a recording of any length needs the same memory.
"""

from pathlib import Path

import numpy as np
import torch

from ...runtime.errors import HearloopError
from ...runtime.facing import faced
from ...runtime.voice import Voice
from ...runtime.windows import window_pair
from ..frontend import Stft
from ..simulation.corpus import SAMPLE_RATE
from ..target.gridnet import Steering
from ..training.checkpoint import model_of_checkpoint, read_checkpoint

PIECE_FRAMES = 500


class NetworkOfCheckpoint:
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
        # Every run leaves a best.pt; its folder tells which run it was.
        self.name = f"{part or content['model']} ({'/'.join(Path(path).absolute().parts[-2:])})"
        self.task = str(self._model.task)
        pair = window_pair(str(self._model.window))
        self._late = pair.lookahead + pair.hop_length * self._frames_late
        self.latency_ms = 1000 * (pair.hop_length + self._late) / SAMPLE_RATE

    @torch.no_grad()
    def hear(self, audio: np.ndarray, voice: Voice | None = None) -> np.ndarray:
        """float32 [channels, samples] at 16 kHz -> [outputs, samples], aligned; `voice` is whom a target keeps."""
        stft, samples = Stft(str(self._model.window)), audio.shape[1]
        padded = np.pad(audio, ((0, 0), (0, self._late + -(samples + self._late) % stft.hop_length)))
        given = () if voice is None else (self._steered(voice),)
        spectrum, found = self._outputs(stft, padded, *given)
        if len(spectrum) > 1:
            found = _linked(spectrum, found, self._frames_late)
        delayed, _ = stft.synthesis(found)
        return delayed.flatten(0, 1)[:, self._late : self._late + samples].numpy()

    def _steered(self, voice: Voice) -> torch.Tensor:
        steering, values = self._model.get_submodule("steering"), len(voice.embedding)
        assert isinstance(steering, Steering)
        if values != steering.embedding:
            raise HearloopError(
                f"model {self.name!r} takes embeddings of {steering.embedding} values, {voice.model!r} gives {values}"
            )
        return steering(torch.tensor(voice.embedding)[None])

    @torch.no_grad()
    def hear_voice(self, look: np.ndarray) -> Voice:
        """A look float32 [2, samples] -> what the model, of task "enroll", knows of the voice at the end of it."""
        stft, look = Stft(str(self._model.window)), faced(look, SAMPLE_RATE)
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
    """One common mask for all channels, as the processor has it; see `runtime.spectral_frames.SpectralFrames`."""
    heard, made = (torch.view_as_complex(each.contiguous()) for each in (spectrum, found))
    heard = torch.nn.functional.pad(heard, (0, 0, frames_late, 0))[:, :, : made.shape[2]]
    mask = (made * heard.conj()).sum(0) / (heard.abs().square().sum(0) + 1e-20)
    return torch.view_as_real(mask * heard)


def _check_channels(name: str, expected: int, audio: np.ndarray | torch.Tensor) -> None:
    if len(audio) != expected:
        raise HearloopError(f"model {name!r} hears {expected} channel(s), the recording has {len(audio)}")
