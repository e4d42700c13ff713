"""The memory of a causal convolution: the last frames of its input, on axis 2."""

import torch

from .state import State


def prepend_history(x: torch.Tensor, state: State, frames: int) -> tuple[torch.Tensor, State]:
    """Put the remembered frames before the new ones; returns that and the last `frames` of it, the next state.

    A layer that looks at no past has the state (), because a graph cannot have inputs of size zero.
    """
    if frames == 0:
        return x, ()
    joined = torch.cat([state, x], dim=2)
    last = joined[:, :, joined.shape[2] - frames :]
    # A view would keep a long piece in memory for the few frames that are needed of it.
    return joined, last.clone() if x.shape[2] > frames else last


def empty_history(weight: torch.Tensor, *shape: int) -> State:
    """Zeros of the shape (batch, channels, frames, ...) like `weight`; the state () if there are no frames."""
    return weight.new_zeros(shape) if shape[2] else ()
