"""Bands that are as narrow as the ear needs them: single bins below 1 kHz, wider and wider above."""

import torch
from torch import nn

# Of the 257 bins of 31.25 Hz: bands, and bins in each.
LAYOUT = ((32, 1), (8, 4), (8, 8), (8, 16), (1, 1))


class BandSplit(nn.Module):
    """Bins [B, C, T, 257] -> bands [B, T, bands, channels], by a linear layer for each band."""

    def __init__(self, channels_in: int, channels: int):
        super().__init__()
        self.linears = nn.ModuleList(_GroupedLinear(count, channels_in * width, channels) for count, width in LAYOUT)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.permute(0, 2, 3, 1)
        parts = x.split([count * width for count, width in LAYOUT], dim=2)
        return torch.cat(
            [
                linear(part.unflatten(2, (count, width)).flatten(3))
                for linear, part, (count, width) in zip(self.linears, parts, LAYOUT, strict=True)
            ],
            dim=2,
        )


class BandMerge(nn.Module):
    """Bands [B, T, bands, channels] -> bins [B, T, 257, C], by a linear layer for each band."""

    def __init__(self, channels: int, channels_out: int):
        super().__init__()
        self.linears = nn.ModuleList(_GroupedLinear(count, channels, width * channels_out) for count, width in LAYOUT)
        self.channels_out = channels_out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = x.split([count for count, _ in LAYOUT], dim=2)
        return torch.cat(
            [
                linear(part).unflatten(3, (-1, self.channels_out)).flatten(2, 3)
                for linear, part in zip(self.linears, parts, strict=True)
            ],
            dim=2,
        )


BANDS = sum(count for count, _ in LAYOUT)


class _GroupedLinear(nn.Module):
    """A linear layer of its own for each entry of axis 2: [B, T, groups, in] -> [B, T, groups, out]."""

    def __init__(self, groups: int, size_in: int, size_out: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(groups, size_in, size_out) / size_in**0.5)
        self.bias = nn.Parameter(torch.zeros(groups, size_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x.unsqueeze(-2) @ self.weight).squeeze(-2) + self.bias
