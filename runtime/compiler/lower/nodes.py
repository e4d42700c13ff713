"""From a node to views and kernels: by its operator, by a function's body, or by one branch of two."""

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ...errors import UnsupportedModel
from . import (
    attention,
    casts,
    contraction,
    convolution,
    elementwise,
    functions,
    normalization,
    pooling,
    quantization,
    recurrent,
    reduction,
    views,
)
from .environment import Environment, Tensor
from .folding import evaluate

STANDARD = ("", "ai.onnx")
# A lowering gets the environment, the attributes, the inputs (None where one is left out) and the number of outputs.
LOWERINGS: dict[str, Any] = {
    **views.LOWERINGS,
    **casts.LOWERINGS,
    **elementwise.LOWERINGS,
    **contraction.LOWERINGS,
    **convolution.LOWERINGS,
    **pooling.LOWERINGS,
    **recurrent.LOWERINGS,
    **normalization.LOWERINGS,
    **reduction.LOWERINGS,
    **quantization.LOWERINGS,
    **attention.LOWERINGS,
}
MICROSOFT: dict[str, Any] = {**elementwise.MICROSOFT, **normalization.MICROSOFT, **quantization.MICROSOFT}
DOMAINS = {"": LOWERINGS, "com.microsoft": MICROSOFT, "hearloop": functions.LOWERINGS}


def supported_operators() -> list[str]:
    """Names of the operators that the compiler knows; any other is evaluated beforehand if its inputs are constant."""
    return sorted([*LOWERINGS, "If", *(f"com.microsoft.{name}" for name in MICROSOFT)])


def lower_node(environment: Environment, node: onnx.NodeProto) -> None:
    """Lower one node, or evaluate it if all that it needs is constant.

    Raises
    ------
    UnsupportedModel
        If it cannot be lowered; the message names the node, the operator and the reason.
    """
    try:
        results = _results(environment, node, _inputs(environment, node))
    except UnsupportedModel as error:
        raise UnsupportedModel(f"node {_name(node)!r} ({node.op_type}): {error}") from error
    except (ValueError, IndexError, TypeError, KeyError, AttributeError) as error:
        reason = f"a form that the compiler does not know: {error}"
        raise UnsupportedModel(f"node {_name(node)!r} ({node.op_type}): {reason}") from error
    for name, value in zip(node.output, results, strict=False):
        if name:
            environment.values[name] = _settled(value)


def _name(node: onnx.NodeProto) -> str:
    return node.name or next((name for name in node.output if name), "")


def _inputs(environment: Environment, node: onnx.NodeProto) -> list[Any]:
    for name in node.input:
        if name and name not in environment.values:
            raise UnsupportedModel(
                f"input {name!r} is not known; expected an input, a dense initializer or an earlier result"
            )
    return [environment.values[name] if name else None for name in node.input]


def _settled(value: Any) -> Any:
    """A tensor without elements is a constant: there is nothing to compute."""
    return np.zeros(value.shape, value.dtype) if isinstance(value, Tensor) and not value.addresses.size else value


def _results(environment: Environment, node: onnx.NodeProto, inputs: list[Any]) -> list[Any]:
    standard = node.domain in STANDARD
    if standard and node.op_type == "If":
        return _if(environment, node, inputs[0])
    function = environment.functions.get((node.domain, node.op_type, node.overload))
    varies = any(isinstance(value, Tensor) for value in inputs)
    by_name = varies and node.domain == "hearloop" and node.op_type in functions.LOWERINGS
    if function is not None and not by_name:
        return _function(environment, node, function, inputs)
    attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    if standard and node.op_type in ("Shape", "Size"):
        return [LOWERINGS[node.op_type](environment, attributes, *inputs)]
    if not varies:
        return evaluate(node, inputs, environment.opset)
    lowering = DOMAINS.get("" if standard else node.domain, {}).get(node.op_type)
    if lowering is None:
        raise UnsupportedModel("the compiler does not know this operator" + quantization.ADVICE.get(node.op_type, ""))
    results = lowering(environment, attributes, *inputs, outputs=len(node.output))
    return results if isinstance(results, list) else [results]


def _function(
    environment: Environment, node: onnx.NodeProto, function: onnx.FunctionProto, inputs: list[Any]
) -> list[Any]:
    """Lower the body of a function, with names of its own."""
    given = {item.name: item for item in (*function.attribute_proto, *node.attribute)}
    values: dict[str, Any] = dict.fromkeys(function.input)
    values.update(zip(function.input, inputs, strict=False))
    opset = next((item.version for item in function.opset_import if item.domain in STANDARD), environment.opset)
    with environment.scope(values, opset):
        for inner in function.node:
            lower_node(environment, _with_attributes(inner, given))
        return [environment.values[name] for name in function.output]


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


def _if(environment: Environment, node: onnx.NodeProto, condition: Any) -> list[Any]:
    """A known condition takes its branch; otherwise both are computed, and every result is chosen."""
    branches = {item.name: item.g for item in node.attribute}

    def branch(name: str) -> list[Any]:
        graph = branches[name]
        constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
        with environment.scope({**environment.values, **constants}, environment.opset):
            for inner in graph.node:
                lower_node(environment, inner)
            return [environment.values[port.name] for port in graph.output]

    if not isinstance(condition, Tensor):
        return branch("then_branch" if np.asarray(condition).ravel()[0] else "else_branch")
    pairs = zip(branch("then_branch"), branch("else_branch"), strict=True)
    return [_choose(environment, condition, then, otherwise) for then, otherwise in pairs]


def _choose(environment: Environment, condition: Tensor, then: Any, otherwise: Any) -> Any:
    if then.shape != otherwise.shape:
        raise UnsupportedModel(
            f"the branches give shapes {list(then.shape)} and {list(otherwise.shape)}, expected the same"
        )
    flat = condition.view(condition.addresses.reshape((1,) * len(then.shape)))
    return elementwise.where(environment, {}, flat, then, otherwise)
