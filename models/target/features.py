"""What the networks for a chosen voice see: the spectra of both ears at a level of one."""

import torch
from torch import nn

from ...runtime.windows import window_pair
from ..streaming.average import ExponentialAverage
from ..streaming.state import State

SILENCE_DBFS = -90.0


class LevelledSpectrum(nn.Module):
    """Real and imaginary parts as channels, at the running level of both ears together, so that their difference stays.

    State: that of the average of the level.
    """

    def __init__(self, window: str, sample_rate: int = 16000):
        super().__init__()
        pair = window_pair(window)
        self.level = ExponentialAverage(time_constant=1.0 * sample_rate / pair.hop_length)
        self.silence = float((pair.analysis**2).sum()) * 10 ** (SILENCE_DBFS / 10)

    def initial_state(self, batch: int) -> State:
        return self.level.initial_state(batch)

    def forward(self, spectrum: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Spectrum [B, C, T, F, 2] -> [B, 2 C, T, F], channel by channel its real and its imaginary part."""
        level, state = self.level((spectrum * spectrum).sum(-1).mean((1, 3)), state)
        # The floor keeps digital silence silent: what is below it is not turned up.
        scale = level.clamp(min=self.silence).rsqrt()[:, None, :, None, None]
        return (spectrum * scale).permute(0, 1, 4, 2, 3).flatten(1, 2), state
