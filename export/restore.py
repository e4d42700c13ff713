"""The way back: weights of a PyTorch model from the initializers of a bundle, to go on training with them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import numpy_helper
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from ..models import MODEL_NAMES, build
from ..runtime.bundle import load_bundle
from ..runtime.bundle_info import BundleInfo
from ..runtime.golden import Golden
from ..runtime.voice import steering_path
from .onnx import ExportError, export_graph
from .steering import steering_graph

SPACING = 2.0**-21  # of the marks, from one to two: four times that of float32


def restored(name_or_path: str | Path) -> nn.Module | None:
    """The model that a bundle was made of, with its weights; None if the bundle does not say which one that was.

    Raises as `restore` does.
    """
    info = load_bundle(name_or_path).info
    name, config = info.training.get("model", info.name), info.training.get("config", {})
    if name not in MODEL_NAMES:
        return None
    try:
        model = build(name, **config)
    except Exception as error:  # what a file says is not to be trusted, and sizes can be wrong in many ways
        raise ExportError(f"{name_or_path}: says that it was made of {name} with {config} ({error})") from error
    restore(model, name_or_path)
    return model


def restore(model: nn.Module, name_or_path: str | Path) -> None:
    """Fill a model, as `hearloop.models.build` makes it, with the weights of a bundle of the same architecture.

    A graph holds the weights in another order than PyTorch, transposed, joined or with batch norms folded into them.
    Where each number belongs is found by exporting the model itself with numbers that occur only once. Batch norms
    become ones that only shift, which computes the same. The result must reproduce the bundle's golden vectors. The
    steering of a target model is a file beside the bundle, and comes back with it.

    Raises
    ------
    ExportError
        If the bundle has another structure, or the model then computes something else.
    BundleError
        If it is no valid bundle.
    """
    bundle = load_bundle(name_or_path)
    _fill(model, export_graph, onnx.load_from_string(bundle.model), str(name_or_path))
    if hasattr(model, "steering"):
        assert bundle.path is not None  # loaded by name or path
        beside = steering_path(bundle.path)
        try:
            graph = onnx.load(beside)
        except (OSError, DecodeError) as error:
            raise ExportError(f"{beside}: the steering of {name_or_path} cannot be read ({error})") from error
        _fill(model.get_submodule("steering"), steering_graph, graph, str(beside))
    if bundle.info.golden is not None:
        reproduce(model, bundle.info, bundle.info.golden)


def version_of(model: nn.Module, name_or_path: str | Path) -> str:
    """The version of a bundle that computes the same as a model, whose weights may be written otherwise.

    Raises ExportError if it does not.
    """
    info = load_bundle(name_or_path).info
    if info.golden is None:
        raise ExportError(f"{name_or_path}: has no golden vectors; expected some, to be compared with")
    if info.task != str(model.task):
        raise ExportError(f"{name_or_path}: has task {info.task!r}; expected {model.task!r}")
    reproduce(model, info, info.golden)
    return info.version


def _fill(part: nn.Module, trace: Callable[[nn.Module], onnx.ModelProto], graph: onnx.ModelProto, where: str) -> None:
    """Give all parameters of a part of a model, which `trace` makes a graph of, the values of another such graph."""
    held = {item.name: numpy_helper.to_array(item) for item in graph.graph.initializer}
    parameters = _mark(part)
    values = np.concatenate([parameter.detach().numpy().ravel() for parameter in parameters])
    for item in trace(part.eval()).graph.initializer:
        marks = numpy_helper.to_array(item)
        if marks.dtype != np.float32:
            continue
        if item.name not in held or held[item.name].shape != marks.shape:
            found = list(held[item.name].shape) if item.name in held else "missing"
            raise ExportError(f"{where}: {item.name!r} is {found}, expected {list(marks.shape)}")
        for inverse, tolerance in ((_same, 0.01), (_logarithm, 0.3)):
            places = (inverse(marks.astype(np.float64)) - 1) / SPACING - 0.5
            known = (abs(places - np.rint(places)) < tolerance) & (places > -0.5) & (places < len(values) - 0.5)
            values[np.rint(places[known]).astype(int)] = inverse(held[item.name][known])
    parts = np.split(values, np.cumsum([parameter.numel() for parameter in parameters])[:-1])
    with torch.no_grad():
        for parameter, value in zip(parameters, parts, strict=True):
            parameter.copy_(torch.from_numpy(value).view(parameter.shape))


def _mark(model: nn.Module) -> list[nn.Parameter]:
    """Number all elements of all parameters through, and return these; batch norms become ones that only shift."""
    fixed = set()
    before = None
    for layer in model.modules():
        if isinstance(layer, _BatchNorm):
            layer.reset_parameters()
            assert layer.running_var is not None
            layer.running_var.fill_(1 - layer.eps)
            fixed.add(id(layer.weight))
            if isinstance(before, _ConvNd) and before.bias is not None:
                # The graph holds the sum of both offsets; that of the convolution can carry it.
                fixed.add(id(layer.bias))
        if not any(True for _ in layer.children()):
            before = layer
    parameters = [parameter for parameter in model.parameters() if id(parameter) not in fixed]
    marked = 0
    for parameter in parameters:
        # Half a spacing aside, where no constant of an architecture lies.
        marks = 1 + SPACING * (0.5 + np.arange(marked, marked + parameter.numel()))
        marked += parameter.numel()
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(marks).view(parameter.shape))
    if marked > 1 / SPACING:
        raise ExportError(f"{type(model).__name__} has {marked} parameters; expected at most {round(1 / SPACING)}")
    return parameters


def _same(value: np.ndarray) -> np.ndarray:
    return value


def _logarithm(value: np.ndarray) -> np.ndarray:
    """What a state space layer makes minus the exponential of; zero where there is none."""
    return np.log(np.where(value < 0, -value, 1))


def reproduce(model: nn.Module, info: BundleInfo, golden: Golden) -> None:
    """Raise ExportError unless a model computes the golden vectors of a bundle."""
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
            f"{info.name}: the output of these weights differs by {error:.2g} of at most "
            f"{golden.tolerance * np.abs(expected).max():.2g}; is it this architecture?"
        )
