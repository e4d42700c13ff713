"""Published systems, bit-compatible with their weights: the yardsticks, and what the streaming forms come from."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from torch import nn

from ...runtime.errors import HearloopError
from .weights import Tensors, fill

# System -> module of this package, which has `make(config) -> nn.Module` and may have `publish`, `PREFIXES` and
# `NEEDLESS`; see `fill`.
SYSTEMS = {
    "dvector": "dvector",
    "gtcrn": "gtcrn",
    "loth_embed": "loth_embed",
    "loth_separator": "loth_separator",
    "mambattention": "mambattention",
    "mossformer1": "mossformer1",
    "mossformer2": "mossformer2",
    "tiger_speech": "tiger_speech",
}


def load(system: str, state_dict: Tensors, config: Mapping[str, Any]) -> nn.Module:
    """Build a published system and fill it with its weights.

    Parameters
    ----------
    system : str
        One of `SYSTEMS`.
    state_dict : mapping of str to array or tensor
        Weights under the keys that the authors use.
    config : mapping
        Sizes under the authors' names; keys that say nothing about the network are ignored.

    Returns
    -------
    nn.Module
        In evaluation mode.

    Raises
    ------
    HearloopError
        If there is no such system, a size is missing, or a tensor is missing, surplus or misshapen.
    """
    if system not in SYSTEMS:
        raise HearloopError(f"published system {system!r} is unknown; known are {', '.join(SYSTEMS)}")
    module = import_module(f".{SYSTEMS[system]}", __name__)
    try:
        network = module.make(config)
    except KeyError as error:
        raise HearloopError(f"{system}: the configuration lacks {error.args[0]!r}") from None
    fill(
        network,
        state_dict,
        where=system,
        publish=getattr(module, "publish", str),
        prefixes=getattr(module, "PREFIXES", ()),
        needless=getattr(module, "NEEDLESS", ()),
    )
    return network.eval()
