"""The state of a streaming layer: a nested dict or tuple of tensors, with the batch on the first axis of each."""

from typing import Any, TypeAlias

import torch

# A tensor, a dict of states or a tuple of states; each layer knows its own, so nothing is gained by spelling it out.
State: TypeAlias = Any


class Rings(dict[str, torch.Tensor]):
    """A state of tensors that hold past frames, whose order the layer does not care about.

    Each is the newest entries of Concat(state, new entries). Whoever runs the step frame by frame may therefore
    overwrite the oldest entry where it lies instead of shifting all others.
    """


def flatten_state(state: State, path: str = "") -> dict[str, torch.Tensor]:
    """Name every tensor by its path: dict keys and tuple indices joined by dots.

    >>> sorted(flatten_state({"a": (torch.zeros(1), torch.zeros(1)), "b": torch.zeros(1)}))
    ['a.0', 'a.1', 'b']
    """
    if isinstance(state, torch.Tensor):
        return {path: state}
    entries = state.items() if isinstance(state, dict) else enumerate(state)
    flat: dict[str, torch.Tensor] = {}
    for key, value in entries:
        flat |= flatten_state(value, f"{path}.{key}" if path else str(key))
    return flat


def unflatten_state(like: State, flat: dict[str, torch.Tensor], path: str = "") -> State:
    """The inverse of `flatten_state`: put named tensors into the structure of `like`."""
    if isinstance(like, torch.Tensor):
        return flat[path]
    if isinstance(like, dict):
        return {key: unflatten_state(value, flat, f"{path}.{key}" if path else key) for key, value in like.items()}
    return tuple(unflatten_state(value, flat, f"{path}.{i}" if path else str(i)) for i, value in enumerate(like))


def ring_paths(state: State, path: str = "") -> list[str]:
    """The names, as `flatten_state` gives them, of all tensors in `Rings`."""
    if isinstance(state, torch.Tensor):
        return []
    if isinstance(state, Rings):
        return list(flatten_state(state, path))
    entries = state.items() if isinstance(state, dict) else enumerate(state)
    return [name for key, value in entries for name in ring_paths(value, f"{path}.{key}" if path else str(key))]
