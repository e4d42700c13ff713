"""What every task needs to measure on a validation set that is divided among processes."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from ..frontend import enhance
from .machines import summed

BATCH = 4
Item = TypeVar("Item")


def share_of(items: Sequence[Item], fabric: Fabric) -> Sequence[Item]:
    """The items that this process measures."""
    return items[fabric.global_rank :: fabric.world_size]


@torch.no_grad()
def outputs(network: nn.Module, audio: Sequence[np.ndarray], fabric: Fabric) -> list[np.ndarray]:
    """What a network of one input makes of recordings of one length, each float32 [samples] -> [outputs, samples]."""
    found: list[np.ndarray] = []
    for first in range(0, len(audio), BATCH):
        batch = torch.from_numpy(np.stack(audio[first : first + BATCH]))
        found.extend(enhance(network, batch[:, None].to(fabric.device)).cpu().float().numpy())
    return found


def means_over_all(measures: dict[str, list[float]], fabric: Fabric) -> dict[str, float]:
    """Means over the items of all processes, without those that are not a number; zero where none is left."""
    finite = [[value for value in values if np.isfinite(value)] for values in measures.values()]
    sums = torch.tensor([[sum(values), len(values)] for values in finite], dtype=torch.float32)
    total, count = summed(fabric, sums).T.tolist()
    return {name: total[at] / max(count[at], 1) for at, name in enumerate(measures)}
