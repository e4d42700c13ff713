"""What is known beforehand is what ONNX Runtime computes in every step, or it is refused."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from hearloop.runtime.errors import UnsupportedModel

from .running import agree, model_of

X = np.zeros((2, 3, 4), np.float32)


@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1])
@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize("name", ["Softmax", "LogSoftmax", "Hardmax"])
def test_softmax_of_a_constant(way, name, opset, axis, rng):
    """Before opset 13 everything from the axis on is one row."""
    nodes = [
        helper.make_node(name, ["known"], ["shares"], **({} if axis is None else {"axis": axis})),
        helper.make_node("Add", ["x", "shares"], ["y"]),
    ]
    known = {"known": rng.standard_normal(X.shape).astype(np.float32)}
    agree(way, model_of(nodes, {"x": X}, ["y"], known, opset), [{"x": X}])


@pytest.mark.parametrize(
    ("name", "inputs", "attributes"),
    [
        ("RandomNormal", [], {"shape": [2, 3, 4]}),
        ("RandomUniform", [], {"shape": [2, 3, 4]}),
        ("RandomNormalLike", ["known"], {}),
        ("RandomUniformLike", ["known"], {}),
        ("Bernoulli", ["known"], {}),
        ("Multinomial", ["rows"], {"dtype": onnx.TensorProto.INT64}),
    ],
)
def test_random_numbers_are_not_drawn_beforehand(way, name, inputs, attributes):
    nodes = [
        helper.make_node(name, inputs, ["drawn"], **attributes),
        helper.make_node("Cast", ["drawn"], ["noise"], to=onnx.TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["noise"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    known = {"known": X, "rows": X[0]}
    model = model_of(nodes, {"x": X}, ["y"], {name: known[name] for name in inputs})
    with pytest.raises(UnsupportedModel, match=rf"node 'drawn' \({name}\): it draws anew in every step"):
        way(model)


@pytest.mark.parametrize("opset", [10, 13, 18, 19, 21])
def test_weights_of_eight_bits(way, opset, rng):
    """ONNX's reference evaluates DequantizeLinear from opset 19 on."""
    nodes = [
        helper.make_node("DequantizeLinear", ["bits", "scale", "zero"], ["w"]),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    known = {"bits": rng.integers(-128, 128, (4, 5), np.int8), "scale": np.float32(0.02), "zero": np.int8(3)}
    agree(way, model_of(nodes, {"x": X}, ["y"], known, opset), [{"x": X + np.float32(0.5)}])


def test_a_sparse_initializer_is_refused(way):
    model = model_of([helper.make_node("Add", ["x", "sparse"], ["y"], name="sum")], {"x": X}, ["y"], {"sparse": X})
    del model.graph.initializer[:]
    values = numpy_helper.from_array(np.float32([1, 2]), "sparse")
    places = numpy_helper.from_array(np.int64([3, 5]), "places")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, X.shape))
    with pytest.raises(UnsupportedModel, match=r"node 'sum' \(Add\): input 'sparse' is not known"):
        way(model)
