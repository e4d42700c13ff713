"""Norms, softmax, reductions and running sums, against ONNX Runtime."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from .running import agree, assert_close, model_of

few = settings(max_examples=12)
seeds = st.integers(0, 2**32 - 1)
shapes = st.lists(st.integers(1, 6), min_size=1, max_size=4)
REDUCTIONS = ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSumExp", "LogSum")


def numbers(seed, shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@given(seed=seeds, shape=shapes, keep=st.integers(0, 1), data=st.data())
@few
def test_reductions(way, seed, shape, keep, data):
    """Over any set of axes, of both signs; without axes over all of them, or over none if it is said so."""
    rank = len(shape)
    chosen = data.draw(st.lists(st.integers(0, rank - 1), min_size=1, max_size=rank, unique=True))
    axes = [axis - rank if data.draw(st.booleans()) else axis for axis in chosen]
    feeds = {"x": numbers(seed, shape), "positive": np.abs(numbers(seed, shape)) + np.float32(0.1)}
    operand = lambda name: "positive" if name == "LogSum" else "x"  # noqa: E731
    nodes = [helper.make_node(f"Reduce{name}", [operand(name), "axes"], [name], keepdims=keep) for name in REDUCTIONS]
    nodes += [helper.make_node(f"Reduce{name}", [operand(name)], [f"all {name}"], keepdims=keep) for name in REDUCTIONS]
    nodes.append(helper.make_node("ReduceMean", ["x"], ["nothing"], noop_with_empty_axes=1))
    agree(way, model_of(nodes, feeds, [node.output[0] for node in nodes], {"axes": np.int64(axes)}), [feeds])


def test_sums_of_exponentials_of_infinities(way):
    x = np.float32([[-np.inf, -np.inf], [-np.inf, 1], [1, np.inf], [1, 2]])
    node = helper.make_node("ReduceLogSumExp", ["x", "axes"], ["y"])
    agree(way, model_of([node], {"x": x}, ["y"], {"axes": np.int64([1])}), [{"x": x}])


def test_statistics_of_integers_are_integers(way):
    x = np.int32([[1, 2, 4, 4], [-1, -2, -4, -4], [41, 0, 0, 0]])
    nodes = [helper.make_node(name, ["x", "axes"], [name]) for name in ("ReduceMean", "ReduceL2")]
    agree(way, model_of(nodes, {"x": x}, ["ReduceMean", "ReduceL2"], {"axes": np.int64([1])}), [{"x": x}])


@given(seed=seeds, shape=shapes, data=st.data())
@few
def test_cumulative_sum(way, seed, shape, data):
    rank = len(shape)
    axis = data.draw(st.integers(-rank, rank - 1))
    nodes = [
        helper.make_node("CumSum", ["x", "axis"], [f"{exclusive}{reverse}"], exclusive=exclusive, reverse=reverse)
        for exclusive in (0, 1)
        for reverse in (0, 1)
    ]
    x = numbers(seed, shape)
    agree(way, model_of(nodes, {"x": x}, [node.output[0] for node in nodes], {"axis": np.int64(axis)}), [{"x": x}])


@given(seed=seeds, shape=shapes, scale=st.sampled_from([1, 30, 3000]), data=st.data())
@few
def test_softmax(way, seed, shape, scale, data):
    """Along any axis; very different numbers neither overflow nor vanish."""
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = numbers(seed, shape) * np.float32(scale)
    nodes = [helper.make_node(name, ["x"], [name], axis=axis) for name in ("Softmax", "LogSoftmax")]
    agree(way, model_of(nodes, {"x": x}, ["Softmax", "LogSoftmax"]), [{"x": x}])


@given(seed=seeds, shape=shapes, offset=st.sampled_from([0, 5]), data=st.data())
@few
def test_norms_over_the_last_axes(way, seed, shape, offset, data):
    first = data.draw(st.integers(0, len(shape) - 1))
    x = numbers(seed, shape) + np.float32(offset)
    known = {"scale": numbers(seed + 1, shape[first:]), "shift": numbers(seed + 2, shape[first:])}
    nodes = [
        helper.make_node("LayerNormalization", ["x", "scale", "shift"], ["y"], axis=first - len(shape), epsilon=1e-4),
        helper.make_node("LayerNormalization", ["x", "scale"], ["z"], axis=first),
        helper.make_node("LpNormalization", ["x"], ["length"], axis=first, p=2),
    ]
    agree(way, model_of(nodes, {"x": x}, ["y", "z", "length"], known), [{"x": x}], tolerance=1e-4)


@given(seed=seeds, groups=st.integers(1, 3), size=st.integers(1, 3), rest=st.lists(st.integers(2, 6), max_size=2))
@few
def test_norms_of_channels(way, seed, groups, size, rest):
    """Batch, instance and group norm; the statistics of the first are constants."""
    channels = groups * size
    x = numbers(seed, [2, channels, 4, *rest])
    known = {name: numbers(seed + n, channels) for n, name in enumerate(("scale", "shift", "mean"))}
    known["variance"] = np.abs(numbers(seed + 9, channels)) + np.float32(0.1)
    nodes = [
        helper.make_node("BatchNormalization", ["x", "scale", "shift", "mean", "variance"], ["batch"], epsilon=1e-3),
        helper.make_node("InstanceNormalization", ["x", "scale", "shift"], ["instance"], epsilon=1e-3),
        helper.make_node("GroupNormalization", ["x", "scale", "shift"], ["group"], num_groups=groups, epsilon=1e-3),
    ]
    model = model_of(nodes, {"x": x}, [node.output[0] for node in nodes], known, opset=21)
    agree(way, model, [{"x": x}], tolerance=1e-4)


@given(seed=seeds, shape=shapes)
@few
def test_root_mean_square_norm(way, seed, shape):
    """The operator is younger than the runtime that the others are compared with: its formula stands in."""
    x, scale = numbers(seed, shape), numbers(seed + 1, shape[-1:])
    node = helper.make_node("RMSNormalization", ["x", "scale"], ["y"], axis=-1, epsilon=1e-5)
    found = way(model_of([node], {"x": x}, ["y"], {"scale": scale}, opset=23)).step({"x": x})["y"]
    assert_close(found, x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + 1e-5) * scale)


@given(seed=seeds, length=st.integers(2, 40))
@few
def test_what_is_not_a_number_stays_visible(way, seed, length):
    """One NaN makes its own row NaN and leaves the others alone: it must neither vanish nor spread."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(3, length)).astype(np.float32)
    x[1, random.integers(length)] = np.nan
    known = {"axes": np.int64([-1]), "scale": np.ones(length, np.float32), "w": np.ones((length, 5), np.float32)}
    nodes = [
        helper.make_node("ReduceSum", ["x", "axes"], ["sum"], keepdims=0),
        helper.make_node("Softmax", ["x"], ["softmax"]),
        helper.make_node("LayerNormalization", ["x", "scale"], ["norm"]),
        helper.make_node("MatMul", ["x", "w"], ["product"]),
    ]
    found = way(model_of(nodes, {"x": x}, [node.output[0] for node in nodes], known)).step({"x": x})
    for name, value in found.items():
        rows = np.isnan(value).reshape(3, -1)
        assert rows[1].all(), name
        assert not rows[[0, 2]].any(), name
