"""Quantised operators, and networks as onnxruntime.quantization makes them.

Weights have 7 bits where ONNX Runtime multiplies integers: on x86 without VNNI its sums of two products saturate at 16
bits with 8, and its results are not what ONNX defines.
"""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

from hearloop.runtime.errors import UnsupportedModel

from .running import Compiled, Expected, agree, model_of

STATES = {"past": "past_out", "h": "h_out"}


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.uint16])
@pytest.mark.parametrize("axis", [None, 0, -1])
def test_levels_are_rounded_half_to_even_and_saturate(way, kind, axis, rng):
    limits = np.iinfo(kind)
    x = np.concatenate([np.arange(-300, 300) / 8, [-1e6, 1e6]]).astype(np.float32).reshape(2, 7, 43)
    shape = () if axis is None else x.shape[axis]
    scale = np.asarray(2.0 ** rng.integers(-3, 1, shape), np.float32)
    zero = np.asarray(rng.integers(max(limits.min, -99), 99, shape), kind)
    place = {} if axis is None else {"axis": axis}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["levels"], **place),
        helper.make_node("DequantizeLinear", ["levels", "scale", "zero"], ["y"], **place),
        helper.make_node("Cast", ["levels"], ["whole"], to=onnx.TensorProto.FLOAT),
    ]
    model = model_of(nodes, {"x": x}, ["y", "whole"], {"scale": scale, "zero": zero}, opset=21)
    model.ir_version = 10
    agree(way, model, [{"x": x}], tolerance=0)


def test_scales_by_blocks_and_computed_ones(way, rng):
    x = rng.standard_normal((2, 12)).astype(np.float32)
    blocks = np.float32([[0.5, 0.25, 0.125], [1, 2, 4]])
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "blocks"], ["levels"], axis=1, block_size=4),
        helper.make_node("DequantizeLinear", ["levels", "scale"], ["y"]),
    ]
    feed = {"x": x, "scale": np.float32(0.25)}
    model = model_of(nodes, feed, ["y"], {"blocks": blocks}, opset=21)
    model.ir_version = 10
    agree(way, model, [feed], tolerance=0)


def test_the_range_of_a_tensor_gives_its_scale(way, rng):
    """A tensor of zeros, as a stream begins with, has levels too."""
    x = rng.standard_normal((3, 5)).astype(np.float32)
    names = ["levels", "scale", "zero"]
    nodes = [helper.make_node("DynamicQuantizeLinear", ["x"], names)]
    nodes += [helper.make_node("Cast", [name], [f"{name}'"], to=onnx.TensorProto.FLOAT) for name in ("levels", "zero")]
    model = model_of(nodes, {"x": x}, ["levels'", "scale", "zero'"])
    agree(way, model, [{"x": values} for values in (x, 0 * x, np.abs(x), -np.abs(x), x + 100)])


@pytest.mark.parametrize("offset", [True, False])
def test_sums_of_integers_are_exact(way, offset, rng):
    """Of 8 bits with any zero point, up to 2^24: what pads a convolution is the zero point."""
    x, weight, filters = (rng.integers(0, 256, shape, np.uint8) for shape in ((1, 6, 40), (40, 9), (4, 6, 3)))
    zeros = {"x0": np.uint8(77), "w0": rng.integers(0, 256, 9, np.uint8), "f0": np.uint8(130)}
    nodes = [
        helper.make_node("MatMulInteger", ["x", "w", *(["x0", "w0"] if offset else [])], ["product"]),
        helper.make_node("ConvInteger", ["x", "f", *(["x0", "f0"] if offset else [])], ["image"], pads=[2, 1]),
    ]
    model = model_of(nodes, {"x": x}, ["product", "image"], {"w": weight, "f": filters} | zeros)
    agree(way, model, [{"x": x}], tolerance=0)


class Frames(CalibrationDataReader):
    """Inputs from which the ranges are learned."""

    def __init__(self, feeds):
        self.feeds = iter(feeds)

    def get_next(self):
        return next(self.feeds, None)


def small_network(rng):
    """A convolution over a memory, a GRU, and a linear layer."""

    def weights(*shape):
        return (rng.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)

    nodes = [
        helper.make_node("Concat", ["past", "x"], ["window"], axis=2),
        helper.make_node("Slice", ["window", "one", "end", "two"], ["past_out"]),
        helper.make_node("Conv", ["window", "filters", "offsets"], ["image"]),
        helper.make_node("LeakyRelu", ["image"], ["bent"], alpha=0.1),
        helper.make_node("Transpose", ["bent"], ["row"], perm=[2, 0, 1]),
        helper.make_node("MatMul", ["row", "inner"], ["gates"]),
        helper.make_node("GRU", ["gates", "W", "R", "", "", "h"], ["sequence", "h_out"], hidden_size=12),
        helper.make_node("Squeeze", ["sequence", "one"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "outer"], ["product"]),
        helper.make_node("Add", ["product", "shift"], ["sum"]),
        helper.make_node("Sigmoid", ["sum"], ["y"]),
    ]
    known = {"filters": weights(16, 10, 3), "offsets": weights(16), "inner": weights(16, 14), "outer": weights(12, 10)}
    known |= {"W": weights(1, 36, 14), "R": weights(1, 36, 12), "shift": weights(10)}
    known |= {"one": np.array([1]), "two": np.array([2]), "end": np.array([99])}
    inputs = {"x": (1, 10, 1), "past": (1, 10, 2), "h": (1, 1, 12)}
    feeds = [{name: weights(*shape) for name, shape in inputs.items()} for _ in range(200)]
    return model_of(nodes, feeds[0], ["y", "past_out", "h_out"], known, opset=17), feeds


class Defined(Expected):
    """ONNX Runtime without its kernels for integers: node by node, as ONNX defines them."""

    def __init__(self, model, states):
        super().__init__(model, states)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4
        providers = ["CPUExecutionProvider"]
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)


class ByReference(Expected):
    """ONNX's own reference instead of ONNX Runtime."""

    def __init__(self, model, states):
        super().__init__(model, states)
        self.session.run = ReferenceEvaluator(model).run


def follow(expected, path, feeds):
    """The same values as expected, but for a few.

    A sum that lies between two levels may be rounded to the other one, as floats are not summed in one order
    everywhere; that is a level of 7 bits, and the GRU remembers it for some steps.
    """
    model = onnx.load(path)
    found, expected = Compiled(model, STATES), expected(model, STATES)
    pairs = [(found.step({"x": feed["x"]})["y"], expected.step({"x": feed["x"]})["y"]) for feed in feeds]
    differences = np.abs([a - b for a, b in pairs])
    assert np.mean(differences > 1e-5) < 0.05
    assert differences.max() < 3 / 127
    assert np.ptp([b for _, b in pairs], axis=0).min() > 0.1


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize(
    ("form", "kind", "expected"),
    [
        (QuantFormat.QDQ, QuantType.QUInt8, Expected),
        (QuantFormat.QDQ, QuantType.QInt8, Expected),
        (QuantFormat.QDQ, QuantType.QInt8, Defined),
        (QuantFormat.QDQ, QuantType.QInt16, Defined),  # ONNX Runtime makes 8 bits of them
        (QuantFormat.QOperator, QuantType.QUInt8, Expected),
    ],
)
def test_a_network_that_was_quantised_beforehand(tmp_path, form, kind, expected, per_channel, rng):
    model, feeds = small_network(rng)
    path = tmp_path / "small.onnx"
    bits = {"activation_type": kind, "weight_type": QuantType.QInt8, "reduce_range": expected is Expected}
    quantize_static(model, path, Frames(feeds[:20]), quant_format=form, per_channel=per_channel, **bits)
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in onnx.load(path).graph.node}
    follow(expected, path, feeds)


def test_operators_of_another_domain(tmp_path, rng):
    """As ONNX Runtime has them for integers that ONNX did not know; the weights are known beforehand."""
    model, feeds = small_network(rng)
    path = tmp_path / "small.onnx"
    quantize_static(model, path, Frames(feeds[:20]), reduce_range=True, extra_options={"UseQDQContribOps": True})
    assert ("com.microsoft", "DequantizeLinear") in {(node.domain, node.op_type) for node in onnx.load(path).graph.node}
    follow(Expected, path, feeds)


@pytest.mark.parametrize(("expected", "steps"), [(Expected, 200), (ByReference, 20)])
def test_a_network_that_is_quantised_as_it_runs(tmp_path, expected, steps, rng):
    model, feeds = small_network(rng)
    path = tmp_path / "small.onnx"
    quantize_dynamic(model, path, reduce_range=expected is Expected)
    operators = {node.op_type for node in onnx.load(path).graph.node}
    assert {"DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"} <= operators
    follow(expected, path, feeds[:steps])


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
def test_operators_between_levels(way, kind, rng):
    """ONNX Runtime's own, which take integers with their scales and give integers."""
    limits = np.iinfo(kind)
    feed = {name: rng.integers(limits.min, limits.max + 1, (3, 8), kind) for name in "ab"}
    known = {"sa": np.float32(0.02), "za": kind(5), "sb": np.float32(0.03), "zb": kind(40)}
    known |= {"sy": np.float32(0.05), "zy": kind(30), "ss": np.float32(1 / 256), "zs": kind(limits.min)}
    a, b, y, share = ["a", "sa", "za"], ["b", "sb", "zb"], ["sy", "zy"], ["ss", "zs"]
    operands = {
        "QLinearAdd": ([*a, *b, *y], {}),
        "QLinearMul": ([*a, *b, *y], {}),
        "QLinearConcat": ([*y, *a, *b], {"axis": 1}),
        "QLinearLeakyRelu": ([*a, *y], {"alpha": 0.1}),
        "QLinearSigmoid": ([*a, *share], {}),
        "QLinearSoftmax": ([*a, *share], {"axis": -1, "opset": 18}),
    }
    nodes = [
        helper.make_node(name, inputs, [name], domain="com.microsoft", **attributes)
        for name, (inputs, attributes) in operands.items()
    ]
    nodes += [helper.make_node("Cast", [name], [f"{name}'"], to=onnx.TensorProto.FLOAT) for name in operands]
    model = model_of(nodes, feed, [f"{name}'" for name in operands], known)
    found, expected = way(model).step(feed), Expected(model).step(feed)
    for name in operands:  # where a value lies between two levels, roundings decide
        difference = np.abs(found[f"{name}'"] - expected[f"{name}'"])
        assert difference.max() <= 1, name
        assert np.mean(difference > 0) < 0.1, name


def test_how_to_quantise_otherwise_is_said(way):
    x = np.zeros((1, 1, 4), np.float32)
    weights = {"w": np.zeros((1, 4, 8), np.int8), "r": np.zeros((1, 2, 8), np.int8)}
    node = helper.make_node("DynamicQuantizeLSTM", ["x", "w", "r"], ["y"], domain="com.microsoft", hidden_size=2)
    with pytest.raises(UnsupportedModel, match=r"does not know.*expected op_types_to_quantize without LSTM"):
        way(model_of([node], {"x": x}, ["y"], weights))
