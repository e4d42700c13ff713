"""The step of a model as an ONNX graph: one frame and the state in, one frame and the next state out."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import onnx
import torch
from onnxscript import optimizer
from torch import nn

from ..models.streaming.state import State, flatten_state, ring_paths, unflatten_state
from ..runtime.bundle_info import Port
from ..runtime.errors import HearloopError
from ..runtime.windows import window_pair
from .functions import define_functions, translations
from .rings import emit_entries
from .simplify import simplify

OPSET = 18
# What each channel of the output holds.
MEANINGS = {
    "enhance": "speech",
    "separate": "one talker per channel",
    "target": "the chosen talker",
    "echo": "speech of the near end",
}
# Larger than any constant of a model that runs in real time on a CPU: every constant expression is folded.
FOLD_LIMIT_BYTES = 1 << 26


class ExportError(HearloopError):
    """A model that cannot be written as a bundle."""


def signal_port(model: nn.Module, name: str, channels: int, meaning: str) -> Port:
    """A signal in one step: its spectrum, or its samples for a model without a window; frames are on axis 2."""
    if model.window is None:
        return Port(name, "audio", (1, channels, 1, int(model.frame)), meaning)
    return Port(name, "spectrum", (1, channels, 1, window_pair(str(model.window)).bins, 2), meaning)


def input_ports(model: nn.Module) -> tuple[Port, ...]:
    """What goes into one step besides the state: the signal, then the model's `extra_inputs`, if it has any.

    Raises
    ------
    ExportError
        If a reference is not the signal of one frame.
    """
    name = "audio" if model.window is None else "spectrum"
    signal = signal_port(model, name, int(model.channels_in), "what the microphones hear")  # type: ignore[arg-type]
    extra: tuple[Port, ...] = tuple(getattr(model, "extra_inputs", ()))
    for port in extra:
        expected = (1, port.shape[1], *signal.shape[2:])
        if port.role != "embedding" and port.shape != expected:
            raise ExportError(
                f"input {port.name!r} of {type(model).__name__} has the role {port.role!r} and the shape "
                f"{list(port.shape)}, expected the {signal.role} of a frame, {list(expected)}"
            )
    return signal, *extra


def output_port(model: nn.Module) -> Port:
    """What comes out of one step besides the state: the model's `output`, or the enhanced signal."""
    meaning = MEANINGS.get(str(model.task), "")
    enhanced = signal_port(model, "enhanced", int(model.channels_out), meaning)  # type: ignore[arg-type]
    output: Port = getattr(model, "output", enhanced)
    return output


class Step(nn.Module):
    """One frame of a model with its state as a flat list of tensors, as the graph has it."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.ports, self.output = input_ports(model), output_port(model)
        self.structure: State = model.initial_state(1)
        self.paths = list(flatten_state(self.structure))

    @property
    def input_names(self) -> list[str]:
        return [*(port.name for port in self.ports), *(f"state.{path}" for path in self.paths)]

    @property
    def output_names(self) -> list[str]:
        return [self.output.name, *(f"state.{path}.next" for path in self.paths)]

    def frame(self) -> tuple[torch.Tensor, ...]:
        """Noise for every port, and the initial state."""
        return (*(torch.randn(port.shape) for port in self.ports), *flatten_state(self.structure).values())

    def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        inputs, states = values[: len(self.ports)], values[len(self.ports) :]
        state = unflatten_state(self.structure, dict(zip(self.paths, states, strict=True)))
        enhanced, following = self.model(*inputs, state)
        flat = flatten_state(following)
        if flat.keys() != set(self.paths):
            raise ExportError(f"the next state has the tensors {list(flat)}, the initial state {self.paths}")
        # What is an input as well, or is given twice, needs a name of its own in the graph.
        return tuple(value.clone() for value in (enhanced, *(flat[path] for path in self.paths)))


def export_graph(model: nn.Module, rings: bool = True) -> onnx.ModelProto:
    """Export the one-frame step of a model, which must be on the CPU and in evaluation mode.

    Inputs `spectrum` [1, C, 1, F, 2] (or `audio` [1, C, 1, samples] if `window` is None), the model's `extra_inputs`,
    and `state.<path>`; outputs `enhanced` (or the model's `output`) and `state.<path>.next`; all float32 with static
    shapes. Batch norms and every other constant expression are folded.

    Of a state in `Rings` the output is the new entry alone; without `rings` it is the whole memory, moved by one, for
    runtimes that know no rings.

    Raises
    ------
    ExportError
        If PyTorch cannot trace the model or express it in ONNX.
    """
    step = Step(model)
    graph = trace(step, step.frame(), step.input_names, step.output_names, type(model).__name__)
    return emit_entries(graph, [f"state.{path}" for path in ring_paths(step.structure)]) if rings else graph


def trace(
    module: nn.Module, inputs: tuple[torch.Tensor, ...], input_names: list[str], output_names: list[str], who: str
) -> onnx.ModelProto:
    """A module as a graph with static shapes, constants folded; `who` names it in errors.

    Raises
    ------
    ExportError
        If PyTorch cannot trace it or express it in ONNX.
    """
    try:
        with torch.no_grad(), _quiet():
            program = torch.onnx.export(
                module,
                inputs,
                input_names=input_names,
                output_names=output_names,
                opset_version=OPSET,
                dynamo=True,
                optimize=False,
                custom_translation_table=translations(),
                verbose=False,
            )
            assert program is not None  # it is None only where a file name is given
            graph = program.model_proto
            define_functions(graph)
            folded = optimizer.optimize(
                graph, inline=False, input_size_limit=FOLD_LIMIT_BYTES, output_size_limit=FOLD_LIMIT_BYTES
            )
            return simplify(folded)
    except Exception as error:  # the exporter lets through whatever goes wrong inside it
        raise ExportError(f"{who} cannot be exported: {failure(error)}") from error


def failure(error: BaseException) -> str:
    """What went wrong, in a line: the exporter wraps it in reports of its own, one in the other."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter reports its own progress and private deprecations; what matters is raised or verified."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
