"""Batch norms of a model that did not begin with random weights."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def settle_norms(model: nn.Module, hear: Callable[[Any], object], items: Iterable[Any]) -> None:
    """Let batch norms divide by what they measure, without changing what the model computes.

    In training a batch norm takes the statistics of the batch in the place of those that it holds. Those of a bundle
    are folded away (zero and one are left), and other recordings have others: the first steps would then train another
    network than the one that was loaded, one with all its levels wrong. Here each norm is given the statistics of
    `items`, and a gain and an offset that undo the difference.

    Parameters
    ----------
    model : nn.Module
        In training mode, in which it is left.
    hear : callable
        Runs the model on an item.
    items : iterable
        Some of what the model will be trained on, one or more.
    """
    heard = {layer: _Moments() for layer in model.modules() if isinstance(layer, _BatchNorm) and layer.training}
    if not heard:
        return
    hooks = [layer.eval().register_forward_pre_hook(moments.add) for layer, moments in heard.items()]
    for item in items:
        hear(item)
    for layer, moments in heard.items():
        if moments.count:
            _take_over(layer, *moments.mean_and_variance())
        layer.train()
    for hook in hooks:
        hook.remove()


def hold_norms(model: nn.Module) -> None:
    """Let batch norms divide by the statistics that they hold, not by those of a batch; their gain and offset learn on.

    A step of one or two items says too little about the variance of what will be heard. Until the model is set to
    training mode again.
    """
    for layer in model.modules():
        if isinstance(layer, _BatchNorm):
            layer.eval()


class _Moments:
    """Count, sum and sum of squares of each channel."""

    def __init__(self) -> None:
        self.count, self.sum, self.squares = 0, torch.zeros(()), torch.zeros(())

    def add(self, _: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        x = inputs[0].transpose(0, 1).flatten(1).double()
        self.count += x.shape[1]
        self.sum, self.squares = self.sum.to(x) + x.sum(1), self.squares.to(x) + x.square().sum(1)

    def mean_and_variance(self) -> tuple[torch.Tensor, torch.Tensor]:
        mean = self.sum / self.count
        return mean, (self.squares / self.count - mean.square()).clamp(min=0)


def _take_over(layer: _BatchNorm, mean: torch.Tensor, variance: torch.Tensor) -> None:
    """Hold this mean and variance and compute the same as before, (x - mean) / deviation * gain + offset."""
    assert layer.running_mean is not None
    assert layer.running_var is not None
    held = (layer.running_var.double() + layer.eps).sqrt()
    gain = layer.weight.double() / held
    layer.bias.copy_(layer.bias.double() + (mean - layer.running_mean.double()) * gain)
    layer.weight.copy_(gain * (variance + layer.eps).sqrt())
    layer.running_mean.copy_(mean)
    layer.running_var.copy_(variance)
