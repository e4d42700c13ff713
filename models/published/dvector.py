"""The d-vector of a voice: what clean speech says about who speaks, learned from thousands of talkers.

Wan, Wang, Papir, Lopez Moreno, "Generalized end-to-end loss for speaker verification", ICASSP 2018, with the sizes and
the weights of the package Resemblyzer (Apache 2.0).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...runtime.errors import HearloopError
from ..mel import mel_filters
from .weights import fill

SAMPLE_RATE, N_FFT, HOP_LENGTH, BANDS = 16000, 400, 160, 40
LEVEL_DBFS = -30.0
SETTLED = 40  # frames until the network knows enough to be asked


class DVector(nn.Module):
    """Clean speech of one talker -> embedding of unit norm, none of it below zero.

    The published encoder takes the mean over what it knows at the end of pieces of 1.6 s; here it is the mean over all
    frames after the first 0.4 s, which needs one pass.

    Parameters
    ----------
    hidden, layers : int
        Of the recurrent network.
    embedding : int
    """

    def __init__(self, hidden: int = 256, layers: int = 3, embedding: int = 256):
        super().__init__()
        self.lstm = nn.LSTM(BANDS, hidden, layers, batch_first=True)
        self.linear = nn.Linear(hidden, embedding)
        self.register_buffer("filters", mel_filters(N_FFT // 2 + 1, BANDS, SAMPLE_RATE), persistent=False)
        self.register_buffer("window", torch.hann_window(N_FFT), persistent=False)
        self.filters: torch.Tensor
        self.window: torch.Tensor

    def forward(self, speech: torch.Tensor, samples: torch.Tensor | None = None) -> torch.Tensor:
        """Speech [B, N], of which so many samples count (int64 [B]; all, if not given) -> embeddings [B, E]."""
        samples = samples if samples is not None else torch.full((len(speech),), speech.shape[-1])
        frames = samples.to(speech.device) // HOP_LENGTH + 1
        mel = self.mel(speech, samples.to(speech.device))
        voice = self.voices(self.lstm(mel)[0])
        position = torch.arange(mel.shape[1], device=speech.device)
        counts = (position < frames[:, None]) & (position >= frames[:, None].clamp(max=SETTLED + 1) - 1)
        return nn.functional.normalize((voice * counts[..., None]).sum(1), dim=-1)

    def mel(self, speech: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
        """Power in mel bands at a level of -30 dBFS, [B, T, 40]."""
        energy = speech.square().sum(-1, keepdim=True)
        level = (energy / samples[:, None]).clamp(min=1e-12)
        spectrum = torch.stft(speech, N_FFT, HOP_LENGTH, N_FFT, self.window, return_complex=True, pad_mode="constant")
        power = spectrum.abs().square().transpose(1, 2) / level[..., None] * 10 ** (LEVEL_DBFS / 10)
        return power @ self.filters

    def voices(self, hidden: torch.Tensor) -> torch.Tensor:
        """What is known at every frame, [B, T, hidden] -> [B, T, E], of unit norm."""
        return nn.functional.normalize(self.linear(hidden).relu(), dim=-1)


def make(config: Mapping[str, Any]) -> DVector:
    """The encoder of sizes under the names of the published package."""
    names = ("model_hidden_size", "model_num_layers", "model_embedding_size")
    return DVector(*(int(config[name]) for name in names))


NEEDLESS = ("similarity_",)  # of the loss that it was trained with


def read_dvector(path: str | Path) -> DVector:
    """The encoder with the weights of a file `pretrained.pt` of the package Resemblyzer, ready to run.

    Raises
    ------
    HearloopError
        If the file cannot be read or holds something else.
    """
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
    except Exception as error:  # torch raises several unrelated types for a damaged file
        raise HearloopError(f"{path}: not weights of a d-vector ({str(error).splitlines()[0][:120]})") from error
    encoder = DVector()
    with torch.no_grad():
        fill(encoder, weights, where=str(path), needless=NEEDLESS)
    return encoder.eval().requires_grad_(False)
