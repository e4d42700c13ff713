"""Simplification keeps what a graph computes and removes what only renames axes."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from hearloop.export.simplify import simplify


def model_of(nodes, inputs, outputs, **constants) -> onnx.ModelProto:
    def values(shapes):
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]

    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", values(inputs), values(outputs), initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def results(model: onnx.ModelProto) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    return session.run(None, {i.name: rng.standard_normal(i.shape).astype(np.float32) for i in session.get_inputs()})


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs.split(), outputs.split(), **attributes)


AXES = np.array([0], np.int64)
CASES = {
    "a transposition of an axis of length one and back is nothing": (
        [
            node("Transpose", "x", "a", perm=[1, 0, 2]),
            node("Relu", "a", "b"),
            node("Transpose", "b", "y", perm=[1, 0, 2]),
        ],
        {"x": (1, 3, 4)},
        {"y": (1, 3, 4)},
        ["Reshape", "Relu", "Reshape"],
    ),
    "a real transposition stays": (
        [node("Transpose", "x", "a", perm=[0, 2, 1]), node("Relu", "a", "y")],
        {"x": (1, 3, 4)},
        {"y": (1, 4, 3)},
        ["Transpose", "Relu"],
    ),
    "a reversal stays": (
        [node("Slice", "x last first axes back", "a"), node("Relu", "a", "y")],
        {"x": (3, 4)},
        {"y": (3, 4)},
        ["Slice", "Relu"],
    ),
    "a chain of views is one": (
        [
            node("Unsqueeze", "x axes", "a"),
            node("Identity", "a", "b"),
            node("Squeeze", "b axes", "c"),
            node("Transpose", "c", "d", perm=[1, 0, 2]),
            node("Relu", "d", "y"),
        ],
        {"x": (1, 3, 4)},
        {"y": (3, 1, 4)},
        ["Reshape", "Relu"],
    ),
    "views that cancel vanish": (
        [node("Unsqueeze", "x axes", "a"), node("Squeeze", "a axes", "b"), node("Relu", "b", "y")],
        {"x": (3, 4)},
        {"y": (3, 4)},
        ["Relu"],
    ),
    "an output that is a view of an inner value takes its name": (
        [node("Relu", "x", "a"), node("Identity", "a", "y"), node("Neg", "a", "z")],
        {"x": (3, 4)},
        {"y": (3, 4), "z": (3, 4)},
        ["Relu", "Neg"],
    ),
    "two outputs of one value both appear": (
        [node("Relu", "x", "a"), node("Identity", "a", "y"), node("Identity", "a", "z")],
        {"x": (3, 4)},
        {"y": (3, 4), "z": (3, 4)},
        ["Relu", "Reshape"],
    ),
    "an output that is an input appears": (
        [node("Unsqueeze", "x axes", "y"), node("Identity", "x", "z")],
        {"x": (3, 4)},
        {"y": (1, 3, 4), "z": (3, 4)},
        ["Reshape", "Reshape"],
    ),
    "an output that is used on as a view appears once": (
        [node("Relu", "x", "a"), node("Unsqueeze", "a axes", "y"), node("Neg", "y", "z")],
        {"x": (3, 4)},
        {"y": (1, 3, 4), "z": (1, 3, 4)},
        ["Relu", "Reshape", "Neg"],
    ),
    "an output that is read in another shape gives its name to the value behind it": (
        [
            node("Tanh", "x", "a"),
            node("Unsqueeze", "a axes", "z"),
            node("Relu", "z", "w"),
            node("Identity", "a", "y"),
        ],
        {"x": (3, 4)},
        {"y": (3, 4), "z": (1, 3, 4), "w": (1, 3, 4)},
        ["Tanh", "Reshape", "Relu"],
    ),
    "what nobody uses goes": (
        [node("Relu", "x", "y"), node("Neg", "x", "unused")],
        {"x": (3, 4)},
        {"y": (3, 4)},
        ["Relu"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_simplification(case):
    nodes, inputs, outputs, expected = CASES[case]
    slices = {"last": np.array([-1]), "first": np.array([-(2**63)]), "back": np.array([-1])}
    model = model_of(nodes, inputs, outputs, axes=AXES, **slices)
    simple = simplify(model)
    onnx.checker.check_model(simple, full_check=True)
    assert [item.op_type for item in simple.graph.node] == expected
    assert [item.name for item in simple.graph.output] == list(outputs)
    for before, after in zip(results(model), results(simple), strict=True):
        np.testing.assert_array_equal(before, after)


def test_a_graph_of_unknown_size_is_refused():
    model = model_of([node("Relu", "x", "y")], {"x": ("n", 4)}, {"y": ("n", 4)})
    with pytest.raises(ValueError, match="the shape of 'x' is not static"):
        simplify(model)
