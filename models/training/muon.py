"""Muon: AdamW, but the step of a weight that is a matrix is made orthogonal first."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

SMALLEST = 4  # a matrix with fewer rows or columns has no directions worth balancing
NEWTON_SCHULZ = (3.4445, -4.775, 2.0315)  # brings singular values to 0.7..1.2 in five rounds (Jordan et al. 2024)


class Muon(torch.optim.Optimizer):
    """Steps of matrices have all singular values near one, so that rare directions learn as fast as common ones.

    Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024, with Nesterov momentum. Steps are
    scaled to the root mean square that AdamW's have, 0.2 of the learning rate, so that one learning rate serves both
    kinds (Liu et al., "Muon is scalable for LLM training", 2025). The weight of a convolution is the matrix
    [outputs, everything else]; vectors, matrices with a side below four, and what scales and shifts a norm have the
    steps of AdamW. The latter may have the form of a matrix, but each number of it stands alone.

    Parameters
    ----------
    model : nn.Module
    learning_rate : float
    weight_decay : float
        Decoupled, of all parameters.
    momentum : float
        Of matrices.
    betas : pair of floats
        Of the others, as in AdamW.
    """

    def __init__(
        self,
        model: nn.Module,
        learning_rate: float,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.98),
    ):
        kinds: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        scales = {
            id(scale) for layer in model.modules() if isinstance(layer, nn.LayerNorm) for scale in layer.parameters()
        }
        for parameter in model.parameters():
            kinds[is_matrix(parameter) and id(parameter) not in scales].append(parameter)
        groups = [{"params": parameters, "matrix": matrix} for matrix, parameters in kinds.items() if parameters]
        super().__init__(
            groups, {"lr": learning_rate, "weight_decay": weight_decay, "momentum": momentum, "betas": betas}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step along the gradients; parameters without one stay."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            given = [(parameter, parameter.grad) for parameter in group["params"] if parameter.grad is not None]
            if given:
                parameters, gradients = ([pair[index] for pair in given] for index in (0, 1))
                find = self._balanced if group["matrix"] else self._adam
                directions = find(parameters, gradients, group)
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_sub_(parameters, torch._foreach_mul(directions, group["lr"]))
        return loss

    def _balanced(
        self, parameters: list[nn.Parameter], gradients: list[torch.Tensor], group: dict[str, Any]
    ) -> list[torch.Tensor]:
        means = self._kept(parameters, "mean")
        torch._foreach_lerp_(means, gradients, 1 - group["momentum"])
        matrices = [matrix.flatten(1) for matrix in torch._foreach_lerp(gradients, means, group["momentum"])]
        alike: dict[torch.Size, list[int]] = defaultdict(list)
        for index, matrix in enumerate(matrices):
            alike[matrix.shape].append(index)
        # All matrices of one shape together: a small product costs an accelerator as much as many of them.
        for shape, indices in alike.items():
            stack = orthogonalised(torch.stack([matrices[index] for index in indices]))
            for index, direction in zip(indices, 0.2 * max(shape) ** 0.5 * stack, strict=True):
                matrices[index] = direction
        return [matrix.reshape(parameter.shape) for matrix, parameter in zip(matrices, parameters, strict=True)]

    def _adam(
        self, parameters: list[nn.Parameter], gradients: list[torch.Tensor], group: dict[str, Any]
    ) -> list[torch.Tensor]:
        first, second = group["betas"]
        means, squares = self._kept(parameters, "mean"), self._kept(parameters, "square")
        counts = self._kept(parameters, "step", scalar=True)
        torch._foreach_lerp_(means, gradients, 1 - first)
        torch._foreach_mul_(squares, second)
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - second)
        torch._foreach_add_(counts, 1)
        of_means, of_squares = ((1 - beta ** torch.stack(counts)).unbind() for beta in (first, second))
        roots = torch._foreach_sqrt(torch._foreach_div(squares, of_squares))
        torch._foreach_add_(roots, 1e-8)
        return list(torch._foreach_div(torch._foreach_div(means, of_means), roots))

    def _kept(self, parameters: list[nn.Parameter], name: str, scalar: bool = False) -> list[torch.Tensor]:
        """What is kept of each parameter from step to step, zeros to begin with; on its device, for `captured.py`."""
        for parameter in parameters:
            kept = self.state[parameter]
            if name not in kept:
                kept[name] = parameter.new_zeros(() if scalar else parameter.shape)
            elif kept[name].device != parameter.device:  # PyTorch leaves what is called "step" where it was
                kept[name] = kept[name].to(parameter.device)
        return [self.state[parameter][name] for parameter in parameters]


def is_matrix(parameter: torch.Tensor) -> bool:
    """Whether a parameter is a matrix for Muon."""
    return parameter.ndim >= 2 and min(len(parameter), parameter.numel() // len(parameter)) >= SMALLEST


def orthogonalised(matrix: torch.Tensor, rounds: int = 5) -> torch.Tensor:
    """Matrices [..., m, n] with singular values near one instead of their own, by Newton and Schulz: products alone."""
    upright = matrix.shape[-2] > matrix.shape[-1]
    x = matrix.mT if upright else matrix
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    first, third, fifth = NEWTON_SCHULZ
    for _ in range(rounds):
        square = x @ x.mT
        x = first * x + (third * square + fifth * square @ square) @ x
    return x.mT if upright else x
