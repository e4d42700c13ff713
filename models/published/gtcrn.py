"""GTCRN as published: a centred transform in, the enhanced one out.

Rong, Sun, Zhang, Hu, Zhu, Lu, "GTCRN: A speech enhancement model requiring ultra-low computational resources", ICASSP
2024.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ..enhancement.gtcrn import Gtcrn

# Our name of a layer -> the published one.
BLOCK = {
    "before.0": "point_conv1",
    "before.1": "point_bn1",
    "before.2": "point_act",
    "depth.conv": "depth_conv",
    "after.0": "depth_bn",
    "after.1": "depth_act",
    "after.2": "point_conv2",
    "after.3": "point_bn2",
    "energy.gru": "tra.att_gru",
    "gate": "tra.att_fc",
}
LAYER = {
    "0": "conv",
    "1": "bn",
    "2": "act",
}
DUAL = {
    "along_frequency": "intra_rnn",
    "frequency_mix": "intra_fc",
    "frequency_norm": "intra_ln",
    "along_time": "inter_rnn",
    "time_mix": "inter_fc",
    "time_norm": "inter_ln",
}
FIXED = {
    "net.bands.gathering": "erb.erb_fc.weight",
    "net.bands.spreading": "erb.ierb_fc.weight",
}


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


def publish(key: str) -> str:
    """Our key -> the published one."""
    if key in FIXED:
        return FIXED[key]
    name, _, tensor = key.removeprefix("net.").rpartition(".")
    part, index, layer = name.split(".", 2)
    number = int(index)
    if part == "dual":
        place = next(ours for ours in DUAL if layer.startswith(ours))
        return f"dpgrnn{number + 1}.{DUAL[place]}{layer.removeprefix(place)}.{tensor}"
    side, number = {
        "down": ("encoder.en_convs", number),
        "encoder": ("encoder.en_convs", number + 2),
        "decoder": ("decoder.de_convs", number),
        "up": ("decoder.de_convs", number + 3),
    }[part]
    return f"{side}.{number}.{(LAYER if part in ('down', 'up') else BLOCK)[layer]}.{tensor}"
