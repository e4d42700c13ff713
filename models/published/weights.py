"""Fill a network with weights under the authors' keys, every tensor accounted for."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
import torch
from torch import nn

from ...runtime.errors import HearloopError

Tensors: TypeAlias = Mapping[str, "np.ndarray | torch.Tensor"]


def fill(network: nn.Module, state_dict: Tensors, rename: Callable[[str], str | None], where: str) -> None:
    """Copy every tensor to its place in the network.

    Parameters
    ----------
    network : nn.Module
    state_dict : mapping of str to array or tensor
    rename : callable
        Published key -> key of the network, or None for a tensor that is not needed: a fixed table, an unused layer.
    where : str
        What the errors call the source.

    Raises
    ------
    HearloopError
        If a tensor is missing, surplus or misshapen; it is named as published.
    """
    wanted = {key: value for key, value in network.state_dict().items() if not key.endswith("num_batches_tracked")}
    for published, value in state_dict.items():
        key = rename(published)
        if key is None or published.endswith("num_batches_tracked"):
            continue
        if key not in wanted:
            raise HearloopError(f"{where}: tensor {published!r} has no place in the network")
        place = wanted.pop(key)
        if tuple(value.shape) != tuple(place.shape):
            raise HearloopError(
                f"{where}: tensor {published!r} has shape {list(value.shape)}, expected {list(place.shape)}"
            )
        place.copy_(torch.as_tensor(value))
    if wanted:
        raise HearloopError(f"{where}: {len(wanted)} tensors are missing, the first is {next(iter(wanted))!r}")
