"""Recurrent layers over the two axes of a map [B, T, F, C]: over time with a state, over frequency without."""

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
        y, hidden = self.gru(_time_sequences(x), _one_layer(state))
        return _from_time_sequences(y, x), hidden.reshape(state.shape)


class TimeLSTM(nn.Module):
    """LSTM over time with weights shared by all bands: [B, T, F, C] -> [B, T, F, hidden].

    State: {"hidden", "cell"}, each [B, F, hidden].
    """

    def __init__(self, channels: int, hidden: int, bands: int):
        super().__init__()
        self.bands = bands
        self.lstm = nn.LSTM(channels, hidden)

    def initial_state(self, batch: int) -> dict[str, torch.Tensor]:
        zeros = self.lstm.weight_hh_l0.new_zeros(batch, self.bands, self.lstm.hidden_size)
        return {"hidden": zeros, "cell": zeros.clone()}

    def forward(self, x: torch.Tensor, state: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        y, (hidden, cell) = self.lstm(_time_sequences(x), (_one_layer(state["hidden"]), _one_layer(state["cell"])))
        shape = state["hidden"].shape
        return _from_time_sequences(y, x), {"hidden": hidden.reshape(shape), "cell": cell.reshape(shape)}


class FrequencyGRU(nn.Module):
    """Bidirectional GRU over frequency within each frame: [B, T, F, C] -> [B, T, F, 2 * hidden]. No state."""

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.gru = nn.GRU(channels, hidden, bidirectional=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _from_frequency_sequences(self.gru(_frequency_sequences(x))[0], x)


class FrequencyLSTM(nn.Module):
    """Bidirectional LSTM over frequency within each frame: [B, T, F, C] -> [B, T, F, 2 * hidden]. No state."""

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.lstm = nn.LSTM(channels, hidden, bidirectional=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _from_frequency_sequences(self.lstm(_frequency_sequences(x))[0], x)


def _time_sequences(x: torch.Tensor) -> torch.Tensor:
    batch, frames, bands, channels = x.shape
    return x.transpose(0, 1).reshape(frames, batch * bands, channels)


def _from_time_sequences(y: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    batch, frames, bands, _ = like.shape
    return y.reshape(frames, batch, bands, -1).transpose(0, 1)


def _frequency_sequences(x: torch.Tensor) -> torch.Tensor:
    batch, frames, bands, channels = x.shape
    return x.permute(2, 0, 1, 3).reshape(bands, batch * frames, channels)


def _from_frequency_sequences(y: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    batch, frames, bands, _ = like.shape
    return y.reshape(bands, batch, frames, -1).permute(1, 2, 0, 3)


def _one_layer(state: torch.Tensor) -> torch.Tensor:
    """[B, F, hidden] as PyTorch's recurrent layers want it: [layers, B * F, hidden]."""
    batch, bands, hidden = state.shape
    return state.reshape(1, batch * bands, hidden)
