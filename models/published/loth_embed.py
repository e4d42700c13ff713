"""Look Once to Hear: the enrolment network, which makes an embedding of a voice out of a few seconds at both ears.

Veluri, Itani, Chen, Yoshioka, Gollakota, "Look Once to Hear: Target Speech Hearing with Noisy Examples", CHI 2024. It
is the TF-GridNet of Wang et al. (TASLP 2023) as its authors made it: it looks at the whole recording at once, and has
little to share with the causal one.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

EPS = 1e-5


class LothEmbed(nn.Module):
    """A look at somebody who speaks -> the embedding of that voice.

    Parameters
    ----------
    n_fft, hop : int
        In samples; the transform is centred.
    microphones, embedding : int
    channels, hidden : int
        Of the features, and of each direction of the recurrent layers.
    blocks, heads : int
    unfold, stride : int
        Neighbours that the recurrent layers see at once, and how far they move.
    query : int
        Values per bin and head in queries and keys.
    """

    def __init__(
        self,
        n_fft: int,
        hop: int,
        microphones: int,
        embedding: int,
        channels: int,
        hidden: int,
        blocks: int,
        heads: int,
        unfold: int,
        stride: int,
        query: int,
    ):
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        bins = n_fft // 2 + 1
        self.conv = nn.Sequential(
            nn.Conv2d(2 * microphones, channels, 3, padding=1), nn.GroupNorm(1, channels, eps=EPS)
        )
        self.blocks = nn.ModuleList(Block(channels, hidden, heads, unfold, stride, query, bins) for _ in range(blocks))
        self.embed_proj = nn.Sequential(nn.Linear(channels * bins, embedding), nn.LayerNorm(embedding, eps=EPS))
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.window: torch.Tensor

    def forward(self, enroll: torch.Tensor) -> torch.Tensor:
        """Audio [B, microphones, samples] -> embedding [B, embedding], not of unit norm.

        The network looks at every pair of frames: time and memory grow with the square of the length.
        """
        batch, microphones = enroll.shape[:2]
        enroll = enroll / enroll.std(dim=(1, 2), keepdim=True)
        spectrum = torch.stft(
            enroll.flatten(0, 1), self.n_fft, self.hop, window=self.window, pad_mode="reflect", return_complex=True
        )
        spectrum = spectrum.unflatten(0, (batch, microphones)).transpose(2, 3)
        x = self.conv(torch.cat([spectrum.real, spectrum.imag], dim=1))
        for block in self.blocks:
            x = block(x)
        return self.embed_proj(x.transpose(1, 2).flatten(2)).mean(1)


class Norm(nn.Module):
    """Zero mean and unit variance over the channels of [B, C, T, F], or over channels and bins together."""

    def __init__(self, channels: int, bins: int | None = None):
        super().__init__()
        self.axes = (1,) if bins is None else (1, 3)
        self.gamma = nn.Parameter(torch.ones(1, channels, 1, bins or 1))
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, bins or 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        variance, mean = torch.var_mean(x, dim=self.axes, keepdim=True, correction=0)
        return (x - mean) / (variance + EPS).sqrt() * self.gamma + self.beta


class Path(nn.Module):
    """A recurrent layer, in both directions, along the last axis of [B, C, ..., L], with a bypass."""

    def __init__(self, channels: int, hidden: int, unfold: int, stride: int):
        super().__init__()
        self.unfold, self.stride = unfold, stride
        self.norm = Norm(channels)
        self.rnn = nn.LSTM(channels * unfold, hidden, batch_first=True, bidirectional=True)
        self.linear = nn.ConvTranspose1d(2 * hidden, channels, unfold, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, _, others, _ = x.shape
        neighbours = self.norm(x).unfold(-1, self.unfold, self.stride)
        sequences = neighbours.permute(0, 2, 3, 1, 4).flatten(3).flatten(0, 1)
        y = self.linear(self.rnn(sequences)[0].transpose(1, 2))
        return x + y.unflatten(0, (batch, others)).transpose(1, 2)


class FrameProjection(nn.Sequential):
    """A mix of the channels of each bin, normed over the frame: [B, C, T, F] -> [B, size, T, F]."""

    def __init__(self, channels: int, size: int, bins: int):
        super().__init__(nn.Conv2d(channels, size, 1), nn.PReLU(), Norm(size, bins))


class Block(nn.Module):
    """Along frequency, along time, and attention between all frames."""

    def __init__(self, channels: int, hidden: int, heads: int, unfold: int, stride: int, query: int, bins: int):
        super().__init__()
        self.intra = Path(channels, hidden, unfold, stride)
        self.inter = Path(channels, hidden, unfold, stride)
        self.query = nn.ModuleList(FrameProjection(channels, query, bins) for _ in range(heads))
        self.key = nn.ModuleList(FrameProjection(channels, query, bins) for _ in range(heads))
        self.value = nn.ModuleList(FrameProjection(channels, channels // heads, bins) for _ in range(heads))
        self.project = FrameProjection(channels, channels, bins)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.inter(self.intra(x).transpose(2, 3)).transpose(2, 3)
        bins = x.shape[3]
        heads = []
        for query, key, value in zip(self.query, self.key, self.value, strict=True):
            q, k, v = (layer(x).transpose(1, 2).flatten(2) for layer in (query, key, value))
            weights = (q @ k.transpose(1, 2) * q.shape[-1] ** -0.5).softmax(-1)
            heads.append((weights @ v).unflatten(2, (-1, bins)).transpose(1, 2))
        return x + self.project(torch.cat(heads, dim=1))


def make(config: Mapping[str, Any]) -> LothEmbed:
    bins = config["n_fft"] // 2 + 1
    return LothEmbed(
        n_fft=config["n_fft"],
        hop=config["stride"],
        microphones=config["num_ch"],
        embedding=config["embed_dim"],
        channels=config["emb_dim"],
        hidden=config["lstm_hidden_units"],
        blocks=config["num_blocks"],
        heads=config["attn_n_head"],
        unfold=config["emb_ks"],
        stride=config["emb_hs"],
        query=math.ceil(config.get("attn_approx_qk_dim", 512) / bins),
    )


HEADS = {"query": "Q", "key": "K", "value": "V"}
PREFIXES = ("model.",)
NEEDLESS = ("deconv.",)  # a layer that the authors inherited and do not use


def publish(key: str) -> str:
    """Our key -> the published one."""
    key = re.sub(r"\.(intra|inter)\.(norm|rnn|linear)\.", r".\1_\2.", key)
    key = re.sub(r"\.(query|key|value)\.(\d+)\.", lambda found: f".attn_conv_{HEADS[found[1]]}_{found[2]}.", key)
    return key.replace(".project.", ".attn_concat_proj.")
