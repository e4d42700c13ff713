"""Fill a network with weights under the authors' keys, every tensor accounted for."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import nn

from ...runtime.errors import HearloopError

COUNTER = "num_batches_tracked"  # of batch norms; needed for training only
Tensors: TypeAlias = Mapping[str, "np.ndarray | torch.Tensor"]


def fill(
    network: nn.Module,
    state_dict: Tensors,
    where: str,
    publish: Callable[[str], str] = str,
    prefixes: Sequence[str] = (),
    needless: Sequence[str] = (),
) -> None:
    """Copy every tensor to its place in the network.

    Parameters
    ----------
    network : nn.Module
    state_dict : mapping of str to array or tensor
    where : str
        What the errors call the source.
    publish : callable
        Key of the network -> published key.
    prefixes : sequence of str
        What may stand before all published keys; the first that does is taken.
    needless : sequence of str
        Tensors with one of these in their published keys are not needed: fixed tables, unused layers.

    Raises
    ------
    HearloopError
        If a tensor is missing, surplus or misshapen; it is named as published.
    """
    prefix = next((prefix for prefix in prefixes if all(key.startswith(prefix) for key in state_dict)), "")
    wanted = {prefix + publish(key): place for key, place in network.state_dict().items() if not key.endswith(COUNTER)}
    for key, value in state_dict.items():
        if key.endswith(COUNTER) or any(part in key for part in needless):
            continue
        if key not in wanted:
            raise HearloopError(f"{where}: tensor {key!r} has no place in the network")
        place = wanted.pop(key)
        if tuple(value.shape) != tuple(place.shape):
            raise HearloopError(f"{where}: tensor {key!r} has shape {list(value.shape)}, expected {list(place.shape)}")
        place.copy_(torch.as_tensor(value))
    if wanted:
        raise HearloopError(f"{where}: {len(wanted)} tensors are missing, the first is {next(iter(wanted))!r}")
