"""Get to know the voice in front: what both ears agree on goes to an encoder that knows thousands of voices."""

from itertools import pairwise

import torch
from torch import nn

from ...runtime.bundle_info import Port
from ...runtime.windows import window_pair
from ..mel import mel_filters
from ..published.dvector import BANDS, DVector
from ..streaming.average import ExponentialAverage
from ..streaming.compose import Chain
from ..streaming.recurrent import TimeGRU, TimeLSTM
from ..streaming.state import State
from .enroll import FORGETTING_S

SPEECH = 0.009  # what an encoder of voices is used to, the mean over bands and time; measured on speech at -30 dBFS
COMPRESSION = 0.15  # of powers: loudness
LEAST = 1e-7  # of a power, at a level of one
SILENCE_DBFS = -90.0


class EnrollFrontal(nn.Module):
    """A look at somebody who speaks -> the embedding of that voice, known better with every frame.

    Sound from the front reaches both ears alike. In mel bands, the sum of both ears is multiplied with a mask that a
    small recurrent network makes of how alike they are, and is heard by the recurrent layers of the published encoder
    of clean voices (`DVector`), with whose weights it can begin. The embedding of the look is the mean of those after
    each frame, weighed by what each is worth.

    Parameters
    ----------
    channels : int
        Of the network that makes the mask.
    hidden, layers, embedding : int
        Of the encoder; as published by default.

    State: {"level", "mask", "masked", "voice", "mean"}.
    """

    task = "enroll"
    window = "asymmetric-512-192"
    channels_in = 2
    channels_out = 1

    def __init__(self, channels: int = 64, hidden: int = 256, layers: int = 3, embedding: int = 256):
        super().__init__()
        pair = window_pair(self.window)
        frames_per_s = 16000 / pair.hop_length
        self.output = Port("embedding", "embedding", (1, 1, 1, embedding), "the voice so far, of unit norm")
        self.register_buffer("filters", mel_filters(pair.bins, BANDS, 16000), persistent=False)
        self.register_buffer("quarter_turn", torch.tensor([[0.0, 1.0], [-1.0, 0.0]]), persistent=False)
        self.silence = float((pair.analysis**2).sum()) * 10 ** (SILENCE_DBFS / 10) / BANDS
        self.level = ExponentialAverage(FORGETTING_S * frames_per_s)
        self.mask = Chain(
            nn.Linear(4 * BANDS, channels), nn.PReLU(), TimeGRU(channels, channels, 1), nn.Linear(channels, BANDS)
        )
        self.masked = ExponentialAverage(FORGETTING_S * frames_per_s)
        sizes = [BANDS] + layers * [hidden]
        self.voice = Chain(*(TimeLSTM(*both, 1) for both in pairwise(sizes)))
        self.linear = nn.Linear(hidden, embedding)
        self.worth = nn.Linear(hidden, 1)
        self.mean = ExponentialAverage(FORGETTING_S * frames_per_s, (embedding,))
        with torch.no_grad():
            # To begin with, nearly all of the sound passes, and all frames are worth the same.
            self.mask[-1].bias.fill_(2.0)
            self.mask[-1].weight.mul_(0.1)
            self.worth.weight.zero_()

    def begin_with(self, published: DVector) -> None:
        """Take over what the published encoder of the same size knows of voices."""
        own = dict(self.voice.named_parameters())
        for name, value in published.lstm.named_parameters():
            kind, layer = name.rsplit("_l", 1)
            own[f"{layer}.lstm.{kind}_l0"].data.copy_(value)
        self.linear.load_state_dict(published.linear.state_dict())

    def initial_state(self, batch: int) -> State:
        names = ("level", "mask", "masked", "voice", "mean")
        return {name: getattr(self, name).initial_state(batch) for name in names}

    def forward(self, spectrum: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Spectrum [B, 2, T, 257, 2] and state -> after each frame the embedding so far, [B, 1, T, embedding]."""
        following: dict[str, State] = {}
        left, right = spectrum.unbind(1)
        one, other, real, imaginary = (
            product.sum(-1) @ self.filters
            for product in (left * left, right * right, left * right, left * (right @ self.quarter_turn))
        )
        middle = (one + other) / 4 + real / 2
        level, following["level"] = self.level(middle.mean(-1), state["level"])
        level = level.clamp(min=self.silence)[..., None]
        both = (one + other) / 2 + LEAST * level
        loudness = (middle.clamp(min=0) / level + LEAST) ** COMPRESSION
        alike = torch.cat([real / both, imaginary / both, (one - other) / both, loudness], dim=-1)
        mask, following["mask"] = self.mask(alike.unsqueeze(2), state["mask"])
        heard = middle * mask.squeeze(2).sigmoid()
        masked, following["masked"] = self.masked(heard.mean(-1), state["masked"])
        heard = heard * (SPEECH / masked.clamp(min=self.silence)[..., None])
        hidden, following["voice"] = self.voice(heard.unsqueeze(2), state["voice"])
        hidden = hidden.squeeze(2)
        frame = _unit(self.linear(hidden).relu()) * self.worth(hidden).sigmoid()
        average, following["mean"] = self.mean(frame.transpose(1, 2), state["mean"])
        return _unit(average.transpose(1, 2)).unsqueeze(1), following


def _unit(voice: torch.Tensor) -> torch.Tensor:
    return voice * (voice.square().sum(-1, keepdim=True) + 1e-12).rsqrt()
