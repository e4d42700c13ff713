"""GTCRN as published: a centred transform in, the enhanced one out.

Rong, Sun, Zhang, Hu, Zhu, Lu, "GTCRN: A speech enhancement model requiring ultra-low computational resources", ICASSP
2024.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ..enhancement.gtcrn import Gtcrn

BLOCK = {
    "point_conv1": "before.0",
    "point_bn1": "before.1",
    "point_act": "before.2",
    "depth_conv": "depth.conv",
    "depth_bn": "after.0",
    "depth_act": "after.1",
    "point_conv2": "after.2",
    "point_bn2": "after.3",
    "tra.att_gru": "energy.gru",
    "tra.att_fc": "gate",
}
LAYER = {"conv": "0", "bn": "1", "act": "2"}
DUAL = {
    "intra_rnn": "along_frequency",
    "intra_fc": "frequency_mix",
    "intra_ln": "frequency_norm",
    "inter_rnn": "along_time",
    "inter_fc": "time_mix",
    "inter_ln": "time_norm",
}
FIXED = {"erb.erb_fc.weight": "net.bands.gathering", "erb.ierb_fc.weight": "net.bands.spreading"}


class PublishedGtcrn(nn.Module):
    """The network with the axes of its authors: bins before frames, one channel without an axis of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Gtcrn()

    def forward(self, spec: torch.Tensor) -> torch.Tensor:
        """Spectrum [B, 257, T, 2] of a window of 512 and a hop of 256 samples -> the enhanced one."""
        return self._run(spec, spec.shape[2])

    def stream(self, spec: torch.Tensor) -> torch.Tensor:
        """The same frame by frame."""
        return self._run(spec, 1)

    def _run(self, spec: torch.Tensor, frames: int) -> torch.Tensor:
        state, parts = self.net.initial_state(len(spec)), []
        for part in spec.transpose(1, 2).unsqueeze(1).split(frames, dim=2):
            enhanced, state = self.net(part, state)
            parts.append(enhanced)
        return torch.cat(parts, dim=2).squeeze(1).transpose(1, 2)


def make(config: Mapping[str, Any]) -> PublishedGtcrn:
    return PublishedGtcrn()


def rename(key: str) -> str:
    """Published key -> ours."""
    if key in FIXED:
        return FIXED[key]
    name, _, tensor = key.rpartition(".")
    if block := re.fullmatch(r"(en|de)coder\.\w+_convs\.(\d)\.(.+)", name):
        encodes, index, layer = block[1] == "en", int(block[2]), block[3]
        if layer in LAYER:
            place = f"down.{index}" if encodes else f"up.{index - 3}"
            return f"net.{place}.{LAYER[layer]}.{tensor}"
        place = f"encoder.{index - 2}" if encodes else f"decoder.{index}"
        return f"net.{place}.{BLOCK.get(layer, layer)}.{tensor}"
    if dual := re.fullmatch(r"dpgrnn([12])\.([a-z_]+)(.*)", name):
        return f"net.dual.{int(dual[1]) - 1}.{DUAL.get(dual[2], dual[2])}{dual[3]}.{tensor}"
    return key
