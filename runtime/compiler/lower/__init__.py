"""Lowering: the nodes of an ONNX graph become views and kernels."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from ...errors import UnsupportedModel
from ..program import Program, StatePort
from ..read import dtype_of, opset_of, shape_of
from . import contraction, convolution, elementwise, normalization, recurrent, reduction, views
from .environment import Environment, Tensor

LOWERINGS: dict[str, Any] = {
    **views.LOWERINGS,
    **elementwise.LOWERINGS,
    **contraction.LOWERINGS,
    **convolution.LOWERINGS,
    **recurrent.LOWERINGS,
    **normalization.LOWERINGS,
    **reduction.LOWERINGS,
}


def supported_operators() -> list[str]:
    """Names of the operators that the compiler knows; others are supported where all their inputs are constant."""
    return sorted([*LOWERINGS, "If"])


def lower(model: onnx.ModelProto, states: Mapping[str, str]) -> Program:
    """Turn a model into a program.

    Parameters
    ----------
    model : ModelProto
        From `read_model`.
    states : mapping of str to str
        Graph input -> graph output that is its next value.

    Raises
    ------
    UnsupportedModel
        If a node cannot be lowered; the message names it.
    """
    graph = model.graph
    functions = {(function.domain, function.name): function for function in model.functions}
    environment = Environment(opset_of(model), functions)
    memory, values = environment.memory, environment.values
    values.update({item.name: numpy_helper.to_array(item) for item in graph.initializer})
    inputs, dtypes = {}, {}
    for port in graph.input:
        if port.name in values:
            continue
        is_state = port.name in states
        buffer = memory.new("state" if is_state else "input", shape_of(port), port.name, kept=is_state)
        inputs[port.name] = buffer.addresses
        dtypes[port.name] = dtype_of(port)
        values[port.name] = Tensor(buffer.addresses, np.dtype(dtypes[port.name]))
    for node in graph.node:
        lower_node(environment, node)
    ports = [
        StatePort(name, following, inputs[name], _fitted(environment, values[following], inputs[name].shape, following))
        for name, following in states.items()
    ]
    outputs = {}
    for port in graph.output:
        if port.name in states.values():
            continue
        source = environment.addresses(values[port.name])
        target = memory.new("output", source.shape, port.name).addresses
        environment.copy(source, target)
        outputs[port.name] = target
        dtypes[port.name] = dtype_of(port)
    plain = {name: addresses for name, addresses in inputs.items() if name not in states}
    return Program(graph.name, memory, environment.kernels, plain, outputs, ports, dtypes)


def _fitted(environment: Environment, value: Any, shape: tuple[int, ...], name: str) -> np.ndarray:
    addresses = environment.addresses(value)
    if addresses.shape != shape:
        raise UnsupportedModel(f"state output {name!r} has shape {list(addresses.shape)}, its input {list(shape)}")
    return addresses


def lower_node(environment: Environment, node: onnx.NodeProto) -> None:
    """Lower one node, or evaluate it if all that it needs is constant."""
    values = environment.values
    inputs = [values[name] if name else None for name in node.input]
    if node.op_type == "If" and node.domain in ("", "ai.onnx"):
        _lower_if(environment, node, inputs[0])
        return
    function = environment.functions.get((node.domain, node.op_type))
    if function is not None:
        _lower_function(environment, node, function, inputs)
        return
    attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    try:
        if not any(isinstance(value, Tensor) for value in inputs) and node.op_type not in ("Shape", "Size"):
            results = _evaluate(environment, node, inputs)
        else:
            lowering = LOWERINGS.get(node.op_type)
            if lowering is None or node.domain not in ("", "ai.onnx", "com.microsoft"):
                raise UnsupportedModel("the compiler does not know this operator")
            results = lowering(environment, attributes, *inputs, outputs=len(node.output))
    except UnsupportedModel as error:
        raise UnsupportedModel(f"node {node.name or node.output[0]!r} ({node.op_type}): {error}") from error
    except (ValueError, IndexError, TypeError, KeyError, AttributeError) as error:
        raise UnsupportedModel(f"node {node.name or node.output[0]!r} ({node.op_type}): {error}") from error
    results = results if isinstance(results, list | tuple) else [results]
    for name, value in zip(node.output, results, strict=False):
        if name:
            values[name] = value


def _evaluate(environment: Environment, node: onnx.NodeProto, inputs: list[Any]) -> list[Any]:
    """Evaluate a node of constants with ONNX's own reference."""
    if node.op_type == "Constant":
        return [_constant(node)]
    feeds = {name: value for name, value in zip(node.input, inputs, strict=True) if name}
    proto = onnx.helper.make_model(
        onnx.helper.make_graph(
            [node],
            "constant",
            [
                onnx.helper.make_tensor_value_info(
                    name, onnx.helper.np_dtype_to_tensor_dtype(np.asarray(value).dtype), None
                )
                for name, value in feeds.items()
            ],
            [onnx.helper.make_empty_tensor_value_info(name) for name in node.output if name],
        ),
        opset_imports=[onnx.helper.make_opsetid("", environment.opset)],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = ReferenceEvaluator(proto).run(None, feeds)
    results = iter(found)
    return [np.asarray(next(results)) if name else None for name in node.output]


def _constant(node: onnx.NodeProto) -> np.ndarray:
    item = node.attribute[0]
    value = onnx.helper.get_attribute_value(item)
    if item.name == "value":
        return np.asarray(numpy_helper.to_array(value))
    return np.asarray(value, np.float32 if "float" in item.name else np.int64)


def _lower_function(
    environment: Environment, node: onnx.NodeProto, function: onnx.FunctionProto, inputs: list[Any]
) -> None:
    """Lower the body of a local function, with names of its own."""
    given = {item.name: item for item in node.attribute}
    given = {**{item.name: item for item in function.attribute_proto}, **given}
    outer, environment.values = environment.values, dict(zip(function.input, inputs, strict=False))
    environment.values.update({name: None for name in function.input[len(inputs) :]})
    try:
        for inner in function.node:
            lower_node(environment, _with_attributes(inner, given))
        results = [environment.values[name] for name in function.output]
    finally:
        environment.values = outer
    environment.values.update({name: value for name, value in zip(node.output, results, strict=False) if name})


def _with_attributes(node: onnx.NodeProto, given: dict[str, onnx.AttributeProto]) -> onnx.NodeProto:
    """A node of a function's body, its references to attributes of the function replaced by their values."""
    if not any(item.ref_attr_name for item in node.attribute):
        return node
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    del copy.attribute[:]
    for item in node.attribute:
        if not item.ref_attr_name:
            copy.attribute.append(item)
        elif item.ref_attr_name in given:
            value = onnx.AttributeProto()
            value.CopyFrom(given[item.ref_attr_name])
            value.name = item.name
            copy.attribute.append(value)
    return copy


def _lower_if(environment: Environment, node: onnx.NodeProto, condition: Any) -> None:
    """A known condition takes its branch; otherwise both are computed, and every result is chosen."""
    branches = {item.name: item.g for item in node.attribute}

    def branch(graph: onnx.GraphProto) -> list[Any]:
        kept = dict(environment.values)
        environment.values.update({item.name: numpy_helper.to_array(item) for item in graph.initializer})
        for inner in graph.node:
            lower_node(environment, inner)
        results = [environment.values[port.name] for port in graph.output]
        environment.values = kept
        return results

    if not isinstance(condition, Tensor):
        chosen = branch(branches["then_branch" if np.asarray(condition).ravel()[0] else "else_branch"])
    else:
        pairs = zip(branch(branches["then_branch"]), branch(branches["else_branch"]), strict=True)
        chosen = [_choose(environment, node, condition, then, otherwise) for then, otherwise in pairs]
    environment.values.update({name: value for name, value in zip(node.output, chosen, strict=True) if name})


def _choose(environment: Environment, node: onnx.NodeProto, condition: Tensor, then: Any, otherwise: Any) -> Any:
    if tuple(then.shape) != tuple(otherwise.shape):
        raise UnsupportedModel(
            f"node {node.name or node.output[0]!r} (If): the branches give shapes {list(then.shape)} and "
            f"{list(otherwise.shape)}, expected the same"
        )
    flat = condition.view(condition.addresses.reshape((1,) * len(then.shape)))
    return elementwise.where(environment, {}, flat, then, otherwise)
