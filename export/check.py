"""What a model must be to be exported, found out by one frame of it before minutes go by with tracing."""

import copy
from collections import Counter

import torch
from torch import nn

from ..models.streaming.state import flatten_state
from ..runtime.errors import HearloopError
from .onnx import ExportError, Step, failure

ATTRIBUTES = ("task", "window", "channels_in", "channels_out", "initial_state")
ON_SAMPLES = ("frame", "lookahead")  # of a model without a window


def checked_copy(model: nn.Module) -> nn.Module:
    """A copy of a model, on the CPU and in evaluation mode, that has run one frame.

    What a model makes when it first runs, such as a table of positions, is then there: made while it is traced, it
    would be no tensor of numbers.

    Raises
    ------
    ExportError
        If the model cannot be copied, lacks an attribute, or has a parameter, state or output that a step cannot have.
    """
    who = type(model).__name__
    try:
        model = copy.deepcopy(model).cpu().eval()
    except Exception as error:  # of PyTorch, or of what the model holds
        hint = "; if it has old weight norms, torch.nn.utils.remove_weight_norm makes plain weights of them"
        raise ExportError(f"{who} cannot be copied to the CPU ({failure(error)}){hint}") from error
    _check_attributes(model, who)
    try:
        step = Step(model)
        _check_names(step, who)
        _check_states(step, who)
        with torch.no_grad():
            given = step(*step.frame())
    except HearloopError:
        raise
    except Exception as error:  # whatever the model raises
        raise ExportError(f"{who} cannot run one frame ({type(error).__name__}: {failure(error)})") from error
    shapes = [step.output.shape, *(tuple(state.shape) for state in flatten_state(step.structure).values())]
    for name, value, shape in zip(step.output_names, given, shapes, strict=True):
        if tuple(value.shape) != shape or value.dtype != torch.float32:
            raise ExportError(
                f"{who} gives {name!r} as {value.dtype} of shape {list(value.shape)} after one frame; "
                f"expected torch.float32 of shape {list(shape)}"
            )
    return model


def initial_values(model: nn.Module) -> dict[str, float]:
    """What each state is filled with to begin with, by the name of its input of the graph."""
    states = flatten_state(model.initial_state(1))
    return {f"state.{path}": float(state.flatten()[0]) for path, state in states.items()}


def _check_attributes(model: nn.Module, who: str) -> None:
    expected = ATTRIBUTES if getattr(model, "window", None) is not None else ATTRIBUTES + ON_SAMPLES
    missing = [name for name in expected if not hasattr(model, name)]
    if missing:
        raise ExportError(f"{who} has no {', '.join(missing)}; expected {', '.join(expected)}")
    for name, parameter in model.named_parameters():
        if parameter.dtype != torch.float32:
            raise ExportError(f"parameter {name!r} of {who} is {parameter.dtype}; expected torch.float32")


def _check_names(step: Step, who: str) -> None:
    counts = Counter([*step.input_names, *step.output_names])
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise ExportError(f"{who} has more than one input or output {twice[0]!r}; expected a name for each")


def _check_states(step: Step, who: str) -> None:
    for path, state in flatten_state(step.structure).items():
        if state.dtype != torch.float32 or not state.numel():
            raise ExportError(
                f"the state {path!r} of {who} is {state.dtype} of shape {list(state.shape)}; "
                "expected torch.float32 and no axis of length zero"
            )
        if not bool((state == state.flatten()[0]).all() and state.isfinite().all()):
            raise ExportError(
                f"the state {path!r} of {who} begins with values from {float(state.min()):g} to "
                f"{float(state.max()):g}; expected one finite value for all"
            )
