"""Get to know the voice in front: a network lets pass what comes from there, to an encoder that knows many voices."""

from itertools import pairwise

import torch
from torch import nn

from ...runtime.bundle_info import Port
from ...runtime.windows import window_pair
from ..dualpath import DualPath
from ..mel import mel_filters
from ..published.dvector import BANDS, DVector
from ..streaming.average import ExponentialAverage
from ..streaming.compose import Chain
from ..streaming.recurrent import TimeLSTM
from ..streaming.state import State
from .enroll import FORGETTING_S, unit_norm

SPEECH = 0.009  # what an encoder of voices is used to, the mean over bands and time; measured on speech at -30 dBFS
SILENCE_DBFS = -90.0
LARGEST_SNR = 1e3  # 30 dB; more than that is not worth learning


class Front(DualPath):
    """How much of the middle between both ears belongs to somebody in front; parameters and state as in `DualPath`."""

    channels_in = 2

    def forward(self, spectrum: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Spectrum [B, 2, T, bins, 2] and state -> gain of every bin, [B, T, bins], 0..1, and the next state."""
        values, state = self.to_bins(spectrum, state)
        return values.squeeze(1).sigmoid(), state


class EnrollFrontal(nn.Module):
    """A look at somebody who speaks -> the embedding of that voice, known better with every frame.

    Sound from the front reaches both ears alike; with that and its context, a dual-path network finds the gains that
    leave of the middle between the ears what belongs to the one in front. Its power in mel bands is heard by the
    recurrent layers of the published encoder of clean voices (`DVector`), with whose weights it can begin. The
    embedding of the look is the mean of those after each frame, weighed by what each is worth.

    Parameters
    ----------
    channels, width, bands, blocks : int
        Of the dual-path network; `width` is what it calls hidden.
    hidden, layers, embedding : int
        Of the encoder; as published by default.
    forgetting_s : float
        Time constant of the mean; long beside a look, by default.

    State: {"front", "level", "voice", "mean"}.
    """

    task = "enroll"
    window = "asymmetric-512-192"
    channels_in = 2
    channels_out = 1

    def __init__(
        self,
        channels: int = 16,
        width: int = 32,
        bands: int = 32,
        blocks: int = 2,
        hidden: int = 256,
        layers: int = 3,
        embedding: int = 256,
        forgetting_s: float = FORGETTING_S,
    ):
        super().__init__()
        pair = window_pair(self.window)
        frames_per_s = 16000 / pair.hop_length
        self.output = Port("embedding", "embedding", (1, 1, 1, embedding), "the voice so far, of unit norm")
        self.front = Front(channels, width, bands, blocks, 0, values=1, window=self.window)
        self.register_buffer("filters", mel_filters(pair.bins, BANDS, 16000), persistent=False)
        self.silence = float((pair.analysis**2).sum()) * 10 ** (SILENCE_DBFS / 10) / BANDS
        self.level = ExponentialAverage(FORGETTING_S * frames_per_s)
        sizes = [BANDS] + layers * [hidden]
        self.voice = Chain(*(TimeLSTM(*both, 1) for both in pairwise(sizes)))
        self.linear = nn.Linear(hidden, embedding)
        self.worth = nn.Linear(hidden, 1)
        self.mean = ExponentialAverage(forgetting_s * frames_per_s, (embedding,))
        with torch.no_grad():
            # To begin with, most of the sound passes, and all frames are worth the same.
            assert self.front.mask.bias is not None
            self.front.mask.weight.mul_(0.1)
            nn.init.constant_(self.front.mask.bias, 1.0)
            self.worth.weight.zero_()

    def begin_with(self, published: DVector) -> None:
        """Take over what the published encoder of the same size knows of voices."""
        own = dict(self.voice.named_parameters())
        for name, value in published.lstm.named_parameters():
            kind, layer = name.rsplit("_l", 1)
            own[f"{layer}.lstm.{kind}_l0"].data.copy_(value)
        self.linear.load_state_dict(published.linear.state_dict())

    def initial_state(self, batch: int) -> State:
        return {name: getattr(self, name).initial_state(batch) for name in ("front", "level", "voice", "mean")}

    def forward(self, spectrum: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Spectrum [B, 2, T, 257, 2] and state -> after each frame the embedding so far, [B, 1, T, embedding]."""
        frame, _, following = self.hear(spectrum, state)
        average, following["mean"] = self.mean(frame, state["mean"])
        return unit_norm(average.transpose(1, 2)).unsqueeze(1), following

    def hear(self, spectrum: torch.Tensor, state: State) -> tuple[torch.Tensor, torch.Tensor, State]:
        """Of each frame the embedding, its norm what it is worth, 0..1, and the power that came from the front.

        [B, embedding, T], [B, T], and the next state of all but the mean.
        """
        following: dict[str, State] = {}
        gain, following["front"] = self.front(spectrum, state["front"])
        passed = spectrum.mean(1) * gain.unsqueeze(-1)
        if self.training:
            self.passed = passed
        bands = passed.square().sum(-1) @ self.filters
        power = bands.mean(-1)
        level, following["level"] = self.level(power, state["level"])
        heard = bands * (SPEECH / level.clamp(min=self.silence)).unsqueeze(-1)
        hidden, following["voice"] = self.voice(heard.unsqueeze(2), state["voice"])
        hidden = hidden.squeeze(2)
        frame = unit_norm(self.linear(hidden).relu()) * self.worth(hidden).sigmoid()
        return frame.transpose(1, 2), power, following

    def front_snr_db(self, alone: torch.Tensor) -> torch.Tensor:
        """How well what passed last is the middle of somebody alone, [B]; after a pass in training mode.

        `alone` [B, 2, T, 257, 2] is the spectrum of the one in front, as in the sound of that pass.
        """
        wanted = alone.mean(1)
        energy, error = (each.square().sum((1, 2, 3)) for each in (wanted, self.passed - wanted))
        return 10 * torch.log10((energy + 1e-9) / (error + energy / LARGEST_SNR + 1e-9))
