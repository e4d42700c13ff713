"""MambAttention as published: bidirectional Mamba and a shared attention, over a whole recording.

Kuehne et al., "MambAttention: Mamba with multi-head attention for generalizable single-channel speech enhancement",
2025. Members have the authors' names, which are those of the weights. The streaming form shares the plan with it but no
layer: here every norm and convolution looks into the future, and each state has a decay of its own.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from .selective import mamba_scan
from .transform import CentredTransform

QUIETEST = 1e-6  # RMS of a recording that is taken for silence


def make(config: Mapping[str, Any]) -> nn.Module:
    """The network for the authors' sizes."""
    return MambAttention(
        channels=config["hid_feature"],
        blocks=config["num_tfmamba"],
        states=config["d_state"],
        kernel=config["d_conv"],
        expand=config["expand"],
        heads=config["n_head"],
        depth=config["dense_depth"],
        bins=config["n_fft"] // 2 + 1,
        loudest=config["beta"],
        epsilon=config["norm_epsilon"],
    )


class MambAttention(nn.Module):
    """Compressed magnitude and phase [B, F, T] of a noisy recording at an RMS of one -> those of the speech."""

    def __init__(
        self,
        channels: int,
        blocks: int,
        states: int,
        kernel: int,
        expand: int,
        heads: int,
        depth: int,
        bins: int,
        loudest: float,
        epsilon: float,
    ):
        super().__init__()
        mamba = (channels, states, kernel, expand, epsilon)
        self.dense_encoder = Encoder(channels, depth)
        self.TFMambAttention = nn.ModuleList(Block(channels, heads, mamba) for _ in range(blocks))
        self.mask_decoder = MaskDecoder(channels, depth, bins, loudest)
        self.phase_decoder = PhaseDecoder(channels, depth)

    def forward(self, noisy_mag: torch.Tensor, noisy_pha: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.dense_encoder(torch.stack([noisy_mag, noisy_pha], dim=1).transpose(2, 3))
        for block in self.TFMambAttention:
            x = block(x)
        mask, phase = self.mask_decoder(x), self.phase_decoder(x)
        return noisy_mag * mask.squeeze(1).transpose(1, 2), phase.squeeze(1).transpose(1, 2)


class MambAttentionOnSound(nn.Module):
    """The network between the authors' transform and its inverse: audio [B, samples] -> speech [B, samples].

    Parameters
    ----------
    network : MambAttention
    n_fft, hop_length : int
        Of the transform, in samples.
    compression : float
        Power of the magnitudes.
    """

    def __init__(self, network: MambAttention, n_fft: int = 400, hop_length: int = 100, compression: float = 0.3):
        super().__init__()
        self.network, self.compression = network, compression
        self.transform = CentredTransform(n_fft, hop_length)

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        level = audio.square().mean(-1, keepdim=True).sqrt().clamp(min=QUIETEST)
        real, imaginary = self.transform.analysis(audio / level).unbind(1)
        power = real.square() + imaginary.square()
        phase = _angle(real + (power == 0).to(real.dtype), imaginary)
        magnitude, phase = self.network(power ** (self.compression / 2), phase)
        magnitude = magnitude ** (1 / self.compression)
        spectrum = torch.stack([magnitude * phase.cos(), magnitude * phase.sin()], dim=1)
        return self.transform.synthesis(spectrum, audio.shape[-1]) * level


class DenseBlock(nn.Module):
    """Convolutions that see all maps before them, at dilations 1, 2, 4, ... in time: the last one's result."""

    def __init__(self, channels: int, depth: int):
        super().__init__()
        self.dense_block = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels * (index + 1), channels, 3, padding=(2**index, 1), dilation=(2**index, 1)),
                *_normalised(channels),
            )
            for index in range(depth)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = x
        for layer in self.dense_block:
            x = layer(maps)
            maps = torch.cat([x, maps], dim=1)
        return x


class Encoder(nn.Module):
    """[B, 2, T, F] -> [B, C, T, F / 2]."""

    def __init__(self, channels: int, depth: int):
        super().__init__()
        self.dense_conv_1 = nn.Sequential(nn.Conv2d(2, channels, 1), *_normalised(channels))
        self.dense_block = DenseBlock(channels, depth)
        self.dense_conv_2 = nn.Sequential(nn.Conv2d(channels, channels, (1, 3), (1, 2)), *_normalised(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dense_conv_2(self.dense_block(self.dense_conv_1(x)))


class LearnableSigmoid(nn.Module):
    """A sigmoid from 0 to `loudest` with a slope for each bin: [B, 1, T, F]."""

    def __init__(self, bins: int, loudest: float):
        super().__init__()
        self.loudest = loudest
        self.slope = nn.Parameter(torch.ones(bins, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.loudest * torch.sigmoid(self.slope.squeeze(1) * x)


class MaskDecoder(nn.Module):
    """[B, C, T, F / 2] -> the mask of the compressed magnitude [B, 1, T, F]."""

    def __init__(self, channels: int, depth: int, bins: int, loudest: float):
        super().__init__()
        self.dense_block = DenseBlock(channels, depth)
        self.mask_conv = nn.Sequential(
            nn.ConvTranspose2d(channels, channels, (1, 3), (1, 2)),
            nn.Conv2d(channels, 1, 1),
            *_normalised(1),
            nn.Conv2d(1, 1, 1),
        )
        self.lsigmoid = LearnableSigmoid(bins, loudest)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lsigmoid(self.mask_conv(self.dense_block(x)))


class PhaseDecoder(nn.Module):
    """[B, C, T, F / 2] -> the phase [B, 1, T, F]."""

    def __init__(self, channels: int, depth: int):
        super().__init__()
        self.dense_block = DenseBlock(channels, depth)
        self.phase_conv = nn.Sequential(nn.ConvTranspose2d(channels, channels, (1, 3), (1, 2)), *_normalised(channels))
        self.phase_conv_r = nn.Conv2d(channels, 1, 1)
        self.phase_conv_i = nn.Conv2d(channels, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.phase_conv(self.dense_block(x))
        return torch.atan2(self.phase_conv_i(x), self.phase_conv_r(x))


class Block(nn.Module):
    """Attention and Mamba along time, then along frequency, with one attention for both: [B, C, T, F]."""

    def __init__(self, channels: int, heads: int, mamba: tuple[int, int, int, int, float]):
        super().__init__()
        self.attention = Attention(channels, heads)
        self.time_mamba = BidirectionalMamba(*mamba)
        self.freq_mamba = BidirectionalMamba(*mamba)
        self.tlinear = nn.ConvTranspose1d(2 * channels, channels, 1)
        self.flinear = nn.ConvTranspose1d(2 * channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, channels, frames, bins = x.shape
        x = x.permute(0, 3, 2, 1).reshape(batch * bins, frames, channels)
        x = x + self.attention(x)
        x = x + self.tlinear(self.time_mamba(x).transpose(1, 2)).transpose(1, 2)
        x = x.reshape(batch, bins, frames, channels).transpose(1, 2).reshape(batch * frames, bins, channels)
        x = x + self.attention(x)
        x = x + self.flinear(self.freq_mamba(x).transpose(1, 2)).transpose(1, 2)
        return x.reshape(batch, frames, bins, channels).permute(0, 3, 1, 2)


class Attention(nn.Module):
    """Multi-head self-attention behind a norm: [S, L, C]."""

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.layernorm = nn.LayerNorm(channels)
        self.attn = nn.MultiheadAttention(channels, heads, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layernorm(x)
        return self.attn(x, x, x, need_weights=False)[0]


class BidirectionalMamba(nn.Module):
    """Two Mamba layers with a bypass each, one of them backwards, side by side: [S, L, C] -> [S, L, 2 C]."""

    def __init__(self, channels: int, states: int, kernel: int, expand: int, epsilon: float):
        super().__init__()
        self.forward_blocks = nn.ModuleList([NormedMamba(channels, states, kernel, expand, epsilon)])
        self.backward_blocks = nn.ModuleList([NormedMamba(channels, states, kernel, expand, epsilon)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.forward_blocks[0](x), self.backward_blocks[0](x.flip(1)).flip(1)], dim=-1)


class RootMeanSquareNorm(nn.Module):
    """A mean square of one, times a gain; spelt out, because the exporter does not know PyTorch's own."""

    def __init__(self, channels: int, epsilon: float):
        super().__init__()
        self.weight, self.epsilon = nn.Parameter(torch.ones(channels)), epsilon

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * (x.square().mean(-1, keepdim=True) + self.epsilon).rsqrt() * self.weight


class NormedMamba(nn.Module):
    """x + mixer(norm(x))."""

    def __init__(self, channels: int, states: int, kernel: int, expand: int, epsilon: float):
        super().__init__()
        self.mixer = Mamba(channels, states, kernel, expand)
        self.norm = RootMeanSquareNorm(channels, epsilon)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.mixer(self.norm(x))


class Mamba(nn.Module):
    """Gu and Dao, "Mamba: linear-time sequence modeling with selective state spaces", 2023: [S, L, C]."""

    def __init__(self, channels: int, states: int, kernel: int, expand: int):
        super().__init__()
        inner, rank = expand * channels, math.ceil(channels / 16)
        self.sizes = (rank, states, states)
        self.in_proj = nn.Linear(channels, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, kernel, padding=kernel - 1, groups=inner)
        self.x_proj = nn.Linear(inner, sum(self.sizes), bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.A_log = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, channels, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        entered, gate = self.in_proj(x).chunk(2, dim=-1)
        # The padding is on both sides; without the end of the result it is a causal convolution.
        entered = functional.silu(self.conv1d(entered.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2))
        rank, b, c = self.x_proj(entered).split(self.sizes, dim=-1)
        y = mamba_scan(entered, functional.softplus(self.dt_proj(rank)), -self.A_log.exp(), b, c)
        return self.out_proj((y + self.D * entered) * functional.silu(gate))


def _angle(real: torch.Tensor, imaginary: torch.Tensor) -> torch.Tensor:
    """Like `atan2`, which ONNX lacks; a negative real number has the angle pi, never -pi, as in the training."""
    return torch.atan(imaginary / real) + math.pi * (real < 0) * (1 - 2 * (imaginary < 0).to(real.dtype))


def _normalised(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.InstanceNorm2d(channels, affine=True), nn.PReLU(channels)
