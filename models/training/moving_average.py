"""Exponential average of weights: what is validated, kept and exported."""

import torch
from torch import nn


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
