"""What is known when the model is compiled is computed then, by ONNX's own reference."""

import warnings
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from ...errors import UnsupportedModel


def evaluate(node: onnx.NodeProto, inputs: list[Any], opset: int) -> list[Any]:
    """Outputs of a node whose inputs are all constant.

    Raises
    ------
    UnsupportedModel
        If ONNX's reference cannot evaluate it.
    """
    if node.op_type == "Constant":
        return [_constant(node)]
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
    imports = [helper.make_opsetid(node.domain, opset if node.domain in ("", "ai.onnx") else 1)]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = ReferenceEvaluator(helper.make_model(graph, opset_imports=imports)).run(None, feeds)
    except Exception as error:  # the reference raises whatever it likes
        raise UnsupportedModel(f"evaluating it beforehand failed: {error}") from error
    results = iter(found)
    return [np.asarray(next(results)) if name else None for name in node.output]


def _constant(node: onnx.NodeProto) -> np.ndarray:
    item = node.attribute[0]
    value = helper.get_attribute_value(item)
    if item.name == "value":
        return np.asarray(numpy_helper.to_array(value))
    if item.name in ("sparse_value", "value_string", "value_strings"):
        raise UnsupportedModel(f"a constant given by {item.name!r}")
    return np.asarray(value, np.float32 if "float" in item.name else np.int64)
