"""Products, convolutions, pooling and recurrent layers against ONNX Runtime."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import helper

from hearloop.runtime.errors import UnsupportedModel

from .running import agree, model_of

few = settings(max_examples=10)
seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 6)


def numbers(random, *shape):
    return random.normal(size=shape).astype(np.float32)


@given(seed=seeds, m=sizes, k=sizes, n=sizes, data=st.data())
@few
def test_matmul(way, seed, m, k, n, data):
    random = np.random.default_rng(seed)
    batch = data.draw(
        st.sampled_from([((), ()), ((3,), ()), ((), (2,)), ((3,), (3,)), ((2, 1), (3,)), ((2, 3), (2, 3))])
    )
    a, b = numbers(random, *batch[0], m, k), numbers(random, *batch[1], k, n)
    form = data.draw(st.sampled_from(["both", "row", "column", "constant a", "constant b"]))
    if form == "row":
        a = numbers(random, k)
    if form == "column":
        b = numbers(random, k)
    values = {"a": a, "b": b}
    known = {form[-1]: values.pop(form[-1])} if form.startswith("constant") else {}
    agree(way, model_of([helper.make_node("MatMul", ["a", "b"], ["y"])], values, ["y"], known), [values])


@given(seed=seeds, m=sizes, k=sizes, n=sizes, data=st.data())
@few
def test_gemm(way, seed, m, k, n, data):
    random = np.random.default_rng(seed)
    ta, tb = data.draw(st.booleans()), data.draw(st.booleans())
    attributes = {"transA": int(ta), "transB": int(tb)}
    if data.draw(st.booleans()):
        attributes |= {"alpha": 0.5, "beta": 2.0}
    a, b = numbers(random, *((k, m) if ta else (m, k))), numbers(random, *((n, k) if tb else (k, n)))
    c = numbers(random, *data.draw(st.sampled_from([(n,), (m, n), (1, n), (m, 1), (1,), ()])))
    values = {"a": a, "b": b, "c": c}
    known = {name: values.pop(name) for name in data.draw(st.sampled_from(["", "b", "bc", "c"]))}
    inputs = ["a", "b"] + ["c"] * data.draw(st.booleans())
    if len(inputs) == 2:
        values.pop("c", None)
    agree(way, model_of([helper.make_node("Gemm", inputs, ["y"], **attributes)], values, ["y"], known), [values])


EINSUMS = ["ij,jk->ik", "bij,bjk->bik", "bhqd,bhkd->bhqk", "bhqk,bkhd->bqhd", "i,j->ij", "bi,bi->b", "ij,kj->ki"]
EINSUMS += ["bct,cd->bdt", "abc->cab", "bfd,fde->bfe", "ijk,ik->ij", "i,i->"]


@pytest.mark.parametrize("equation", EINSUMS)
def test_einsum(way, equation, rng):
    lengths = dict(zip("abcdefhijkqt", (2, 3, 4, 5, 3, 2, 4, 3, 2, 4, 5, 3), strict=True))
    terms = equation.split("->")[0].split(",")
    feeds = {name: numbers(rng, *(lengths[letter] for letter in term)) for name, term in zip("xy", terms, strict=False)}
    agree(way, model_of([helper.make_node("Einsum", list(feeds), ["z"], equation=equation)], feeds, ["z"]), [feeds])


@st.composite
def geometry(draw, rank):
    """Sizes, kernel and attributes of a convolution that has at least one output."""
    sizes_ = [draw(st.integers(1, 9 if rank < 3 else 4)) for _ in range(rank)]
    kernel = [draw(st.integers(1, 3)) for _ in range(rank)]
    attributes = {
        "kernel_shape": kernel,
        "strides": [draw(st.integers(1, 3)) for _ in range(rank)],
        "dilations": [draw(st.integers(1, 2)) for _ in range(rank)],
    }
    if draw(st.integers(0, 3)) == 0:
        attributes["auto_pad"] = draw(st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID"]))
        attributes["dilations"] = [1] * rank
    else:
        attributes["pads"] = [draw(st.integers(0, 2)) for _ in range(2 * rank)]
    pads = attributes.get("pads", [0] * 2 * rank)
    for axis in range(rank):
        reach = attributes["dilations"][axis] * (kernel[axis] - 1) + 1
        assume(sizes_[axis] + pads[axis] + pads[axis + rank] >= reach)
    return sizes_, kernel, attributes


@pytest.mark.parametrize("rank", [1, 2, 3])
@given(seed=seeds, data=st.data())
@few
def test_convolution(way, rank, seed, data):
    random = np.random.default_rng(seed)
    lengths, kernel, attributes = data.draw(geometry(rank))
    groups, inner, outer = (data.draw(st.integers(1, 3)) for _ in range(3))
    x = numbers(random, data.draw(st.integers(1, 2)), groups * inner, *lengths)
    known = {"w": numbers(random, groups * outer, inner, *kernel), "b": numbers(random, groups * outer)}
    inputs = ["x", "w"] + ["b"] * data.draw(st.booleans())
    node = helper.make_node("Conv", inputs, ["y"], group=groups, **attributes)
    agree(way, model_of([node], {"x": x}, ["y"], known), [{"x": x}] * 2)


@pytest.mark.parametrize("rank", [1, 2, 3])
@given(seed=seeds, data=st.data())
@few
def test_transposed_convolution(way, rank, seed, data):
    random = np.random.default_rng(seed)
    lengths = [data.draw(st.integers(1, 6 if rank < 3 else 3)) for _ in range(rank)]
    kernel, strides, dilations = ([data.draw(st.integers(1, top)) for _ in range(rank)] for top in (4, 3, 2))
    attributes = {"kernel_shape": kernel, "strides": strides, "dilations": dilations}
    whole = [(n - 1) * s + (k - 1) * d + 1 for n, k, s, d in zip(lengths, kernel, strides, dilations, strict=True)]
    attributes["output_padding"] = [data.draw(st.integers(0, s - 1)) for s in strides]
    pads = [data.draw(st.integers(0, 2)) for _ in range(2 * rank)]
    assume(all(size > pads[axis] + pads[axis + rank] for axis, size in enumerate(whole)))
    groups, inner, outer = (data.draw(st.integers(1, 3)) for _ in range(3))
    x = numbers(random, data.draw(st.integers(1, 2)), groups * inner, *lengths)
    known = {"w": numbers(random, groups * inner, outer, *kernel), "b": numbers(random, groups * outer)}
    inputs = ["x", "w"] + ["b"] * data.draw(st.booleans())
    node = helper.make_node("ConvTranspose", inputs, ["y"], group=groups, pads=pads, **attributes)
    agree(way, model_of([node], {"x": x}, ["y"], known), [{"x": x}] * 2)


@pytest.mark.parametrize("rank", [1, 2])
@given(seed=seeds, data=st.data())
@few
def test_pooling(way, rank, seed, data):
    kernel, strides = ([data.draw(st.integers(1, 3)) for _ in range(rank)] for _ in range(2))
    lengths = [data.draw(st.integers(taps, 9)) for taps in kernel]
    # Less than a kernel of border: every window holds a number.
    pads = [data.draw(st.integers(0, kernel[axis % rank] - 1)) for axis in range(2 * rank)]
    attributes = {"kernel_shape": kernel, "strides": strides, "pads": pads}
    attributes["ceil_mode"] = int(data.draw(st.booleans()))
    x = numbers(np.random.default_rng(seed), 2, 3, *lengths)
    nodes = [
        helper.make_node("MaxPool", ["x"], ["max"], **attributes),
        helper.make_node("AveragePool", ["x"], ["mean"], **attributes),
        helper.make_node("AveragePool", ["x"], ["with border"], count_include_pad=1, **attributes),
        helper.make_node("LpPool", ["x"], ["norm"], p=2, **attributes),
        helper.make_node("LpPool", ["x"], ["sum"], p=1, **attributes),
        helper.make_node("GlobalAveragePool", ["x"], ["all mean"]),
        helper.make_node("GlobalMaxPool", ["x"], ["all max"]),
        helper.make_node("GlobalLpPool", ["x"], ["all norm"], p=3),
    ]
    agree(way, model_of(nodes, {"x": x}, [node.output[0] for node in nodes], opset=19), [{"x": x}] * 2)


@pytest.mark.parametrize("how", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_pooling_with_automatic_pads(way, how, rng):
    x = numbers(rng, 1, 2, 8, 9)
    attributes = {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": how}
    nodes = [helper.make_node(name, ["x"], [name], **attributes) for name in ("MaxPool", "AveragePool")]
    agree(way, model_of(nodes, {"x": x}, ["MaxPool", "AveragePool"]), [{"x": x}] * 2)


GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


@pytest.mark.parametrize("cell", sorted(GATES))
@pytest.mark.parametrize("steps", [1, 4])
@given(seed=seeds, data=st.data())
@few
def test_recurrent_layer(way, cell, steps, seed, data):
    """All directions, batches, initial states, both resets, with and without biases; states given and taken."""
    random = np.random.default_rng(seed)
    width, size, batch = (data.draw(st.integers(1, top)) for top in (5, 9, 3))
    direction = data.draw(st.sampled_from(["forward", "reverse", "bidirectional"]))
    count, gates = 1 + (direction == "bidirectional"), GATES[cell]
    attributes = {"hidden_size": size, "direction": direction}
    if cell == "GRU":
        attributes["linear_before_reset"] = data.draw(st.integers(0, 1))
    if cell == "RNN" and data.draw(st.booleans()):
        attributes["activations"] = ["Relu"] * count
    known = {
        "w": numbers(random, count, gates * size, width) / 2,
        "r": numbers(random, count, gates * size, size) / 3,
        "b": numbers(random, count, 2 * gates * size) / 2,
        "n": np.full(batch, steps, np.int32),
    }
    feeds = {"x": numbers(random, steps, batch, width)}
    inputs = ["x", "w", "r", "b" * data.draw(st.booleans()), "n" * data.draw(st.booleans())]
    if data.draw(st.booleans()):
        names = ["h", "c"] if cell == "LSTM" else ["h"]
        feeds |= {name: numbers(random, count, batch, size) for name in names}
        inputs += names
    outputs = ["y", "y_h", "y_c"] if cell == "LSTM" else ["y", "y_h"]
    model = model_of([helper.make_node(cell, inputs, outputs, **attributes)], feeds, outputs, known)
    agree(way, model, [feeds], tolerance=1e-4)


@pytest.mark.parametrize(
    ("cell", "activations"),
    [
        ("RNN", ["Tanh", "Relu"]),
        ("RNN", ["Relu", "Tanh"]),
        ("GRU", ["Sigmoid", "Tanh", "Sigmoid", "Relu"]),
        ("LSTM", ["Sigmoid", "Tanh", "Tanh", "Sigmoid", "Relu", "Tanh"]),
        ("LSTM", ["Relu", "Tanh", "Tanh"] * 2),
    ],
)
def test_unusual_activations_of_either_direction_are_refused(way, cell, activations, rng):
    known = {"w": numbers(rng, 2, GATES[cell] * 3, 4), "r": numbers(rng, 2, GATES[cell] * 3, 3)}
    attributes = {"hidden_size": 3, "direction": "bidirectional", "activations": activations}
    model = model_of(
        [helper.make_node(cell, ["x", "w", "r"], ["y"], **attributes)], {"x": numbers(rng, 5, 1, 4)}, ["y"], known
    )
    with pytest.raises(UnsupportedModel, match=r"node 'y' .*in every direction"):
        way(model)


@pytest.mark.parametrize("cell", sorted(GATES))
def test_state_of_a_recurrent_layer(way, cell, rng):
    """The last hidden state becomes the next initial one."""
    size, gates = 6, GATES[cell]
    known = {"w": numbers(rng, 1, gates * size, 4), "r": numbers(rng, 1, gates * size, size) / 3}
    names = ["h", "c"] if cell == "LSTM" else ["h"]
    node = helper.make_node(
        cell, ["x", "w", "r", "", "", *names], ["y", *(f"{n}.next" for n in names)], hidden_size=size
    )
    feeds = [{"x": numbers(rng, 2, 1, 4)} for _ in range(8)]
    inputs = feeds[0] | {name: numbers(rng, 1, 1, size) for name in names}
    states = {name: f"{name}.next" for name in names}
    agree(way, model_of([node], inputs, ["y", *states.values()], known), feeds, states, tolerance=1e-4)


@pytest.mark.parametrize(
    ("name", "attributes", "reason"),
    [
        ("Conv", {"kernel_shape": [3]}, r"reaches over \[3\] of \[2\] padded positions"),
        ("Conv", {"kernel_shape": [3], "dilations": [2], "pads": [1, 1]}, r"reaches over \[5\] of \[4\]"),
        ("ConvTranspose", {"kernel_shape": [3], "pads": [2, 2]}, r"the output has \[0\] positions"),
        ("MaxPool", {"kernel_shape": [3]}, r"reaches over \[3\] of \[2\]"),
        ("AveragePool", {"kernel_shape": [3]}, r"reaches over \[3\] of \[2\]"),
    ],
)
def test_kernels_longer_than_the_signal_are_refused(way, name, attributes, reason, rng):
    inputs = ["x", "w"] if "Conv" in name else ["x"]
    model = model_of(
        [helper.make_node(name, inputs, ["y"], **attributes)],
        {"x": numbers(rng, 1, 1, 9)},
        ["y"],
        {"w": numbers(rng, 1, 1, 3)},
    )
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 2
    with pytest.raises(UnsupportedModel, match=f"node 'y' .*{reason}.*free dimensions count as 1"):
        way(model)


def test_a_product_without_rows(way, rng):
    """A state that is still empty may be multiplied like any other."""
    nodes = [
        helper.make_node("Slice", ["x", "none", "none", "axis"], ["past"]),
        helper.make_node("MatMul", ["past", "w"], ["nothing"]),
        helper.make_node("Concat", ["nothing", "x"], ["y"], axis=1),
    ]
    known = {"none": np.int64([0]), "axis": np.int64([1])}
    feeds = {"x": numbers(rng, 1, 4, 6), "w": numbers(rng, 6, 6)}
    agree(way, model_of(nodes, feeds, ["y"], known), [feeds])
