"""Element-wise operators against ONNX Runtime, over all forms of broadcasting."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from .running import agree, model_of

few = settings(max_examples=10)
seeds = st.integers(0, 2**32 - 1)

# Where an operator is defined, and the operators with their attributes.
ANYWHERE = [
    *((name, {}) for name in ("Neg", "Abs", "Sign", "Floor", "Ceil", "Round", "Exp", "Erf", "Sin", "Cos", "Sigmoid")),
    *((name, {}) for name in ("Tanh", "Relu", "LeakyRelu", "Elu", "Selu", "Softplus", "Softsign", "HardSigmoid")),
    *((name, {}) for name in ("HardSwish", "Mish", "Gelu", "ThresholdedRelu", "Celu", "Sinh", "Cosh", "Asinh", "Atan")),
    *((name, {}) for name in ("Identity", "Shrink")),
    ("LeakyRelu", {"alpha": 0.3}),
    ("Elu", {"alpha": 0.7}),
    ("Celu", {"alpha": 0.7}),
    ("Selu", {"alpha": 1.5, "gamma": 0.9}),
    ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
    ("Gelu", {"approximate": "tanh"}),
    ("ThresholdedRelu", {"alpha": 0.2}),
    ("Shrink", {"bias": 0.1, "lambd": 0.6}),
]
DOMAINS = {
    "x": (ANYWHERE, lambda x: x),
    "positive": ([(name, {}) for name in ("Sqrt", "Log", "Reciprocal")], lambda x: np.abs(x) + 0.1),
    "inside": ([(name, {}) for name in ("Asin", "Acos", "Atanh", "Tan")], lambda x: np.tanh(x) * 0.99),
    "above": ([("Acosh", {})], lambda x: 1 + np.abs(x)),
}


@given(seed=seeds, shape=st.lists(st.integers(1, 7), max_size=4))
@few
def test_one_operand(way, seed, shape):
    x = (np.random.default_rng(seed).normal(size=shape) * 2).astype(np.float32)
    nodes, feeds = [], {}
    for domain, (operators, change) in DOMAINS.items():
        feeds[domain] = np.asarray(change(x), np.float32)
        nodes += [
            helper.make_node(name, [domain], [f"{domain}.{index}"], **attributes)
            for index, (name, attributes) in enumerate(operators)
        ]
    outputs = [node.output[0] for node in nodes]
    agree(way, model_of(nodes, feeds, outputs, opset=20), [feeds])


@st.composite
def broadcast(draw, count):
    """Shapes that fit together, some of lower rank, some with axes of size 1."""
    full = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    shapes = [full]
    for _ in range(count - 1):
        start = draw(st.integers(0, len(full)))
        shapes.append([1 if draw(st.booleans()) else size for size in full[start:]])
    return draw(st.permutations(shapes))


TWO = ("Add", "Sub", "Mul", "Div", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal", "Pow", "Mod")


@given(seed=seeds, shapes=broadcast(2), constant=st.sampled_from(["", "a", "b"]))
@few
def test_two_operands(way, seed, shapes, constant):
    random = np.random.default_rng(seed)
    values = {
        name: (random.normal(size=shape) * 2).astype(np.float32) for name, shape in zip("ab", shapes, strict=True)
    }
    values["b"] += (np.abs(values["b"]) < 0.1).astype(np.float32)
    values |= {name.upper(): np.asarray(np.abs(value)) for name, value in values.items()}
    nodes = []
    for name in TWO:
        operands = ["A", "b"] if name == "Pow" else ["a", "b"]
        nodes.append(helper.make_node(name, operands, [name], **({"fmod": 1} if name == "Mod" else {})))
    nodes += [
        helper.make_node(name, ["Less", "Greater" if name == "Xor" else "Equal"], [name])
        for name in ("And", "Or", "Xor")
    ]
    nodes.append(helper.make_node("Not", ["Less"], ["Not"]))
    known = {name: value for name, value in values.items() if name.lower() == constant}
    given_ = {name: value for name, value in values.items() if name not in known and name != "B"}
    agree(way, model_of(nodes, given_, [node.output[0] for node in nodes], known), [given_])


@given(seed=seeds, shapes=broadcast(3))
@few
def test_three_operands(way, seed, shapes):
    random = np.random.default_rng(seed)
    values = {
        name: np.asarray(random.normal(size=shape), np.float32) for name, shape in zip("abc", shapes, strict=True)
    }
    nodes = [helper.make_node(name, ["a", "b", "c"], [name]) for name in ("Max", "Min", "Sum", "Mean")]
    nodes += [
        helper.make_node("Less", ["a", "zero"], ["negative"]),
        helper.make_node("Where", ["negative", "b", "c"], ["Where"]),
        helper.make_node("Where", ["known", "b", "a"], ["Known"]),
        helper.make_node("Clip", ["b", "low", "high"], ["Clip"]),
        helper.make_node("Clip", ["b", "", "high"], ["Below"]),
    ]
    known = {"zero": np.float32(0), "low": np.float32(-0.5), "high": np.float32(0.7)}
    known["known"] = random.integers(0, 2, size=np.broadcast_shapes(*shapes)).astype(bool)
    names = ["Max", "Min", "Sum", "Mean", "Where", "Known", "Clip", "Below"]
    agree(way, model_of(nodes, values, names, known), [values])


@given(seed=seeds, rank=st.integers(2, 4))
@few
def test_prelu(way, seed, rank):
    random = np.random.default_rng(seed)
    shape = random.integers(1, 5, size=rank)
    x = random.normal(size=shape).astype(np.float32)
    slope = random.normal(size=(shape[1], *[1] * (rank - 2))).astype(np.float32)
    agree(way, model_of([helper.make_node("PRelu", ["x", "s"], ["y"])], {"x": x}, ["y"], {"s": slope}), [{"x": x}])


@given(seed=seeds, exponent=st.sampled_from([-1.0, 0.5, 1.0, 2.0, 3.0, 2.5]))
@few
def test_power_by_a_constant(way, seed, exponent):
    x = np.abs(np.random.default_rng(seed).normal(size=(3, 5))).astype(np.float32) + 0.1
    nodes = [helper.make_node("Pow", ["x", "e"], ["y"])]
    agree(way, model_of(nodes, {"x": x}, ["y"], {"e": np.float32(exponent)}), [{"x": x}])


@given(seed=seeds)
@few
def test_integers_and_truth_values(way, seed):
    """Counted in float32: division and casts cut towards zero, the remainder follows the divisor or the dividend."""
    random = np.random.default_rng(seed)
    a, b = random.integers(-20, 20, size=(2, 3, 7))
    values = {"a": a, "b": np.where(b == 0, 3, b), "x": random.normal(size=(3, 7)).astype(np.float32) * 5}
    nodes = [helper.make_node(name, ["a", "b"], [name]) for name in ("Add", "Sub", "Mul", "Div", "Mod", "Less", "Max")]
    nodes += [
        helper.make_node("Mod", ["a", "b"], ["fmod"], fmod=1),
        helper.make_node("Cast", ["x"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Cast", ["whole"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["a"], ["truth"], to=TensorProto.BOOL),
        helper.make_node("Cast", ["truth"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Where", ["truth", "a", "b"], ["chosen"]),
    ]
    agree(way, model_of(nodes, values, [node.output[0] for node in nodes]), [values])


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("divisor", [3.0, 8.0, 41.0, 47.0, 2e38])
def test_a_quotient_is_exact_where_it_can_be(way, divisor, constant):
    """41 times the float next to 1 / 41 is below 1, and 1 / 2e38 is below the normal numbers."""
    d = np.float32(divisor)
    x = d * np.minimum(np.arange(1, 300, dtype=np.float32), 3e38 // d)
    nodes = [helper.make_node("Div", ["x", "d"], ["quotient"]), helper.make_node("Floor", ["quotient"], ["y"])]
    values = {"x": x} if constant else {"x": x, "d": d}
    agree(way, model_of(nodes, values, ["y"], {"d": d} if constant else {}), [values])


@pytest.mark.parametrize("constant", [True, False])
def test_a_quotient_of_integers_is_exact(way, constant):
    values, d = {"x": np.arange(-2000, 2000)}, np.array(41)
    if not constant:
        values["d"] = d
    nodes = [helper.make_node("Div", ["x", "d"], ["y"])]
    agree(way, model_of(nodes, values, ["y"], {"d": d} if constant else {}), [values])


def test_equal_products_cancel(way):
    """A fused multiply-add would leave what rounding took from one of them, and its root is no number."""
    x = np.float32([0.1, 0.7, 1.1])
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["a"]),
        helper.make_node("Mul", ["z", "z"], ["b"]),
        helper.make_node("Sub", ["a", "b"], ["rest"]),
        helper.make_node("Sqrt", ["rest"], ["y"]),
    ]
    values = {"x": x, "z": x}
    agree(way, model_of(nodes, values, ["y"]), [values])


def test_softplus_of_small_numbers(way):
    x = np.float32([-80, -25, -17, -15, -1, 0, 30])
    nodes = [helper.make_node("Softplus", ["x"], ["soft"]), helper.make_node("Log", ["soft"], ["y"])]
    agree(way, model_of(nodes, {"x": x}, ["y"]), [{"x": x}])


@pytest.mark.parametrize("narrow", ["INT8", "UINT8", "INT16", "UINT16", "INT32", "UINT32", "INT64", "UINT64"])
def test_a_cast_to_fewer_bits_goes_round(way, narrow):
    values = {"x": np.int32([-70000, -32769, -300, -129, -1, 0, 5, 128, 256, 300, 65536, 70000])}
    nodes = [
        helper.make_node("Cast", ["x"], ["narrow"], to=getattr(TensorProto, narrow)),
        helper.make_node("Cast", ["narrow"], ["y"], to=TensorProto.FLOAT),
    ]
    agree(way, model_of(nodes, values, ["y"]), [values], tolerance=0)


@pytest.mark.parametrize("narrow", [np.int8, np.uint8, np.int16, np.uint16])
def test_narrow_integers_go_round(way, narrow):
    """They did in casts alone: 200 + 100 of 8 bits is 44."""
    limits = np.iinfo(narrow)
    edges = [limits.min, limits.min + 1, limits.max // 2, limits.max - 1, limits.max, 0, 1, 5]
    a, b = (values.ravel() for values in np.meshgrid(np.array(edges, narrow), np.array(edges, narrow)))
    feed = {"a": a, "b": b, "divisor": np.where(b == 0, narrow(3), b)}
    nodes = [helper.make_node(name, ["a", "b"], [name]) for name in ("Add", "Sub")]
    nodes += [helper.make_node("Div", ["a", "divisor"], ["Div"]), helper.make_node("Abs", ["a"], ["Abs"])]
    if limits.bits == 8:  # products of 16 bits are beyond 2^24
        nodes.append(helper.make_node("Mul", ["a", "b"], ["Mul"]))
    if limits.min:
        nodes.append(helper.make_node("Neg", ["a"], ["Neg"]))
    agree(way, model_of(nodes, feed, [node.output[0] for node in nodes]), [feed], tolerance=0)


def test_powers_of_integers_are_integers(way):
    values = {"x": np.int32([1, 2, 3, 8, 15, 17])}
    nodes = [helper.make_node("Pow", ["x", exponent], [f"y{exponent}"]) for exponent in ("root", "inverse", "rest")]
    known = {"root": np.float32(0.5), "inverse": np.float32(-1), "rest": np.float32(1.5)}
    agree(way, model_of(nodes, values, [node.output[0] for node in nodes], known), [values])


@given(seed=seeds)
@few
def test_not_a_number(way, seed):
    """NaN and infinities pass through clamps, are told from numbers, and lose every comparison."""
    random = np.random.default_rng(seed)
    x = random.choice([np.nan, np.inf, -np.inf, 0.0, 1.0, -2.0], size=(4, 9)).astype(np.float32)
    nodes = [helper.make_node(name, ["x"], [name]) for name in ("IsNaN", "IsInf", "Relu", "Abs", "Neg", "Tanh")]
    nodes += [
        helper.make_node("IsInf", ["x"], ["up"], detect_negative=0),
        helper.make_node("IsInf", ["x"], ["down"], detect_positive=0),
        helper.make_node("Less", ["x", "zero"], ["less"]),
        helper.make_node("Equal", ["x", "x"], ["equal"]),
    ]
    model = model_of(nodes, {"x": x}, [node.output[0] for node in nodes], {"zero": np.float32(0)})
    agree(way, model, [{"x": x}])


@pytest.mark.parametrize("name", ["Gelu", "QuickGelu", "FastGelu", "BiasGelu"])
def test_activations_of_microsoft(way, name, rng):
    x = rng.normal(size=(2, 3, 8)).astype(np.float32)
    inputs = ["x", "bias"] if name in ("BiasGelu", "FastGelu") else ["x"]
    node = helper.make_node(name, inputs, ["y"], domain="com.microsoft")
    model = model_of([node], {"x": x}, ["y"], {"bias": rng.normal(size=8).astype(np.float32)})
    agree(way, model, [{"x": x}])
