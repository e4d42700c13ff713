"""Causal TF-GridNet, steered to one voice: the network that the published and the streaming target model share."""

import math

import torch
from torch import nn
from torch.nn import functional

from ..streaming.compose import Chain, Residual
from ..streaming.conv2d import CausalConv2d
from ..streaming.frame_attention import FrameAttention
from ..streaming.recurrent import FrequencyLSTM, TimeLSTM
from ..streaming.state import State
from ..streaming.transposed import CausalConvTranspose2d


def along_frequency(channels: int, hidden: int) -> Residual:
    """Within each frame: [B, T, F, C] to the same."""
    return Residual(Chain(nn.LayerNorm(channels), FrequencyLSTM(channels, hidden), nn.Linear(2 * hidden, channels)))


def along_time(channels: int, hidden: int, bands: int) -> Residual:
    """Within each band, forwards only: [B, T, F, C] to the same."""
    return Residual(Chain(nn.LayerNorm(channels), TimeLSTM(channels, hidden, bands), nn.Linear(hidden, channels)))


def bands_of(bins: int, stride: int) -> int:
    """How many bands `split_bins` makes of so many bins."""
    return bins if stride == 1 else (bins - 1) // stride


def split_bins(channels_in: int, channels: int, bins: int, stride: int) -> CausalConv2d:
    """Over three frames, and so many bins that bands overlap: [B, C, T, bins] -> [B, channels, T, bands]."""
    width, padding = (3, 1) if stride == 1 else (2 * stride, stride // 2)
    return CausalConv2d(channels_in, channels, (3, width), bins, stride, padding=padding)


def merge_bands(channels: int, channels_out: int, bins: int, stride: int) -> CausalConvTranspose2d:
    """The mirror image of `split_bins`."""
    width, padding = (3, 1) if stride == 1 else (2 * stride, stride // 2)
    bands = bands_of(bins, stride)
    extra = bins - ((bands - 1) * stride + width - 2 * padding)
    return CausalConvTranspose2d(channels, channels_out, (3, width), bands, stride, padding=padding, extra=extra)


class Steering(nn.Module):
    """Embedding of a voice [B, E] -> map [B, channels, 1, bands] that the features are multiplied with.

    With `rank` no more is seen of the embedding than so many sums of it. With `wanted` a last column is added, sums of
    the whole embedding: who is looked for.
    """

    def __init__(self, embedding: int, channels: int, bands: int, rank: int = 0, wanted: bool = False):
        super().__init__()
        self.embedding, self.channels = embedding, channels
        size = channels * bands
        self.linear = (
            nn.Sequential(nn.Linear(embedding, rank, bias=False), nn.Linear(rank, size))
            if rank
            else nn.Linear(embedding, size)
        )
        self.norm = nn.LayerNorm(channels * bands)
        self.wanted = nn.Linear(embedding, channels, bias=False) if wanted else None
        if self.wanted is not None:
            nn.init.normal_(self.wanted.weight)  # sums of about one, of an embedding of unit norm
        self.behind = 0

    def hand_on(self) -> int:
        """Put columns behind the map that hold the embedding itself, filled up with zeros; returns how many."""
        self.behind = math.ceil(self.embedding / self.channels)
        return self.behind

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        columns = [self.norm(self.linear(embedding)).unflatten(-1, (self.channels, 1, -1))]
        if self.wanted is not None:
            columns.append(self.wanted(embedding).unflatten(-1, (self.channels, 1, 1)))
        if self.behind:
            filled = functional.pad(embedding, (0, self.channels * self.behind - self.embedding))
            columns.append(filled.unflatten(-1, (self.channels, 1, self.behind)))
        return torch.cat(columns, dim=-1) if len(columns) > 1 else columns[0]


class CausalGridNet(nn.Module):
    """Blocks that go along frequency, along time, and between frames, from channels of a spectrum to channels of one.

    Wang et al., "TF-GridNet", TASLP 2023; causal and steered as in Veluri et al., "Look Once to Hear", CHI 2024: the
    recurrence over time runs forwards only, attention sees a window of the past, all norms are those of one frame. The
    features are multiplied with the map of the voice once, before the second block.

    Parameters
    ----------
    channels_in, channels_out : int
        Real channels: twice as many as complex ones.
    channels, hidden : int
        Of the features, and of each direction of the recurrent layers.
    blocks, heads : int
    window : int
        Past frames that attention sees.
    bins : int
    query : int
        Values per band and head in queries and keys.
    stride : int
        Bins to a band; 1 as published.

    State: {"conv", "blocks": one per block, "deconv"}.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        channels: int,
        hidden: int,
        blocks: int,
        heads: int,
        window: int,
        bins: int,
        query: int,
        stride: int = 1,
    ):
        super().__init__()
        bands = bands_of(bins, stride)
        self.conv = split_bins(channels_in, channels, bins, stride)
        self.blocks = nn.ModuleList(
            Chain(
                along_frequency(channels, hidden),
                along_time(channels, hidden, bands),
                Residual(FrameAttention(channels, heads, window, bands, query)),
            )
            for _ in range(blocks)
        )
        self.deconv = merge_bands(channels, channels_out, bins, stride)

    def initial_state(self, batch: int) -> State:
        return {
            "conv": self.conv.initial_state(batch),
            "blocks": tuple(block.initial_state(batch) for block in self.blocks),
            "deconv": self.deconv.initial_state(batch),
        }

    def forward(self, x: torch.Tensor, steering: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """[B, channels_in, T, bins] and the map [B, channels, 1, bands] -> [B, channels_out, T, bins]."""
        x, conv = self.conv(x, state["conv"])
        x, steering = x.permute(0, 2, 3, 1), steering.permute(0, 2, 3, 1)
        followers = []
        for index, block in enumerate(self.blocks):
            if index == 1:
                x = x * steering
            x, following = block(x, state["blocks"][index])
            followers.append(following)
        x, deconv = self.deconv(x.permute(0, 3, 1, 2), state["deconv"])
        return x, {"conv": conv, "blocks": tuple(followers), "deconv": deconv}
