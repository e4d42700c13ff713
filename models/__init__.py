"""PyTorch: streaming layers, the models built of them, simulation of training data, training."""

from importlib import import_module
from typing import TYPE_CHECKING, Any, get_type_hints

from ..runtime.errors import HearloopError

if TYPE_CHECKING:
    from torch import nn

# Name -> module, and class or function; imported when built: the workers of the simulation do not load torch.
MODELS = {
    "enhance-small": ("enhancement.small", "EnhanceSmall"),
    "enroll": ("target.enroll", "Enroll"),
    "enroll-frontal": ("target.frontal", "EnrollFrontal"),
    "gtcrn": ("enhancement.gtcrn", "Gtcrn"),
    "gtcrn-8ms": ("enhancement.gtcrn", "gtcrn_8ms"),
    "echo": ("echo.canceller", "EchoCanceller"),
    "echo-large": ("echo.canceller", "echo_large"),
    "echo-small": ("echo.canceller", "echo_small"),
    "enhance-mamba": ("enhancement.mambattention", "mambattention_base"),
    "enhance-mamba-small": ("enhancement.mambattention", "MambAttention"),
    "separate-mossformer": ("separation.mossformer", "mossformer_base"),
    "separate-mossformer-small": ("separation.mossformer", "MossFormer"),
    "separate": ("separation.dualpath", "separate_base"),
    "separate-small": ("separation.dualpath", "DualPathSeparator"),
    "separate-tiger": ("separation.tiger", "tiger_base"),
    "separate-tiger-small": ("separation.tiger", "Tiger"),
    "target": ("target.target", "Target"),
    "target-around": ("target.around", "TargetAround"),
    "target-small": ("target.small", "TargetSmall"),
}
MODEL_NAMES = tuple(MODELS)


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
    return _form(name)(**config)


def task_of(name: str) -> str:
    """The task of a model, such as "enhance", without building it; raises HearloopError as `build` does."""
    form = _form(name)
    model: Any = form if isinstance(form, type) else get_type_hints(form)["return"]
    return str(model.task)


def _form(name: str) -> Any:
    if name not in MODELS:
        raise HearloopError(f"model {name!r} is unknown; known are {', '.join(MODELS)}")
    module, form = MODELS[name]
    return getattr(import_module(f".{module}", __name__), form)
