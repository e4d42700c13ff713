"""Small ONNX models, written down as their nodes."""

from collections.abc import Mapping, Sequence

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

Shapes = Mapping[str, Sequence[int]]


def graph_model(
    nodes: Sequence[NodeProto],
    inputs: Shapes,
    outputs: Shapes,
    constants: Mapping[str, np.ndarray | float] | None = None,
    opset: int = 17,
) -> ModelProto:
    """A model of these nodes; all values are float32, except constants that are arrays of whole numbers."""
    ports, results = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in sizes.items()]
        for sizes in (inputs, outputs)
    )
    kept = [numpy_helper.from_array(_as_value(value), name) for name, value in (constants or {}).items()]
    graph = helper.make_graph(nodes, "graph", ports, results, kept)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def _as_value(value: np.ndarray | float) -> np.ndarray:
    whole = isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.integer)
    return value if whole else np.asarray(value, np.float32)
