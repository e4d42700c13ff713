"""A batch norm that trains faster on an accelerator than cuDNN's, where channels are few."""

from typing import TypeGuard

import torch
from torch import nn


class PlainBatchNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d` as sums over maps and one scale and offset per channel; same parameters, statistics and results.

    cuDNN gives every channel to one block of threads: with 24 channels most of an accelerator has nothing to do. Sums,
    scale and offset are float32, maps as they come.
    """

    @classmethod
    def of(cls, norm: nn.BatchNorm2d) -> "PlainBatchNorm":
        """With the parameters and statistics of another, shared."""
        plain = cls(norm.num_features, norm.eps, norm.momentum)
        plain.weight, plain.bias = norm.weight, norm.bias
        plain.running_mean, plain.running_var = norm.running_mean, norm.running_var
        plain.num_batches_tracked = norm.num_batches_tracked
        return plain.train(norm.training)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept_mean, kept_variance, batches = self.running_mean, self.running_var, self.num_batches_tracked
        assert kept_mean is not None
        assert kept_variance is not None
        assert batches is not None
        assert self.momentum is not None
        mean, variance = kept_mean, kept_variance
        if self.training:
            variance, mean = torch.var_mean(x.float(), (0, 2, 3), correction=0)
            count = x.numel() // x.shape[1]
            with torch.no_grad():
                batches.add_(1)
                kept_mean.lerp_(mean, self.momentum)
                kept_variance.lerp_(variance * (count / (count - 1)), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        offset = self.bias - mean * scale
        return torch.addcmul(offset[:, None, None], x, scale[:, None, None]).to(x.dtype)


def is_plain_norm(layer: nn.Module) -> TypeGuard[nn.BatchNorm2d]:
    """Whether `PlainBatchNorm` can stand for a layer."""
    if type(layer) is not nn.BatchNorm2d:
        return False
    return layer.affine and layer.track_running_stats and layer.momentum is not None
