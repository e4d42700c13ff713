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
        for name, value in model.state_dict().items():
            kept = self.weights[name]
            if kept.is_floating_point():
                kept.lerp_(value, 1 - decay)
            else:
                kept.copy_(value)

    def load(self, weights: dict[str, torch.Tensor]) -> None:
        """Take over an average, wherever its tensors lie."""
        for name, kept in self.weights.items():
            kept.copy_(weights[name])
