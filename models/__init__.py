"""PyTorch: streaming layers, the models built of them, simulation of training data, training."""

from typing import TYPE_CHECKING, Any

from ..runtime.errors import HearloopError

if TYPE_CHECKING:
    from torch import nn

MODEL_NAMES = ("enhance-small",)


def build(name: str, **config: Any) -> "nn.Module":
    """Build the streaming form of a model, with random weights.

    Parameters
    ----------
    name : str
        One of `MODEL_NAMES`.
    **config
        Sizes that differ from the defaults of the model; see its class.

    Raises
    ------
    HearloopError
        If there is no model of that name.
    """
    # Imported here so that the worker processes of the simulation do not load torch.
    from .enhancement.small import EnhanceSmall

    models = {"enhance-small": EnhanceSmall}
    if name not in models:
        raise HearloopError(f"model {name!r} is unknown; known are {', '.join(MODEL_NAMES)}")
    return models[name](**config)
