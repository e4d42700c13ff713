"""GTCRN: speech enhancement with 24 thousand parameters, the published network in streaming layers."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..streaming.conv2d import CausalConv2d
from ..streaming.recurrent import TimeGRU
from ..streaming.state import State
from ..streaming.transposed import CausalConvTranspose2d

CHANNELS = 16
BANDS = (129, 65, 33)  # after the ERB filters, and after each of two strided convolutions
DILATIONS = (1, 2, 5)


class Gtcrn(nn.Module):
    """Grouped temporal convolutional recurrent network: a complex mask on 129 bands.

    Rong, Sun, Zhang, Hu, Zhu, Lu, "GTCRN: A speech enhancement model requiring ultra-low computational resources",
    ICASSP 2024. The network is causal as published; only its centred transform is not, and that belongs to the window.
    It is not normalised in level, as published: batch norms know the level of the training.

    At its own window and hop of 16 ms the algorithmic latency is 32 ms, and published weights fit. `gtcrn_8ms` is the
    same network on frames of 8 ms with 12 ms of latency, to be trained anew: its recurrences and dilations would
    remember half as long.

    State: {"encoder", "dual", "decoder"}, one entry per block.
    """

    task = "enhance"
    channels_in = 1
    channels_out = 1
    level_reference = "that of the training: speech around -25 dBFS"

    def __init__(self, window: str = "symmetric-512"):
        super().__init__()
        self.window = window
        self.bands = ErbBands(low=65, high=64, bins=257)
        self.down = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(9, CHANNELS, (1, 5), (1, 2), (0, 2)), nn.BatchNorm2d(CHANNELS), nn.PReLU()),
                nn.Sequential(
                    nn.Conv2d(CHANNELS, CHANNELS, (1, 5), (1, 2), (0, 2), groups=2),
                    nn.BatchNorm2d(CHANNELS),
                    nn.PReLU(),
                ),
            ]
        )
        self.encoder = nn.ModuleList(GatedBlock(dilation, transposed=False) for dilation in DILATIONS)
        self.dual = nn.ModuleList(DualPath() for _ in range(2))
        self.decoder = nn.ModuleList(GatedBlock(dilation, transposed=True) for dilation in reversed(DILATIONS))
        self.up = nn.ModuleList(
            [
                nn.Sequential(
                    nn.ConvTranspose2d(CHANNELS, CHANNELS, (1, 5), (1, 2), (0, 2), groups=2),
                    nn.BatchNorm2d(CHANNELS),
                    nn.PReLU(),
                ),
                nn.Sequential(nn.ConvTranspose2d(CHANNELS, 2, (1, 5), (1, 2), (0, 2)), nn.BatchNorm2d(2), nn.Tanh()),
            ]
        )
        with torch.no_grad():
            # An untrained model passes its input with a gain of about one.
            norm = self.up[-1].get_submodule("1")
            norm.get_parameter("weight").fill_(0.1)
            norm.get_parameter("bias").copy_(torch.tensor([2.0, 0.0]))

    def initial_state(self, batch: int) -> State:
        return {
            name: tuple(block.initial_state(batch) for block in blocks)
            for name, blocks in (("encoder", self.encoder), ("dual", self.dual), ("decoder", self.decoder))
        }

    def forward(self, spectrum: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Spectrum [B, 1, T, 257, 2] and state -> enhanced [B, 1, T, 257, 2] and the next state."""
        magnitude = ((spectrum * spectrum).sum(-1, keepdim=True) + 1e-12).sqrt()
        parts = torch.cat([magnitude, spectrum], dim=-1).squeeze(1).permute(0, 3, 1, 2)
        x = with_neighbours(self.bands.gather(parts))
        skips, following = [], {name: list(states) for name, states in state.items()}
        for layer in self.down:
            x = layer(x)
            skips.append(x)
        for index, block in enumerate(self.encoder):
            x, following["encoder"][index] = block(x, state["encoder"][index])
            skips.append(x)
        for index, block in enumerate(self.dual):
            x, following["dual"][index] = block(x, state["dual"][index])
        for index, block in enumerate(self.decoder):
            x, following["decoder"][index] = block(x + skips.pop(), state["decoder"][index])
        for layer in self.up:
            x = layer(x + skips.pop())
        real, imaginary = self.bands.spread(x).split(1, dim=1)
        re, im = spectrum[..., 0], spectrum[..., 1]
        enhanced = torch.stack([re * real - im * imaginary, im * real + re * imaginary], dim=-1)
        return enhanced, {name: tuple(states) for name, states in following.items()}


def gtcrn_8ms() -> Gtcrn:
    """On frames of 8 ms, with 4 ms of lookahead."""
    return Gtcrn("asymmetric-512-192")


class ErbBands(nn.Module):
    """The lower bins as they are, the upper ones in overlapping triangles that are evenly spaced on the ERB scale."""

    def __init__(self, low: int, high: int, bins: int, rate: int = 16000):
        super().__init__()
        self.low = low
        edges_hz = np.array([low, bins - 1]) * rate / 2 / (bins - 1)
        lowest, highest = (float(number) for number in 21.4 * np.log10(1 + 0.00437 * edges_hz))
        erb_number = np.linspace(lowest, highest, high)
        centres = np.round((10 ** (erb_number / 21.4) - 1) / 0.00437 * 2 * (bins - 1) / rate)
        triangles = np.stack([np.interp(np.arange(low, bins), centres, row) for row in np.eye(high)])
        self.gathering = nn.Parameter(torch.from_numpy(triangles).float(), requires_grad=False)
        self.spreading = nn.Parameter(torch.from_numpy(triangles.T.copy()).float(), requires_grad=False)

    def gather(self, x: torch.Tensor) -> torch.Tensor:
        """[..., bins] -> [..., bands]."""
        return torch.cat([x[..., : self.low], functional.linear(x[..., self.low :], self.gathering)], dim=-1)

    def spread(self, x: torch.Tensor) -> torch.Tensor:
        """[..., bands] -> [..., bins]; not the inverse: the network has learnt the scale."""
        return torch.cat([x[..., : self.low], functional.linear(x[..., self.low :], self.spreading)], dim=-1)


def with_neighbours(x: torch.Tensor) -> torch.Tensor:
    """Each band with the one below and the one above as further channels: [B, C, T, F] -> [B, 3 C, T, F]."""
    bands = x.shape[-1]
    padded = functional.pad(x, (1, 1))
    return torch.stack([padded[..., at : at + bands] for at in range(3)], dim=2).flatten(1, 2)


class GatedBlock(nn.Module):
    """Half of the channels through a dilated convolution and a gate that knows the past, the other half beside them.

    State: {"depth", "gate"}.
    """

    def __init__(self, dilation: int, transposed: bool):
        super().__init__()
        half, bands = CHANNELS // 2, BANDS[-1]
        point = nn.ConvTranspose2d if transposed else nn.Conv2d
        depth = CausalConvTranspose2d if transposed else CausalConv2d
        self.before = nn.Sequential(point(3 * half, CHANNELS, 1), nn.BatchNorm2d(CHANNELS), nn.PReLU())
        self.depth = depth(CHANNELS, CHANNELS, (3, 3), bands, dilation=dilation, padding=1, groups=CHANNELS)
        self.after = nn.Sequential(nn.BatchNorm2d(CHANNELS), nn.PReLU(), point(CHANNELS, half, 1), nn.BatchNorm2d(half))
        self.energy = TimeGRU(half, CHANNELS, bands=1)
        self.gate = nn.Linear(CHANNELS, half)

    def initial_state(self, batch: int) -> State:
        return {"depth": self.depth.initial_state(batch), "gate": self.energy.initial_state(batch)}

    def forward(self, x: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        worked, passed = x.chunk(2, dim=1)
        worked, depth = self.depth(self.before(with_neighbours(worked)), state["depth"])
        worked = self.after(worked)
        energy, gate = self.energy(worked.square().mean(-1).transpose(1, 2).unsqueeze(2), state["gate"])
        worked = worked * self.gate(energy).sigmoid().permute(0, 3, 1, 2)
        # Shuffled, so that the next block works on channels of both halves.
        return torch.stack([worked, passed], dim=2).flatten(1, 2), {"depth": depth, "gate": gate}


class HalvedGRU(nn.Module):
    """Two recurrent layers, each for its half of the channels."""

    def __init__(self, hidden: int, bidirectional: bool):
        super().__init__()
        half = CHANNELS // 2
        self.rnn1 = nn.GRU(half, hidden, bidirectional=bidirectional)
        self.rnn2 = nn.GRU(half, hidden, bidirectional=bidirectional)

    def forward(self, x: torch.Tensor, hidden: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Sequences [length, batch, channels], hidden vectors [1, batch, channels] -> the same."""
        first, second = x.chunk(2, dim=-1)
        before: tuple[torch.Tensor | None, ...] = (None, None) if hidden is None else hidden.chunk(2, dim=-1)
        (first, one), (second, other) = self.rnn1(first, before[0]), self.rnn2(second, before[1])
        return torch.cat([first, second], dim=-1), torch.cat([one, other], dim=-1)


class DualPath(nn.Module):
    """Recurrence along frequency, then along time, each with a bypass: [B, C, T, F]. State: hidden, [B, F, C]."""

    def __init__(self) -> None:
        super().__init__()
        shape = (BANDS[-1], CHANNELS)
        self.along_frequency = HalvedGRU(CHANNELS // 4, bidirectional=True)
        self.frequency_mix, self.frequency_norm = nn.Linear(CHANNELS, CHANNELS), nn.LayerNorm(shape, eps=1e-8)
        self.along_time = HalvedGRU(CHANNELS // 2, bidirectional=False)
        self.time_mix, self.time_norm = nn.Linear(CHANNELS, CHANNELS), nn.LayerNorm(shape, eps=1e-8)

    def initial_state(self, batch: int) -> torch.Tensor:
        return self.time_mix.weight.new_zeros(batch, BANDS[-1], CHANNELS)

    def forward(self, x: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = x.permute(0, 2, 3, 1)
        batch, frames, bands, channels = x.shape
        sequences = x.permute(2, 0, 1, 3).reshape(bands, batch * frames, channels)
        y = self.along_frequency(sequences)[0].reshape(bands, batch, frames, channels).permute(1, 2, 0, 3)
        x = x + self.frequency_norm(self.frequency_mix(y))
        sequences = x.transpose(0, 1).reshape(frames, batch * bands, channels)
        y, hidden = self.along_time(sequences, state.reshape(1, batch * bands, channels))
        y = y.reshape(frames, batch, bands, channels).transpose(0, 1)
        x = x + self.time_norm(self.time_mix(y))
        return x.permute(0, 3, 1, 2), hidden.reshape(state.shape)
