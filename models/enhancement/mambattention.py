"""Speech enhancement by state space layers and attention that time and frequency share, causal and frame by frame."""

from typing import Any

import torch
from torch import nn

from ...runtime.windows import window_pair
from ..streaming.attention import WindowAttention
from ..streaming.average import ExponentialAverage
from ..streaming.conv2d import CausalConv2d
from ..streaming.mamba import FrequencyMamba, TimeMamba
from ..streaming.norm import FrameNorm
from ..streaming.state import State

COMPRESSION = 0.3
SILENCE_DBFS = -90.0
STATES = 8  # per inner channel of a state space layer
HEAD = 16  # inner channels that share a decay
EXPAND = 2


class MambAttention(nn.Module):
    """Causal speech enhancement, one channel, 12 ms algorithmic latency.

    After Kuehne et al., "MambAttention: Mamba with multi-head attention for generalizable single-channel speech
    enhancement", 2025. Encoder, blocks that look along time and along frequency with one attention for both, decoder.
    What differs, so that it runs frame by frame:

    - dense convolutions and time layers see the past only, attention a window of it;
    - norms are those of a frame, and the level is a running one instead of that of the utterance;
    - the decoder gives a complex gain and a complex residual on the compressed spectrum instead of a magnitude and a
      phase: an angle jumps where it wraps, and no network should have to follow;
    - a strided convolution gathers the 257 bins into 64 bands, and the blocks work on 32, for the sake of the cost.

    Parameters
    ----------
    channels : int
    blocks : int
    depth : int
        Layers of a dense block; each looks twice as far back as the one before.
    memory : int
        Frames that the attention over time remembers.
    heads : int
        Of the attention; divides `channels`.

    State: {"level", "encoder", "blocks", "decoder"}.
    """

    task = "enhance"
    window = "asymmetric-512-192"
    channels_in = 1
    channels_out = 1

    def __init__(self, channels: int = 24, blocks: int = 3, depth: int = 3, memory: int = 32, heads: int = 4):
        super().__init__()
        pair = window_pair(self.window)
        wide, narrow = 64, 32
        self.level = ExponentialAverage(time_constant=1.0 * 16000 / pair.hop_length)
        self.silence = float((pair.analysis**2).sum()) * 10 ** (SILENCE_DBFS / 10)
        self.split = nn.Sequential(
            nn.Conv2d(3, channels, (1, 8), (1, 4), (0, 2)), FrameNorm(channels), nn.PReLU(channels)
        )
        self.encoder = DenseBlock(channels, depth, wide)
        self.gather = nn.Sequential(
            nn.Conv2d(channels, channels, (1, 4), (1, 2), (0, 1)), FrameNorm(channels), nn.PReLU(channels)
        )
        self.blocks = nn.ModuleList(Block(channels, narrow, memory, heads) for _ in range(blocks))
        self.decoder = DenseBlock(channels, depth, narrow)
        self.spread = nn.Sequential(
            nn.ConvTranspose2d(channels, channels, (1, 4), (1, 2), (0, 1)), FrameNorm(channels), nn.PReLU(channels)
        )
        self.mask = nn.ConvTranspose2d(channels, 4, (1, 8), (1, 4), (0, 2), (0, 1))
        assert self.mask.bias is not None
        with torch.no_grad():
            # An untrained model passes its input with a gain of one.
            self.mask.weight.mul_(0.1)
            self.mask.bias.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]))
        self.register_buffer("quarter_turn", torch.tensor([[0.0, 1.0], [-1.0, 0.0]]), persistent=False)

    def initial_state(self, batch: int) -> State:
        return {
            "level": self.level.initial_state(batch),
            "encoder": self.encoder.initial_state(batch),
            "blocks": tuple(block.initial_state(batch) for block in self.blocks),
            "decoder": self.decoder.initial_state(batch),
        }

    def forward(self, spectrum: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Spectrum [B, 1, T, 257, 2] and state -> enhanced [B, 1, T, 257, 2] and the next state."""
        features, scale, level = self._features(spectrum, state["level"])
        wide, encoder = self.encoder(self.split(features), state["encoder"])
        x = self.gather(wide).permute(0, 2, 3, 1)
        following = []
        for block, before in zip(self.blocks, state["blocks"], strict=True):
            x, after = block(x, before)
            following.append(after)
        x, decoder = self.decoder(x.permute(0, 3, 1, 2), state["decoder"])
        gain, turn, residual = self.mask(self.spread(x) + wide).permute(0, 2, 3, 1).split([1, 1, 2], dim=-1)
        # The residual lives on the compressed spectrum; `scale` is what one unit of it is worth here.
        enhanced = gain * spectrum[:, 0] + turn * (spectrum[:, 0] @ self.quarter_turn) + residual * scale
        next_state = {"level": level, "encoder": encoder, "blocks": tuple(following), "decoder": decoder}
        return enhanced.unsqueeze(1), next_state

    def _features(self, spectrum: torch.Tensor, state: State) -> tuple[torch.Tensor, torch.Tensor, State]:
        """Compressed parts and magnitude [B, 3, T, F] at a level of one, and the factor that undoes it [B, T, F, 1]."""
        power = (spectrum * spectrum).sum(-1)
        level, state = self.level(power.mean(-1).squeeze(1), state)
        # The floor keeps digital silence silent: what is below it is not turned up.
        level = level.clamp(min=self.silence)[:, None, :, None]
        power = power / level + 1e-6
        root = power ** (COMPRESSION / 2 - 0.5) / level.sqrt()
        compressed = spectrum * root.unsqueeze(-1)
        magnitude = power ** (COMPRESSION / 2)
        features = torch.cat([compressed, magnitude.unsqueeze(-1)], dim=-1)
        return features.squeeze(1).permute(0, 3, 1, 2), (1 / root).squeeze(1).unsqueeze(-1), state


class DenseBlock(nn.Module):
    """Convolutions that see all maps before them, each twice as far back in time: [B, C, T, F], the last one's result.

    State: one memory per layer, that of its convolution.
    """

    def __init__(self, channels: int, depth: int, bands: int):
        super().__init__()
        self.convolutions = nn.ModuleList(
            CausalConv2d(channels * (index + 1), channels, (2, 3), bands, dilation=2**index, padding=1)
            for index in range(depth)
        )
        self.activations = nn.ModuleList(nn.Sequential(FrameNorm(channels), nn.PReLU(channels)) for _ in range(depth))

    def initial_state(self, batch: int) -> State:
        return tuple(layer.initial_state(batch) for layer in self.convolutions)

    def forward(self, x: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        maps, following = x, []
        for convolution, activation, before in zip(self.convolutions, self.activations, state, strict=True):
            x, after = convolution(maps, before)
            x = activation(x)
            maps = torch.cat([x, maps], dim=1)
            following.append(after)
        return x, tuple(following)


class Block(nn.Module):
    """Attention and a state space layer along time, then along frequency: [B, T, F, C].

    Both directions share the attention with its norm; according to the paper this is what makes the network
    generalise.

    State: {"attention", "mamba"}.
    """

    def __init__(self, channels: int, bands: int, window: int, heads: int):
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.attention = WindowAttention(channels, heads, window, bands)
        self.time = TimeMamba(channels, EXPAND, STATES, HEAD, bands)
        self.from_time = nn.Linear(channels, channels)
        self.frequency = FrequencyMamba(channels, EXPAND, STATES, HEAD)
        self.from_frequency = nn.Linear(2 * channels, channels)

    def initial_state(self, batch: int) -> State:
        return {"attention": self.attention.initial_state(batch), "mamba": self.time.initial_state(batch)}

    def forward(self, x: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        y, attention = self.attention(self.norm(x), state["attention"])
        x = x + y
        y, mamba = self.time(x, state["mamba"])
        x = x + self.from_time(y)
        x = x + self.attention.among_bands(self.norm(x))
        x = x + self.from_frequency(self.frequency(x))
        return x, {"attention": attention, "mamba": mamba}


def mambattention_base(**config: Any) -> MambAttention:
    """The larger one: for machines with time to spare."""
    return MambAttention(**{"channels": 48, "blocks": 4, "depth": 4, "memory": 64, **config})
