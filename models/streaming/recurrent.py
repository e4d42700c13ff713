"""Recurrent layers over the two axes of a map: over time with a state, over frequency without."""

import torch
from torch import nn


class TimeGRU(nn.Module):
    """GRU over time with weights shared by all bands: [B, T, F, C] -> [B, T, F, hidden].

    State: the hidden vector of every band, [B, F, hidden].
    """

    def __init__(self, channels: int, hidden: int, bands: int):
        super().__init__()
        self.bands = bands
        self.gru = nn.GRU(channels, hidden)

    def initial_state(self, batch: int) -> torch.Tensor:
        return self.gru.weight_hh_l0.new_zeros(batch, self.bands, self.gru.hidden_size)

    def forward(self, x: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        batch, frames, bands, channels = x.shape
        sequences = x.transpose(0, 1).reshape(frames, batch * bands, channels)
        y, hidden = self.gru(sequences, state.reshape(1, batch * bands, -1))
        return y.reshape(frames, batch, bands, -1).transpose(0, 1), hidden.reshape(state.shape)


class FrequencyGRU(nn.Module):
    """Bidirectional GRU over frequency within each frame: [B, T, F, C] -> [B, T, F, 2 * hidden]. No state."""

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.gru = nn.GRU(channels, hidden, bidirectional=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, frames, bands, channels = x.shape
        sequences = x.permute(2, 0, 1, 3).reshape(bands, batch * frames, channels)
        y, _ = self.gru(sequences)
        return y.reshape(bands, batch, frames, -1).permute(1, 2, 0, 3)
