"""What is known when the model is compiled is computed then, by ONNX's own reference."""

import warnings
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from ...errors import UnsupportedModel

DRAWING = ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
OLDEST_DEQUANTIZE = 19  # opset from which the reference knows it; the types of before mean the same there
SOFTMAX = ("Softmax", "LogSoftmax", "Hardmax")


def evaluate(node: onnx.NodeProto, inputs: list[Any], opset: int) -> list[Any]:
    """Outputs of a node whose inputs are all constant.

    Raises
    ------
    UnsupportedModel
        If it draws random numbers, or ONNX's reference cannot evaluate it.
    """
    if node.op_type == "Constant":
        return [_constant(node)]
    if node.op_type in DRAWING:
        raise UnsupportedModel("it draws anew in every step; expected a result that is always the same")
    if node.op_type in SOFTMAX and opset < 13:
        return [_softmax_of_rows(node, inputs[0])]
    feeds = {name: value for name, value in zip(node.input, inputs, strict=True) if name}
    graph = helper.make_graph(
        [node],
        "constant",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            for name, value in feeds.items()
        ],
        [helper.make_empty_tensor_value_info(name) for name in node.output if name],
    )
    if node.op_type == "DequantizeLinear":  # that of com.microsoft as well
        opset = max(opset, OLDEST_DEQUANTIZE)
        graph.node[0].domain = ""
    domain = graph.node[0].domain
    imports = [helper.make_opsetid(domain, opset if domain in ("", "ai.onnx") else 1)]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = ReferenceEvaluator(helper.make_model(graph, opset_imports=imports)).run(None, feeds)
    except Exception as error:  # the reference raises whatever it likes
        raise UnsupportedModel(f"evaluating it beforehand failed: {error}") from error
    results = iter(found)
    return [np.asarray(next(results)) if name else None for name in node.output]


def _softmax_of_rows(node: onnx.NodeProto, x: np.ndarray) -> np.ndarray:
    """Before opset 13 everything from the axis on is one row."""
    axis = next((item.i for item in node.attribute if item.name == "axis"), 1)
    newer = helper.make_node(node.op_type, node.input, node.output, axis=1)
    (rows,) = evaluate(newer, [x.reshape(prod(x.shape[:axis]), -1)], 13)
    return np.asarray(rows).reshape(x.shape)


def _constant(node: onnx.NodeProto) -> np.ndarray:
    item = node.attribute[0]
    value = helper.get_attribute_value(item)
    if item.name == "value":
        return np.asarray(numpy_helper.to_array(value))
    if item.name in ("sparse_value", "value_string", "value_strings"):
        raise UnsupportedModel(f"a constant given by {item.name!r}")
    return np.asarray(value, np.float32 if "float" in item.name else np.int64)
