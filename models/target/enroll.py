"""Get to know a voice from a few noisy seconds at both ears: the light enrolment network."""

import torch
from torch import nn

from ...runtime.bundle_info import Port
from ...runtime.windows import window_pair
from ..features import CompressedSpectrum
from ..streaming.average import ExponentialAverage
from ..streaming.compose import Chain
from ..streaming.state import State
from .gridnet import along_frequency, along_time, bands_of, split_bins

FORGETTING_S = 30.0  # long beside a look of 2 to 5 s, which therefore counts evenly; and the sums stay bounded


class Enroll(nn.Module):
    """A look at somebody who speaks -> the embedding of that voice, known better with every frame.

    The causal blocks of the separator (Veluri et al., "Look Once to Hear", CHI 2024) without their attention, and a
    mean over time that is weighed by what each frame is worth, instead of the published network, whose attention
    between all frames costs 127 G multiplications for 5 s. The embedding has unit norm, because the map that steers a
    separator depends on its length.

    Parameters
    ----------
    channels, hidden : int
        Of the features, and of each direction of the recurrent layers.
    blocks : int
    summary : int
        Values per bin that the embedding is made of.
    embedding : int
    stride : int
        Bins to a band.

    State: {"level", "conv", "blocks", "mean"}.
    """

    task = "enroll"
    window = "symmetric-192"
    channels_in = 2
    channels_out = 1

    def __init__(
        self,
        channels: int = 48,
        hidden: int = 48,
        blocks: int = 2,
        summary: int = 16,
        embedding: int = 256,
        stride: int = 1,
    ):
        super().__init__()
        pair = window_pair(self.window)
        bands = bands_of(pair.bins, stride)
        self.output = Port("embedding", "embedding", (1, 1, 1, embedding), "the voice so far, of unit norm")
        self.features = CompressedSpectrum(self.window)
        self.conv = split_bins(3 * self.channels_in, channels, pair.bins, stride)
        paths = [(along_frequency(channels, hidden), along_time(channels, hidden, bands)) for _ in range(blocks)]
        self.blocks = Chain(*(path for both in paths for path in both))
        self.summary = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, summary), nn.PReLU())
        self.voice = nn.Linear(bands * summary, embedding)
        self.worth = nn.Linear(bands * summary, 1)
        self.mean = ExponentialAverage(FORGETTING_S * 16000 / pair.hop_length, (embedding,))

    def initial_state(self, batch: int) -> State:
        return {
            "level": self.features.initial_state(batch),
            "conv": self.conv.initial_state(batch),
            "blocks": self.blocks.initial_state(batch),
            "mean": self.mean.initial_state(batch),
        }

    def forward(self, spectrum: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Spectrum [B, 2, T, 97, 2] and state -> after each frame the embedding so far, [B, 1, T, embedding]."""
        features, level = self.features(spectrum, state["level"])
        features, conv = self.conv(features, state["conv"])
        features, blocks = self.blocks(features.permute(0, 2, 3, 1), state["blocks"])
        frame = self.summary(features).flatten(2)
        worth = self.worth(frame).sigmoid()
        # Not divided by the mean worth, because only the direction of the mean counts.
        average, mean = self.mean((self.voice(frame) * worth).transpose(1, 2), state["mean"])
        average = average.transpose(1, 2)
        return unit_norm(average).unsqueeze(1), {"level": level, "conv": conv, "blocks": blocks, "mean": mean}


def unit_norm(voice: torch.Tensor) -> torch.Tensor:
    """Vectors along the last axis brought to a norm of one; zeros stay zeros."""
    return voice * (voice.square().sum(-1, keepdim=True) + 1e-12).rsqrt()
