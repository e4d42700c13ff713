"""A wider network that begins with what a narrower one of the same form has learned."""

from collections.abc import Iterator, Mapping
from itertools import pairwise

import torch
from torch import nn

from .streaming.recurrent import FrequencyGRU

GATES, DIRECTIONS = 3, 2


def widened(model: nn.Module, held: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of a narrower network as those of `model`, with the random ones of `model` around them.

    What was there does not hear what is new: those weights are zero. Further features are random to begin with, and a
    batch norm keeps each of its own. A layer norm takes the mean of all together; so that it stays about the same, the
    linear layer in front of it says a part of what it said again. The network then computes nearly what the
    narrower one did: exactly, but for its layer norms. As in Chen et al., "Net2Net", ICLR 2016, where features are
    repeated instead.

    Parameters
    ----------
    model : nn.Module
        Of linear layers, convolutions, GRUs of one layer and norms.
    held : mapping of names to tensors
        Those of which no size is larger than that in the model, and others, which stay as they are.
    """
    owners = dict(model.named_modules())
    joined, normed = _after(model, FrequencyGRU), _before(model, nn.LayerNorm)
    weights = dict(held)
    for name, own in model.state_dict().items():
        value = held.get(name)
        if value is None or value.ndim != own.ndim or value.shape == own.shape:
            continue
        if all(few <= many for few, many in zip(value.shape, own.shape, strict=True)):
            owner = owners[name.rpartition(".")[0]]
            weights[name] = _among(own, value, owner, owner in joined, owner in normed)
    return weights


def _among(own: torch.Tensor, value: torch.Tensor, owner: nn.Module, joined: bool, normed: bool) -> torch.Tensor:
    """The weights `value` among those of a wider layer."""
    outputs, inputs = (1, 0) if isinstance(owner, nn.ConvTranspose2d) else (0, 1)
    places = []
    for axis, (few, many) in enumerate(zip(value.shape, own.shape, strict=True)):
        parts = 1
        if isinstance(owner, nn.GRU) and axis == 0:
            parts = GATES
        elif joined and value.ndim > 1 and axis == inputs:
            parts = DIRECTIONS
        places.append(_places(few, many, parts))
    result = own.clone()
    if value.ndim > 1 and not isinstance(owner, nn.LayerNorm):
        result.transpose(0, outputs)[places[outputs]] = 0
    result[torch.meshgrid(*places, indexing="ij")] = value
    if normed and isinstance(owner, nn.Linear) and len(own) > len(value):
        new = torch.ones(len(own), dtype=torch.bool)
        new[places[0]] = False
        count = len(own) - len(value)
        result[new] = result[places[0][torch.arange(count) * len(value) // count]]
    return result


def _places(few: int, many: int, parts: int) -> torch.Tensor:
    """Where the entries of an axis of some equal parts are when each part is longer."""
    return torch.cat([torch.arange(few // parts) + part * (many // parts) for part in range(parts)])


def _after(model: nn.Module, kind: type[nn.Module]) -> set[nn.Module]:
    return {later for earlier, later in _neighbours(model) if isinstance(earlier, kind)}


def _before(model: nn.Module, kind: type[nn.Module]) -> set[nn.Module]:
    return {earlier for earlier, later in _neighbours(model) if isinstance(later, kind)}


def _neighbours(model: nn.Module) -> Iterator[tuple[nn.Module, nn.Module]]:
    """Layers that are in a row."""
    for part in model.modules():
        yield from pairwise(part.children())
