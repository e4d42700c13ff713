"""What the loop leaves open."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from ... import build
from ...simulation.parallel import ItemSimulator
from ..configuration import Configuration

Measures = dict[str, list[float]]
"""Name -> what was found on each item; not a number where an item has no such figure."""


class ItemLoss(nn.Module):
    """Called with the network and the items of a batch as tensors, returns a scalar.

    `progress`, the spent part of the budget, 0..1, tells how far the training is; a tensor, so that a recorded step
    reads it again.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("progress", torch.zeros(()), persistent=False)
        self.progress: torch.Tensor


class Task(ABC):
    """One thing to learn; made of a configuration, of material to train on and of material to validate on.

    Attributes
    ----------
    configuration : Configuration
    simulator : makes the training items
    parts : of networks that are trained together, as modules of one: name -> {"model", "config"}, the main one first
    """

    configuration: Configuration
    simulator: ItemSimulator
    parts: dict[str, dict[str, Any]]

    def __init__(self, configuration: Configuration, parts: dict[str, dict[str, Any]] | None = None):
        self.configuration, self.parts = configuration, parts or {}

    def build(self) -> nn.Module:
        """The network to train, with random weights."""
        return build(self.configuration.model, **self.configuration.config)

    @abstractmethod
    def loss(self, network: nn.Module) -> ItemLoss:
        """What the network minimises."""

    @abstractmethod
    def measure(self, network: nn.Module, fabric: Fabric) -> Measures:
        """What this process finds on its share of the validation set; the same names in every process."""
