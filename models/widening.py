"""A wider network that begins with what a narrower one of the same form has learned."""

from collections.abc import Iterator, Mapping
from itertools import pairwise

import torch
from torch import nn

from .streaming.frame_attention import FrameAttention
from .streaming.recurrent import FrequencyGRU, FrequencyLSTM
from .target.gridnet import Steering
from .whereabouts import Whereabouts

GATES = {nn.GRU: 3, nn.LSTM: 4}
DIRECTIONS = 2
PAIR = 2  # a scale and a shift, or what is listened for and what is looked for


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
        Of linear layers, convolutions, GRUs and LSTMs of one layer, attention between frames, and norms.
    held : mapping of names to tensors
        Those of which no size is larger than that in the model, and others, which stay as they are.
    """
    owners = dict(model.named_modules())
    (outputs, inputs), normed = _parts(model), _normed(model)
    weights = dict(held)
    for name, own in model.state_dict().items():
        value = held.get(name)
        if value is None or value.ndim != own.ndim or value.shape == own.shape:
            continue
        owner = owners[name.rpartition(".")[0]]
        parts = outputs.get(owner, 1), inputs.get(owner, 1)
        smaller = all(few <= many for few, many in zip(value.shape, own.shape, strict=True))
        if smaller and len(value) % parts[0] == 0:
            weights[name] = _among(own, value, owner, parts, owner in normed)
    return weights


def _parts(model: nn.Module) -> tuple[dict[nn.Module, int], dict[nn.Module, int]]:
    """In how many equal parts the outputs of a layer lie, and its inputs, each of which grows; where it is not one."""
    outputs: dict[nn.Module, int] = {}
    inputs: dict[nn.Module, int] = {}
    for earlier, later in _neighbours(model):
        if isinstance(earlier, FrequencyGRU | FrequencyLSTM):
            inputs[later] = DIRECTIONS
    for layer in model.modules():
        if isinstance(layer, nn.GRU | nn.LSTM):
            outputs[layer] = GATES[type(layer)]
        elif isinstance(layer, FrameAttention):
            for vectors in (layer.query, layer.key, layer.value):
                outputs |= {vectors.linear: layer.heads, vectors.norm: layer.bands}
            inputs[layer.linear], outputs[layer.norm] = layer.heads, layer.bands
        elif isinstance(layer, Steering):
            outputs |= {part: PAIR for part in (_last(layer.linear), layer.norm, layer.wanted) if part is not None}
        elif isinstance(layer, Whereabouts):
            outputs |= {layer.voice: PAIR, layer.steering: PAIR * layer.places}
    return outputs, inputs


def _among(
    own: torch.Tensor, value: torch.Tensor, owner: nn.Module, parts: tuple[int, int], normed: bool
) -> torch.Tensor:
    """The weights `value` among those of a wider layer, whose outputs and inputs lie in so many parts."""
    outputs, inputs = (1, 0) if isinstance(owner, nn.ConvTranspose2d) else (0, 1)
    places = []
    for axis, (few, many) in enumerate(zip(value.shape, own.shape, strict=True)):
        by_axis = {outputs: parts[0], inputs: parts[1]} if value.ndim > 1 else {0: parts[0]}
        places.append(_places(few, many, by_axis.get(axis, 1)))
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


def _normed(model: nn.Module) -> set[nn.Module]:
    """The layers in front of a layer norm."""
    return {_last(earlier) for earlier, later in _neighbours(model) if isinstance(later, nn.LayerNorm)}


def _neighbours(model: nn.Module) -> Iterator[tuple[nn.Module, nn.Module]]:
    """Layers that are in a row, with no more than an activation between them."""
    for part in model.modules():
        yield from pairwise(layer for layer in part.children() if not isinstance(layer, nn.PReLU))


def _last(layer: nn.Module) -> nn.Module:
    """The last of layers in a row; a layer alone is its own."""
    return list(layer.modules())[-1]
