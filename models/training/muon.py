"""Muon: AdamW, but the step of a weight that is a matrix is made orthogonal first."""

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
    [outputs, everything else]; vectors, and matrices with a side below four, have the steps of AdamW.

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
        for parameter in model.parameters():
            kinds[is_matrix(parameter)].append(parameter)
        groups = [{"params": parameters, "matrix": matrix} for matrix, parameters in kinds.items() if parameters]
        super().__init__(
            groups, {"lr": learning_rate, "weight_decay": weight_decay, "momentum": momentum, "betas": betas}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step along the gradients; parameters without one stay."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    direction = self._balanced if group["matrix"] else self._adam
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.sub_(direction(parameter.grad, self.state[parameter], group), alpha=group["lr"])
        return loss

    @staticmethod
    def _balanced(gradient: torch.Tensor, state: dict[str, Any], group: dict[str, Any]) -> torch.Tensor:
        if not state:
            state["mean"] = torch.zeros_like(gradient)
        state["mean"].lerp_(gradient, 1 - group["momentum"])
        matrix = gradient.lerp(state["mean"], group["momentum"]).flatten(1)
        return 0.2 * max(matrix.shape) ** 0.5 * orthogonalised(matrix).view_as(gradient)

    @staticmethod
    def _adam(gradient: torch.Tensor, state: dict[str, Any], group: dict[str, Any]) -> torch.Tensor:
        first, second = group["betas"]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["mean"], state["square"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
        state["step"] += 1
        state["mean"].lerp_(gradient, 1 - first)
        state["square"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        steps = float(state["step"])
        root = (state["square"] / (1 - second**steps)).sqrt_().add_(1e-8)
        return state["mean"] / (1 - first**steps) / root


def is_matrix(parameter: torch.Tensor) -> bool:
    """Whether a parameter is a matrix for Muon."""
    return parameter.ndim >= 2 and min(len(parameter), parameter.numel() // len(parameter)) >= SMALLEST


def orthogonalised(matrix: torch.Tensor, rounds: int = 5) -> torch.Tensor:
    """The matrix with singular values near one instead of its own, by Newton and Schulz: products alone."""
    upright = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if upright else matrix
    x = x / (x.norm() + 1e-7)
    first, third, fifth = NEWTON_SCHULZ
    for _ in range(rounds):
        square = x @ x.T
        x = first * x + (third * square + fifth * square @ square) @ x
    return x.T if upright else x
