"""Composition: layers in a row, and a layer with a bypass around it."""

import torch
from torch import nn

from .state import State


class Chain(nn.Sequential):
    """Layers in a row. The state is a dict: position of each layer that has one -> its state.

    A module without `initial_state` (a norm, an activation, a pointwise convolution) works on each frame alone and is
    called with its input only.
    """

    def initial_state(self, batch: int) -> State:
        return {name: layer.initial_state(batch) for name, layer in self.named_children() if _remembers(layer)}

    def forward(self, x: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        following: dict[str, State] = {}
        for name, layer in self.named_children():
            if _remembers(layer):
                x, following[name] = layer(x, state[name])
            else:
                x = layer(x)
        return x, following


class Residual(nn.Module):
    """A streaming layer with a bypass: y = x + layer(x). The state is that of the layer."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def initial_state(self, batch: int) -> State:
        return self.layer.initial_state(batch)

    def forward(self, x: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        y, state = self.layer(x, state)
        return x + y, state


def _remembers(layer: nn.Module) -> bool:
    return hasattr(layer, "initial_state")
