"""TIGER, two talkers from one microphone, as published; whole recordings only.

M. Xu, K. Li, G. Chen, X. Hu, "TIGER: Time-frequency interleaved gain extraction and reconstruction for efficient
speech separation", ICLR 2025.

    mixture -> STFT -> bands -> separator, again and again with the same weights -> masks -> inverse STFT -> talkers
                                  |
                      along the bands of each frame, then along the frames of each band:
                      several scales of convolution, then attention of all tokens to all

Names of modules follow the published weights. The streaming form is `hearloop.models.separation.tiger`.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ..separation.scales import pooled, stretched
from .transform import CentredTransform

# In frequency bins of 25 Hz: 25 Hz wide up to 1 kHz, 100 Hz up to 2 kHz, 250 Hz up to 4 kHz, 500 Hz up to 8 kHz.
BAND_WIDTHS = [1] * 40 + [4] * 10 + [10] * 8 + [20] * 8 + [1]


def make(config: Mapping[str, Any]) -> nn.Module:
    """The network for the authors' configuration."""
    return Tiger(
        size=config["out_channels"],
        channels=config["in_channels"],
        scales=config["upsampling_depth"],
        heads=config["att_n_head"],
        key_size=config["att_hid_chan"],
        window_length=config["win"],
        hop_length=config["stride"],
        talkers=config["num_sources"],
    )


class Tiger(nn.Module):
    """Time-frequency interleaved gain extraction and reconstruction.

    Parameters
    ----------
    size, channels : int
        Features of a band, and inside the convolutions.
    scales : int
        Each is half as long as the one before.
    heads, key_size : int
        Of the attention.
    window_length, hop_length : int
        Of the STFT, in samples; the bands are those of a window of 640 at 16 kHz.
    talkers : int
    """

    def __init__(
        self,
        size: int,
        channels: int,
        scales: int,
        heads: int,
        key_size: int,
        window_length: int,
        hop_length: int,
        talkers: int,
    ):
        super().__init__()
        self.talkers = talkers
        self.transform = CentredTransform(window_length, hop_length)
        self.BN = nn.ModuleList(
            nn.Sequential(nn.GroupNorm(1, 2 * width, eps=torch.finfo(torch.float32).eps), nn.Conv1d(2 * width, size, 1))
            for width in BAND_WIDTHS
        )
        self.separator = Separator(size, channels, scales, heads, key_size)
        self.mask = nn.ModuleList(
            nn.Sequential(nn.PReLU(), nn.Conv1d(size, 4 * talkers * width, 1, groups=talkers)) for width in BAND_WIDTHS
        )

    def forward(self, mix: torch.Tensor, num_blocks: int = 8) -> torch.Tensor:
        """[B, 1, samples] -> [B, talkers, samples]; `num_blocks` rounds: 8 in the large form, 4 in the small one."""
        spectrum = self.transform.analysis(mix.flatten(0, 1))
        bands = spectrum.split(BAND_WIDTHS, dim=2)
        entered = [enter(band.flatten(1, 2)) for enter, band in zip(self.BN, bands, strict=True)]
        features = self.separator(torch.stack(entered, dim=2), num_blocks).unbind(2)
        left = [
            leave(x).unflatten(1, (4 * self.talkers, width))
            for leave, x, width in zip(self.mask, features, BAND_WIDTHS, strict=True)
        ]
        real, imaginary = self._masks(torch.cat(left, dim=2))
        re, im = spectrum.unsqueeze(1).unbind(2)
        talkers = torch.stack([real * re - imaginary * im, real * im + imaginary * re], dim=2).flatten(0, 1)
        return self.transform.synthesis(talkers, mix.shape[-1]).unflatten(0, (-1, self.talkers))

    def _masks(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[B, 4 * talkers, bins, T] -> complex masks in two parts [B, talkers, bins, T]; all talkers' add up to 1."""
        value, gate = x.unflatten(1, (2, 2, self.talkers)).unbind(1)
        real, imaginary = (value * torch.sigmoid(gate)).unbind(1)
        real = real - (real.sum(1, keepdim=True) - 1) / self.talkers
        return real, imaginary - imaginary.sum(1, keepdim=True) / self.talkers


class Separator(nn.Module):
    """One set of weights for all rounds: [B, size, bands, T] to the same."""

    def __init__(self, size: int, channels: int, scales: int, heads: int, key_size: int):
        super().__init__()
        self.freq_path, self.frame_path = (
            nn.ModuleList([Scales(size, channels, scales), TokenAttention(size, heads, key_size), ChannelNorm(size)])
            for _ in range(2)
        )
        self.concat_block = nn.Sequential(nn.Conv2d(size, size, 1, groups=size), nn.PReLU())

    def forward(self, split: torch.Tensor, rounds: int) -> torch.Tensor:
        x = split
        for number in range(rounds):
            if number:
                x = self.concat_block(split + x)
            x = _along(self.freq_path, x.transpose(2, 3)).transpose(2, 3)
            x = _along(self.frame_path, x)
        return x


def _along(path: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
    """[B, size, others, tokens] to the same."""
    scales, attention, norm = path
    sequences = x.transpose(1, 2)
    mixed = scales(sequences.flatten(0, 1)).unflatten(0, (x.shape[0], -1)).transpose(1, 2)
    return x + norm(attention(mixed))


class Scales(nn.Module):
    """Coarser and coarser, and back: [N, size, L] to the same. All norms are over channels and the whole sequence."""

    def __init__(self, size: int, channels: int, scales: int):
        super().__init__()
        self.proj_1x1 = ConvNormAct(size, channels)
        self.spp_dw = nn.ModuleList(
            ConvNorm(channels, 5, stride=1 if scale == 0 else 2, bias=True) for scale in range(scales)
        )
        self.globalatt = Common(channels)
        self.loc_glo_fus = nn.ModuleList(Fusion(channels, 1) for _ in range(scales))
        self.last_layer = nn.ModuleList(Fusion(channels, 5) for _ in range(scales - 1))
        self.res_conv = nn.Conv1d(channels, size, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale, scales = self.proj_1x1(x), []
        for step in self.spp_dw:
            scale = step(scale)
            scales.append(scale)
        common = self.globalatt(scale + sum(pooled(finer, scale.shape[-1]) for finer in scales[:-1]))
        fused = [fusion(local, common) for fusion, local in zip(self.loc_glo_fus, scales, strict=True)]
        # As published, the way back begins with the third coarsest, and the coarsest is not used.
        whole = fused[-3]
        for fusion, local in zip(reversed(self.last_layer), reversed(fused[:-1]), strict=True):
            whole = fusion(local, whole)
        return x + self.res_conv(whole)


class ConvNorm(nn.Module):
    """A convolution of each channel by itself, and a norm."""

    def __init__(self, channels: int, kernel: int, stride: int = 1, bias: bool = False):
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, kernel, stride, padding=kernel // 2, groups=channels, bias=bias)
        self.norm = nn.GroupNorm(1, channels, eps=1e-8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x))


class ConvNormAct(nn.Module):
    """From all channels to all channels, norm, PReLU."""

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__()
        self.conv = nn.Conv1d(channels_in, channels_out, 1)
        self.norm = nn.GroupNorm(1, channels_out, eps=1e-8)
        self.act = nn.PReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.norm(self.conv(x)))


class PointwiseNorm(nn.Module):
    """From all channels to all channels, norm."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, 1, bias=False)
        self.norm = nn.GroupNorm(1, channels, eps=1e-8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x))


class Common(nn.Module):
    """What all scales together say, [N, channels, coarsest]."""

    def __init__(self, channels: int):
        super().__init__()
        self.fc1, self.fc2 = PointwiseNorm(channels), PointwiseNorm(channels)
        self.dwconv = nn.Conv1d(channels, channels, 5, padding=2, groups=channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(functional.relu(self.dwconv(self.fc1(x))))


class Fusion(nn.Module):
    """A scale, gated by a coarser one, plus the coarser one."""

    def __init__(self, channels: int, kernel: int):
        super().__init__()
        self.local_embedding, self.global_embedding, self.global_act = (ConvNorm(channels, kernel) for _ in range(3))

    def forward(self, local: torch.Tensor, coarser: torch.Tensor) -> torch.Tensor:
        length = local.shape[-1]
        gate = stretched(torch.sigmoid(self.global_act(coarser)), length)
        return self.local_embedding(local) * gate + stretched(self.global_embedding(coarser), length)


class TokenAttention(nn.Module):
    """Full-band or full-time attention, [B, size, others, tokens] to the same.

    A token is all that belongs to a band (over all frames), or to a frame (over all bands).
    """

    def __init__(self, size: int, heads: int, key_size: int):
        super().__init__()
        self.Queries, self.Keys, self.Values = (
            nn.ModuleList(ConvActNorm(size, width) for _ in range(heads))
            for width in (key_size, key_size, size // heads)
        )
        self.attn_concat_proj = ConvActNorm(size, size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixed = []
        for to_query, to_key, to_value in zip(self.Queries, self.Keys, self.Values, strict=True):
            value = to_value(x)
            query, key, content = (y.permute(0, 3, 1, 2).flatten(2) for y in (to_query(x), to_key(x), value))
            weights = (query @ key.transpose(1, 2) * query.shape[-1] ** -0.5).softmax(-1)
            found = weights @ content
            mixed.append(found.unflatten(2, (value.shape[1], -1)).permute(0, 2, 3, 1))
        return x + self.attn_concat_proj(torch.cat(mixed, dim=1))


class ConvActNorm(nn.Module):
    """From all channels to all channels, PReLU, and a norm over the channels."""

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 1)
        self.act = nn.PReLU()
        self.norm = ChannelNorm(channels_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.act(self.conv(x)))


class ChannelNorm(nn.Module):
    """Mean 0 and variance 1 over the channels of [B, channels, ...], then gain and offset."""

    def __init__(self, channels: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        variance, mean = torch.var_mean(x, dim=1, unbiased=False, keepdim=True)
        return (x - mean) / torch.sqrt(variance + 1e-5) * self.gamma + self.beta
