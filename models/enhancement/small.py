"""The first model of hearloop: a small dual-path network that estimates a gain and a rotation per bin."""

import math

import torch

from ..dualpath import DualPath
from ..streaming.state import State

LOUDEST_GAIN = 1.8  # a loss that does not know the level gives weights that stay far below it; see docs/training.md


class EnhanceSmall(DualPath):
    """Causal speech enhancement, one channel, 12 ms algorithmic latency; parameters and state as in `DualPath`."""

    task = "enhance"
    channels_out = 1

    def __init__(
        self,
        channels: int = 16,
        hidden: int = 24,
        bands: int = 20,
        blocks: int = 2,
        window: str = "asymmetric-512-192",
    ):
        super().__init__(channels, hidden, bands, blocks, attentive=0, values=2, window=window)
        assert self.mask.bias is not None
        with torch.no_grad():
            # An untrained model passes its input with a gain of one.
            self.mask.weight.mul_(0.1)
            self.mask.bias.copy_(torch.tensor([-math.log(LOUDEST_GAIN - 1), 0.0]))
        self.register_buffer("quarter_turn", torch.tensor([[0.0, 1.0], [-1.0, 0.0]]), persistent=False)

    def forward(self, spectrum: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Spectrum [B, 1, T, 257, 2] and state -> enhanced [B, 1, T, 257, 2] and the next state."""
        values, state = self.to_bins(spectrum, state)
        gain, turn = values.unsqueeze(-1).split(1, dim=1)
        turned = spectrum + torch.tanh(turn) * (spectrum @ self.quarter_turn)
        return LOUDEST_GAIN * torch.sigmoid(gain) * turned, state
