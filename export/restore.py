"""The way back: weights of a PyTorch model from the initializers of a bundle, to go on training with them."""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..runtime.bundle import BundleInfo, load_bundle
from ..runtime.golden import Golden
from .onnx import ExportError, export_graph

# How a constant of the graph may depend on a parameter, element by element, and the inverse of it.
FORMS = (
    (lambda value: value, lambda value: value),
    (lambda value: -np.exp(value), lambda value: np.log(-value)),  # the decay of a state space layer
)
SPACING = 2.0**-21  # of the marks, from one to two: four times that of float32, so that their exponentials differ too


def restore(model: nn.Module, name_or_path: str | Path) -> None:
    """Fill a model, as `hearloop.models.build` makes it, with the weights of a bundle of the same architecture.

    A graph holds the weights in another order than PyTorch, transposed, joined or with batch norms folded into them.
    Where each number belongs is found by exporting the model itself with numbers that occur only once. Batch norms
    become ones that only shift, which computes the same. The result must reproduce the bundle's golden vectors.

    Raises
    ------
    ExportError
        If the bundle has another structure, or the model then computes something else.
    BundleError
        If it is no valid bundle.
    """
    bundle = load_bundle(name_or_path)
    held = {item.name: numpy_helper.to_array(item) for item in onnx.load_from_string(bundle.model).graph.initializer}
    new_values, places = _mark(model)
    probe = export_graph(model.eval())
    for item in probe.graph.initializer:
        marks = numpy_helper.to_array(item)
        if marks.dtype != np.float32 or marks.size == 0:
            continue
        if item.name not in held or held[item.name].shape != marks.shape:
            found = list(held[item.name].shape) if item.name in held else "missing"
            raise ExportError(f"{name_or_path}: {item.name!r} is {found}, expected {list(marks.shape)}")
        for mark, value in zip(marks.ravel().tolist(), held[item.name].ravel(), strict=True):
            if mark in places:
                values, at, form = places[mark]
                values[at] = FORMS[form][1](value)
    with torch.no_grad():
        for parameter, values in new_values:
            parameter.copy_(torch.from_numpy(values).view(parameter.shape))
    if bundle.info.golden is not None:
        _compare(model, bundle.info, bundle.info.golden)


def _mark(
    model: nn.Module,
) -> tuple[list[tuple[nn.Parameter, np.ndarray]], dict[float, tuple[np.ndarray, int, int]]]:
    """Give every parameter numbers of its own.

    Returns each parameter with its values in a row, and for each number, as it may occur in the graph, these values,
    the position in them, and the form in which it occurs.
    """
    if sum(parameter.numel() for parameter in model.parameters()) > 1 / SPACING:
        raise ExportError(f"{type(model).__name__} has more parameters than there are numbers to mark them")
    gains = set()
    for layer in model.modules():
        if isinstance(layer, _BatchNorm):
            layer.reset_parameters()
            assert layer.running_var is not None
            layer.running_var.fill_(1 - layer.eps)
            gains.add(id(layer.weight))
    new_values, places, marked = [], {}, 0
    for parameter in model.parameters():
        if id(parameter) in gains:
            continue
        # Half a spacing aside, where no constant of an architecture lies.
        marks = (1 + SPACING * (0.5 + np.arange(marked, marked + parameter.numel()))).astype(np.float32)
        marked += parameter.numel()
        values = marks.copy()
        for form, (forward, _) in enumerate(FORMS):
            places.update({number: (values, at, form) for at, number in enumerate(forward(marks).tolist())})
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(marks).view(parameter.shape))
        new_values.append((parameter, values))
    return new_values, places


def _compare(model: nn.Module, info: BundleInfo, golden: Golden) -> None:
    (expected,) = golden.outputs.values()
    signals = []
    for port in info.inputs:
        frames = torch.from_numpy(golden.inputs[port.name])
        signals.append(frames[0] if port.role == "embedding" else frames.squeeze(3).movedim(0, 2))
    with torch.no_grad():
        found, _ = model(*signals, model.initial_state(1))
    error = np.abs(found.movedim(2, 0).unsqueeze(3).numpy() - expected).max()
    if not error <= golden.tolerance * np.abs(expected).max():
        raise ExportError(
            f"{info.name}: the output of the restored weights differs by {error:.2g} of at most "
            f"{golden.tolerance * np.abs(expected).max():.2g}; is it this architecture?"
        )
