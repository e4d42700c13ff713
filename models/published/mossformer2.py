"""MossFormer2: MossFormer with a feed-forward memory after each layer of attention; whole recordings only.

S. Zhao et al., "MossFormer2: Combining transformer and RNN-free recurrent network for enhanced time-domain monaural
speech separation", ICASSP 2024.

Names of modules follow the published weights.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from .mossformer1 import PREFIXES, MossFormer, Projection

__all__ = ["PREFIXES", "make"]


def make(config: Mapping[str, Any]) -> nn.Module:
    """The network for the authors' configuration."""
    dim, size, order, kernel = (config[key] for key in ("dim", "fsmn_inner", "fsmn_lorder", "conv_kernel"))
    return MossFormer(config, lambda: GatedMemory(dim, size, order, kernel))


class GatedMemory(nn.Module):
    """[B, T, dim] to the same."""

    def __init__(self, dim: int, size: int, order: int, kernel: int):
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv1d(dim, size, 1), nn.PReLU())
        self.norm1, self.norm2 = nn.LayerNorm(size), nn.LayerNorm(size)
        self.gated_fsmn = Gated(size, order, kernel)
        self.conv2 = nn.Conv1d(size, dim, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.norm1(self.conv1(x.transpose(1, 2)).transpose(1, 2))
        inner = self.norm2(self.gated_fsmn(inner))
        return x + self.conv2(inner.transpose(1, 2)).transpose(1, 2)


class Gated(nn.Module):
    """A branch with a memory times one without."""

    def __init__(self, size: int, order: int, kernel: int):
        super().__init__()
        self.to_u, self.to_v = (Projection(nn.LayerNorm(size), size, size, kernel) for _ in range(2))
        self.fsmn = Memory(size, order)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.to_v(x) * self.fsmn(self.to_u(x))


class Memory(nn.Module):
    """What each channel was and will be, weighted: a feed-forward sequential memory network."""

    def __init__(self, size: int, order: int):
        super().__init__()
        self.linear, self.project = nn.Linear(size, size), nn.Linear(size, size, bias=False)
        self.conv = DenseDilated(size, order)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        projected = self.project(functional.relu(self.linear(x)))
        return x + self.conv(projected.transpose(1, 2).unsqueeze(-1)).squeeze(-1).transpose(1, 2)


class DenseDilated(nn.Module):
    """Two convolutions over time, [B, size, T, 1] to the same; the second sees the first and its input.

    As published, the groups of the second cut the stack of both in pairs: the first half of its outputs sees only the
    first convolution, the second half only the input.
    """

    def __init__(self, size: int, order: int):
        super().__init__()
        kernel = (2 * order - 1, 1)
        self.conv1 = nn.Conv2d(size, size, kernel, padding=(order - 1, 0), groups=size, bias=False)
        self.conv2 = nn.Conv2d(
            2 * size, size, kernel, padding=(2 * (order - 1), 0), dilation=(2, 1), groups=size, bias=False
        )
        self.norm1, self.norm2 = (nn.InstanceNorm2d(size, affine=True) for _ in range(2))
        self.prelu1, self.prelu2 = nn.PReLU(size), nn.PReLU(size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.prelu1(self.norm1(self.conv1(x)))
        return self.prelu2(self.norm2(self.conv2(torch.cat([first, x], dim=1))))
