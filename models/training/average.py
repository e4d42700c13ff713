"""Averages of weights: of the steps of a run, which is what is validated, kept and exported, and of several runs."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ...runtime.errors import HearloopError


class WeightAverage:
    """Running average of all weights and buffers of a model, with a shorter memory during the first steps."""

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.weights = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        held = model.state_dict()
        averaged = [name for name, kept in self.weights.items() if kept.is_floating_point()]
        torch._foreach_lerp_([self.weights[name] for name in averaged], [held[name] for name in averaged], 1 - decay)
        for name in self.weights.keys() - set(averaged):
            self.weights[name].copy_(held[name])

    def load(self, weights: dict[str, torch.Tensor]) -> None:
        """Take over an average, wherever its tensors lie."""
        for name, kept in self.weights.items():
            kept.copy_(weights[name])


def mean_of(contents: Mapping[str, dict[str, Any]], shares: Sequence[float]) -> dict[str, Any]:
    """One checkpoint, as of `read_checkpoint`, of several by name: the mean of their weights (Wortsman et al. 2022).

    Where one run went on from another, or two from a third, networks on the way between them are often better than
    either, because a part of what the last steps of a run have changed is noise. Whole numbers are those of the last.

    Raises HearloopError if they are not all of one architecture. The shares sum to one.
    """
    (first, of_first), *others = contents.items()
    for name, content in others:
        for key in ("model", "config", "parts"):
            if content.get(key) != of_first.get(key):
                raise HearloopError(
                    f"{name}: {key} is {content.get(key)}, that of {first} is {of_first.get(key)}; expected the same"
                )
    *_, last = contents.values()
    weights = {
        name: sum(share * content["weights"][name] for share, content in zip(shares, contents.values(), strict=True))
        if value.is_floating_point()
        else value
        for name, value in last["weights"].items()
    }
    parts = ", ".join(f"{share:.2f} of {name}" for name, share in zip(contents, shares, strict=True))
    content = {key: last[key] for key in ("model", "config", "parts") if key in last}
    return content | {"weights": weights, "training": last["training"] | {"mean_of": parts}, "quality": []}
