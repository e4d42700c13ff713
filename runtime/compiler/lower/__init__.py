"""Lowering: the nodes of an ONNX graph become views and kernels.

In memory every number is a float32, whatever type the model gives it: integers and booleans that are computed when the
model runs are exact up to 2^24, and float64 and float16 are computed as float32. Constants keep their types.
"""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from ...errors import UnsupportedModel
from ..memory import Addresses
from ..program import Program, StatePort
from ..read import dtype_of, opset_of, shape_of
from .environment import Environment, Tensor
from .nodes import lower_node, supported_operators

__all__ = ["lower", "supported_operators"]


def lower(model: onnx.ModelProto, states: Mapping[str, str], rings: Mapping[str, int] | None = None) -> Program:
    """Turn a model into a program.

    Parameters
    ----------
    model : ModelProto
        From `read_model`.
    states : mapping of str to str
        Graph input -> graph output that is its next value.
    rings : mapping of str to int, optional
        Graph input -> axis of its entries, for states whose output is the new entry alone. What it becomes is written
        as if all entries moved up by one; a pass makes it a window that moves instead.

    Raises
    ------
    UnsupportedModel
        If a node cannot be lowered; the message names it.
    """
    graph = model.graph
    functions = {(function.domain, function.name, function.overload): function for function in model.functions}
    environment = Environment(opset_of(model), functions)
    memory, values = environment.memory, environment.values
    values.update({item.name: numpy_helper.to_array(item) for item in graph.initializer})
    inputs, dtypes = {}, {}
    for port in graph.input:
        if port.name in values:
            continue
        is_state = port.name in states
        buffer = memory.new("state" if is_state else "input", shape_of(port), port.name, kept=is_state)
        inputs[port.name], dtypes[port.name] = buffer.addresses, dtype_of(port)
        empty = np.zeros(buffer.shape, dtypes[port.name])
        values[port.name] = Tensor(buffer.addresses, np.dtype(dtypes[port.name])) if buffer.size else empty
    for node in graph.node:
        lower_node(environment, node)
    ports = [
        StatePort(name, following, inputs[name], _next(environment, following, inputs[name], (rings or {}).get(name)))
        for name, following in states.items()
    ]
    outputs = {}
    for port in graph.output:
        if port.name in states.values():
            continue
        source = environment.addresses(values[port.name])
        outputs[port.name] = memory.new("output", source.shape, port.name).addresses
        if source.size:
            environment.copy(source, outputs[port.name])
        dtypes[port.name] = dtype_of(port)
    plain = {name: addresses for name, addresses in inputs.items() if name not in states}
    return Program(graph.name, memory, environment.kernels, plain, outputs, ports, dtypes)


def _next(environment: Environment, name: str, current: Addresses, axis: int | None) -> Addresses:
    """What a state becomes: the output of this name, or for a ring all entries but the oldest, and the output."""
    addresses = environment.addresses(environment.values[name])
    if axis is not None:
        addresses = np.concatenate([np.delete(current, 0, axis), addresses], axis)
    if addresses.shape != current.shape:
        raise UnsupportedModel(
            f"state output {name!r} has shape {list(addresses.shape)}, its input {list(current.shape)}"
        )
    return addresses
