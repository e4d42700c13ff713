"""The cheap measurement during training: SI-SDR improvement over the mixtures, SI-SDR of clean voices."""

from collections.abc import Sequence

import torch
from torch import nn

from ..frontend import enhance
from ..simulation.mixture import Mixture
from ..simulation.validation import ValidationSet
from .metrics import si_sdr_db
from .replicas import Replicas

BATCH = 4


@torch.no_grad()
def validate(model: nn.Module, items: ValidationSet, replicas: Replicas) -> dict[str, float]:
    """Means in dB over the set: `si_sdr_improvement_db` of the mixtures and `clean_si_sdr_db` of the clean voices.

    Each process measures its share.
    """
    was_training = model.training
    model.eval()
    sums = torch.tensor([_improvement(model, items.noisy, replicas), _si_sdr(model, items.clean, replicas)])
    model.train(was_training)
    improvement, clean = replicas.sum(sums)
    return {
        "si_sdr_improvement_db": float(improvement) / len(items.noisy),
        "clean_si_sdr_db": float(clean) / len(items.clean),
    }


def _improvement(model: nn.Module, items: Sequence[Mixture], replicas: Replicas) -> float:
    before = sum(
        float(si_sdr_db(torch.from_numpy(item.noisy), torch.from_numpy(item.target)))
        for item in items[replicas.rank :: replicas.count]
    )
    return _si_sdr(model, items, replicas) - before


def _si_sdr(model: nn.Module, items: Sequence[Mixture], replicas: Replicas) -> float:
    share, total = items[replicas.rank :: replicas.count], 0.0
    for first in range(0, len(share), BATCH):
        batch = share[first : first + BATCH]
        noisy = torch.stack([torch.from_numpy(item.noisy) for item in batch])
        target = torch.stack([torch.from_numpy(item.target) for item in batch])
        total += float(si_sdr_db(enhance(model, noisy[:, None])[:, 0], target).sum())
    return total
