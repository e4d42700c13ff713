"""What the networks see: spectra at a level of one, with magnitudes compressed as the ear does it."""

import torch
from torch import nn

from ..runtime.windows import window_pair
from .streaming.average import ExponentialAverage
from .streaming.state import State

COMPRESSION = 0.3
SILENCE_DBFS = -90.0
KINDS = 3  # of what tells directions apart, see `BinauralSpectrum`
LEAST_POWER = 1e-6  # of a bin, at a level of one


class CompressedSpectrum(nn.Module):
    """Real part, imaginary part and magnitude of each channel, the magnitudes to the power of 0.3.

    The spectra are brought to the running level of all channels together, so that the difference between two ears
    stays. Magnitudes of their own, because no linear layer can make them of the other two.

    State: that of the average of the level.
    """

    @staticmethod
    def of_a_bin(channels: int) -> int:
        """How many features a bin has."""
        return 3 * channels

    def __init__(self, window: str, sample_rate: int = 16000):
        super().__init__()
        pair = window_pair(window)
        self.level = ExponentialAverage(time_constant=1.0 * sample_rate / pair.hop_length)
        self.silence = float((pair.analysis**2).sum()) * 10 ** (SILENCE_DBFS / 10)

    def initial_state(self, batch: int) -> State:
        return self.level.initial_state(batch)

    @staticmethod
    def magnitudes(features: torch.Tensor, channels: int) -> torch.Tensor:
        """The mean of the magnitudes of all channels among the features: [B, T, F]."""
        return features[:, 2 : 3 * channels : 3].mean(1)

    def forward(self, spectrum: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Spectrum [B, C, T, F, 2] -> features [B, 3 C, T, F], channel by channel."""
        power = (spectrum * spectrum).sum(-1)
        level, state = self.level(power.mean((1, 3)), state)
        # The floor keeps digital silence silent: what is below it is not turned up.
        level = level.clamp(min=self.silence)[:, None, :, None]
        power = power / level + LEAST_POWER
        root = power ** (COMPRESSION / 2 - 0.5)
        compressed = spectrum * (root / level.sqrt()).unsqueeze(-1)
        magnitude = root * power.sqrt()
        features = torch.cat([compressed, magnitude.unsqueeze(-1)], dim=-1)
        return features.permute(0, 1, 4, 2, 3).flatten(1, 2), state


class BinauralSpectrum(CompressedSpectrum):
    """Those of both ears, and what tells directions apart: how much the ears agree, their phase, and their level.

    These three are the real and the imaginary part of the product of both ears, and the difference of their powers, all
    of them divided by the mean power: 1, 0 and 0 for sound from the front.
    """

    def __init__(self, window: str, sample_rate: int = 16000):
        super().__init__(window, sample_rate)
        self.ears = EarProducts()

    @staticmethod
    def of_a_bin(channels: int) -> int:
        """How many features a bin has."""
        return 3 * channels + KINDS

    def forward(self, spectrum: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Spectrum [B, 2, T, F, 2] -> features [B, 9, T, F]."""
        compressed, state = super().forward(spectrum, state)
        left, right, real, imaginary = self.ears(spectrum)
        both = (left + right) / 2 + self.silence
        alike = torch.stack([real / both, imaginary / both, (left - right) / both], dim=1)
        return torch.cat([compressed, alike], dim=1), state


class EarProducts(nn.Module):
    """The powers at both ears, and the real and imaginary part of left times conjugate right; each [B, T, F]."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("quarter_turn", torch.tensor([[0.0, 1.0], [-1.0, 0.0]]), persistent=False)

    def forward(self, spectrum: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Spectrum [B, 2, T, F, 2] -> four parts."""
        left, right = spectrum.unbind(1)
        pairs = ((left, left), (right, right), (left, right), (left, right @ self.quarter_turn))
        one, other, real, imaginary = ((first * second).sum(-1) for first, second in pairs)
        return one, other, real, imaginary
