"""The measurement during training: SI-SDR of mixtures and of clean voices, and PESQ where the selection wants it."""

from collections.abc import Sequence

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from ..frontend import enhance
from ..simulation.corpus import SAMPLE_RATE
from ..simulation.mixture import Mixture
from ..simulation.validation import ValidationSet
from .machines import summed
from .metrics import si_sdr_db

BATCH = 4


@torch.no_grad()
def validate(model: nn.Module, items: ValidationSet, fabric: Fabric, with_pesq: bool = False) -> dict[str, float]:
    """Means over the set: `si_sdr_improvement_db` and `pesq_wb` of the mixtures, `clean_si_sdr_db` of clean voices.

    Each process measures its share.
    """
    was_training = model.training
    model.eval()
    noisy, clean = (_share(part, fabric) for part in (items.noisy, items.clean))
    enhanced = _enhance(model, noisy, fabric)
    before = [_si_sdr_db(item.noisy, item.target) for item in noisy]
    after = [_si_sdr_db(found, item.target) for found, item in zip(enhanced, noisy, strict=True)]
    kept = [_si_sdr_db(found, item.target) for found, item in zip(_enhance(model, clean, fabric), clean, strict=True)]
    sums = [sum(after) - sum(before), len(noisy), sum(kept), len(clean)]
    if with_pesq:
        scores = [_pesq_wb(found, item.target) for found, item in zip(enhanced, noisy, strict=True)]
        sums += [float(np.nansum(scores)), int(np.isfinite(scores).sum())]
    model.train(was_training)
    total = summed(fabric, torch.tensor(sums, dtype=torch.float32)).tolist()
    names = ("si_sdr_improvement_db", "clean_si_sdr_db", "pesq_wb")
    return {name: total[at] / max(total[at + 1], 1) for name, at in zip(names, range(0, len(total), 2), strict=False)}


def _share(items: Sequence[Mixture], fabric: Fabric) -> Sequence[Mixture]:
    return items[fabric.global_rank :: fabric.world_size]


def _enhance(model: nn.Module, items: Sequence[Mixture], fabric: Fabric) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    for first in range(0, len(items), BATCH):
        noisy = torch.stack([torch.from_numpy(item.noisy) for item in items[first : first + BATCH]])
        found.extend(enhance(model, noisy[:, None].to(fabric.device))[:, 0].cpu().float().numpy())
    return found


def _si_sdr_db(estimate: np.ndarray, target: np.ndarray) -> float:
    return float(si_sdr_db(torch.from_numpy(estimate), torch.from_numpy(target)))


def _pesq_wb(estimate: np.ndarray, target: np.ndarray) -> float:
    from pesq import NoUtterancesError, pesq  # an extra of its own: only a selection by PESQ needs it

    try:
        return float(pesq(SAMPLE_RATE, target, estimate, "wb"))
    except NoUtterancesError:
        return float("nan")
