"""Operators that only say where numbers lie, against ONNX Runtime."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from hearloop.runtime.errors import UnsupportedModel

from .running import agree, model_of

few = settings(max_examples=12)
seeds = st.integers(0, 2**32 - 1)
shapes = st.lists(st.integers(1, 5), min_size=1, max_size=4)


def numbers(seed, shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def either_sign(draw, axis, rank):
    """An axis counted from the front or from the back."""
    return axis - rank if draw(st.booleans()) else axis


@given(seed=seeds, shape=shapes, data=st.data())
@few
def test_axes_in_another_order(way, seed, shape, data):
    """Transpose, Unsqueeze, Squeeze, Flatten and Reshape, one after the other and each on its own."""
    rank = len(shape)
    order = data.draw(st.permutations(range(rank)))
    where = either_sign(data.draw, data.draw(st.integers(0, rank)), rank + 1)
    keep = data.draw(st.integers(0, rank))
    nodes = [
        helper.make_node("Transpose", ["x"], ["turned"], perm=order),
        helper.make_node("Transpose", ["x"], ["reversed"]),
        helper.make_node("Unsqueeze", ["turned", "where"], ["longer"]),
        helper.make_node("Squeeze", ["longer", "where"], ["again"]),
        helper.make_node("Squeeze", ["x"], ["squeezed"]),
        helper.make_node("Flatten", ["turned"], ["flat"], axis=keep),
        helper.make_node("Reshape", ["turned", "line"], ["line of it"]),
        helper.make_node("Reshape", ["turned", "same"], ["same as it"]),
    ]
    # Zero takes the size over, -1 is what remains.
    known = {
        "where": np.int64([where]),
        "line": np.int64([-1]),
        "same": np.int64([0] * (rank - 1) + [-1]),
    }
    x = numbers(seed, shape)
    agree(way, model_of(nodes, {"x": x}, [node.output[0] for node in nodes], known), [{"x": x}])


@given(seed=seeds, shape=shapes, data=st.data())
@few
def test_slice(way, seed, shape, data):
    """Starts and ends of both signs and beyond the ends, steps forwards and backwards, some axes only."""
    rank = len(shape)
    axes = data.draw(st.lists(st.integers(0, rank - 1), min_size=1, max_size=rank, unique=True))
    starts, ends, steps = [], [], []
    for axis in axes:
        size, step = shape[axis], data.draw(st.sampled_from([1, 2, 3, -1, -2]))
        first = data.draw(st.integers(0, size - 1))
        last = data.draw(st.integers(first, size + 2)) if step > 0 else data.draw(st.integers(-1, first - 1))
        steps.append(step)
        starts.append(first - size if data.draw(st.booleans()) else first)
        # Before the first number when going backwards: -1 would mean the last one.
        ends.append((last + 1 if step > 0 else last) if last >= 0 else -size - 1)
    known = {
        "starts": np.int64(starts),
        "ends": np.int64(ends),
        "axes": np.int64([either_sign(data.draw, axis, rank) for axis in axes]),
        "steps": np.int64(steps),
    }
    x = numbers(seed, shape)
    node = helper.make_node("Slice", ["x", *known], ["y"])
    agree(way, model_of([node], {"x": x}, ["y"], known), [{"x": x}] * 2)


@given(seed=seeds, shape=shapes, data=st.data())
@few
def test_concat_and_split(way, seed, shape, data):
    """Parts of several sizes are put together and taken apart, and the parts exchange places."""
    rank = len(shape)
    axis = data.draw(st.integers(0, rank - 1))
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=2, max_size=4))
    feeds = {f"x{n}": numbers(seed + n, [*shape[:axis], size, *shape[axis + 1 :]]) for n, size in enumerate(sizes)}
    signed = either_sign(data.draw, axis, rank)
    parts = [f"part{n}" for n in range(len(sizes))]
    nodes = [
        helper.make_node("Concat", list(feeds), ["whole"], axis=signed),
        helper.make_node("Split", ["whole", "sizes"], parts, axis=signed),
        helper.make_node("Concat", parts[::-1], ["exchanged"], axis=signed),
        helper.make_node("Neg", ["exchanged"], ["negative"]),
    ]
    model = model_of(nodes, feeds, ["whole", *parts, "negative"], {"sizes": np.int64(sizes)})
    agree(way, model, [feeds])


@given(seed=seeds, shape=shapes, data=st.data())
@few
def test_repetition(way, seed, shape, data):
    """Expand (both ways, with new axes in front) and Tile."""
    narrow = [1 if data.draw(st.booleans()) else size for size in shape]
    asked = [1 if data.draw(st.booleans()) else size for size in shape]
    known = {
        "front": np.int64([data.draw(st.integers(1, 3)), *shape]),
        "asked": np.int64(asked),
        "times": np.int64([data.draw(st.integers(1, 3)) for _ in shape]),
    }
    x = numbers(seed, narrow)
    nodes = [
        helper.make_node("Expand", ["x", "front"], ["front of it"]),
        helper.make_node("Expand", ["x", "asked"], ["both"]),
        helper.make_node("Tile", ["x", "times"], ["tiled"]),
    ]
    agree(way, model_of(nodes, {"x": x}, [node.output[0] for node in nodes], known), [{"x": x}])


@given(seed=seeds, shape=shapes, data=st.data())
@few
def test_gather_and_scatter(way, seed, shape, data):
    """Constant indices of both signs, along any axis, by number, by element, by coordinates."""
    random = np.random.default_rng(seed)
    rank = len(shape)
    axis = data.draw(st.integers(0, rank - 1))
    size = shape[axis]
    signed = either_sign(data.draw, axis, rank)
    chosen = data.draw(st.lists(st.integers(1, 3), max_size=2))
    coordinates = data.draw(st.integers(1, rank))
    rows = random.integers(1, 4)
    # No place is written twice: then the order would decide.
    places = random.permutation(int(np.prod(shape[:coordinates])))[:rows]
    scattered = np.stack(np.unravel_index(places, shape[:coordinates]), axis=-1)
    along = np.argsort(random.random(shape), axis=axis)
    known = {
        "indices": random.integers(-size, size, size=chosen),
        "elements": random.integers(-size, size, size=shape),
        "points": random.integers([-n for n in shape[:coordinates]], shape[:coordinates], size=(rows, coordinates)),
        "scattered": scattered,
        "along": along,
    }
    feeds = {"x": numbers(seed, shape), "rows": numbers(seed + 1, [len(places), *shape[coordinates:]])}
    feeds["values"] = numbers(seed + 2, shape)
    nodes = [
        helper.make_node("Gather", ["x", "indices"], ["Gather"], axis=signed),
        helper.make_node("GatherElements", ["x", "elements"], ["GatherElements"], axis=signed),
        helper.make_node("GatherND", ["x", "points"], ["GatherND"]),
        helper.make_node("ScatterND", ["x", "scattered", "rows"], ["ScatterND"]),
        helper.make_node("ScatterElements", ["x", "along", "values"], ["ScatterElements"], axis=signed),
    ]
    agree(way, model_of(nodes, feeds, [node.output[0] for node in nodes], known), [feeds])


@given(seed=seeds, shape=shapes, data=st.data())
@few
def test_indices_of_some_rows(way, seed, shape, data):
    """Fewer rows of indices than there are of numbers mean the first ones, and a single row is not repeated."""
    random = np.random.default_rng(seed)
    axis = data.draw(st.integers(0, len(shape) - 1))
    rows = [data.draw(st.integers(1, size)) for size in shape]
    known = {
        "elements": random.integers(-shape[axis], shape[axis], size=rows),
        "along": np.argsort(random.random([*rows[:axis], shape[axis], *rows[axis + 1 :]]), axis=axis),
    }
    feeds = {"x": numbers(seed, shape), "values": numbers(seed + 1, known["along"].shape)}
    signed = either_sign(data.draw, axis, len(shape))
    nodes = [
        helper.make_node("GatherElements", ["x", "elements"], ["gathered"], axis=signed),
        helper.make_node("ScatterElements", ["x", "along", "values"], ["scattered"], axis=signed),
    ]
    agree(way, model_of(nodes, feeds, ["gathered", "scattered"], known), [feeds])


@given(seed=seeds, shape=shapes, data=st.data())
@few
def test_pad(way, seed, shape, data):
    """Constants, edges, mirrors and rings of numbers; a negative pad takes numbers away."""
    rank = len(shape)
    outside = [data.draw(st.integers(0, shape[axis % rank] - 1)) for axis in range(2 * rank)]
    either = list(outside)
    axis = data.draw(st.integers(0, rank - 1))
    if shape[axis] > 1:
        either[axis] = -1
    known = {"outside": np.int64(outside), "either": np.int64(either), "value": np.float32(0.25)}
    nodes = [
        helper.make_node("Pad", ["x", "outside" if mode != "constant" else "either", "value"], [mode], mode=mode)
        for mode in ("constant", "edge", "reflect")
    ]
    x = numbers(seed, shape)
    agree(way, model_of(nodes, {"x": x}, [node.output[0] for node in nodes], known), [{"x": x}])


@given(seed=seeds, block=st.integers(2, 3), sizes=st.tuples(*[st.integers(1, 3)] * 4))
@few
def test_depth_and_space(way, seed, block, sizes):
    batch, channels, height, width = sizes
    deep = numbers(seed, (batch, channels * block**2, height, width))
    wide = numbers(seed, (batch, channels, height * block, width * block))
    nodes = [
        helper.make_node("DepthToSpace", ["deep"], ["DCR"], blocksize=block),
        helper.make_node("DepthToSpace", ["deep"], ["CRD"], blocksize=block, mode="CRD"),
        helper.make_node("SpaceToDepth", ["wide"], ["depth"], blocksize=block),
    ]
    feeds = {"deep": deep, "wide": wide}
    agree(way, model_of(nodes, feeds, ["DCR", "CRD", "depth"]), [feeds])


@given(seed=seeds, shape=st.tuples(*[st.integers(1, 5)] * 4), scales=st.tuples(*[st.integers(1, 3)] * 2))
@few
def test_resize_to_the_nearest(way, seed, shape, scales):
    known = {"scales": np.float32([1, 1, *scales]), "sizes": np.int64([*shape[:2], *(2 * n for n in shape[2:])])}
    attributes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["scaled"], **attributes),
        helper.make_node("Resize", ["x", "", "", "sizes"], ["sized"], **attributes),
    ]
    x = numbers(seed, shape)
    agree(way, model_of(nodes, {"x": x}, ["scaled", "sized"], known), [{"x": x}])


@pytest.mark.parametrize("rounding", ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
@pytest.mark.parametrize("how", ["asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners"])
def test_positions_are_float32_when_sizes_change_by_a_fraction(way, how, rounding):
    """A third of 9 is 3 and 0.7 of 10 is 7, although the nearest float32 of both are a little off."""
    x = np.arange(10, dtype=np.float32).reshape(1, 1, 10)
    attributes = {"coordinate_transformation_mode": how, "nearest_mode": rounding}
    known = {f"scale {n}": np.float32([1, 1, scale]) for n, scale in enumerate((1 / 3, 0.7, 0.1, 1.3, 7 / 3))}
    known |= {f"size {size}": np.int64([1, 1, size]) for size in (1, 3, 7, 13, 29)}
    nodes = [
        helper.make_node("Resize", ["x", *[""] * (1 if "scale" in name else 2), name], [f"y of {name}"], **attributes)
        for name in known
    ]
    agree(way, model_of(nodes, {"x": x}, [node.output[0] for node in nodes], known), [{"x": x}])


@pytest.mark.parametrize(
    ("opset", "inputs", "attributes", "reason"),
    [
        (10, ["x", "scales"], {}, "a scale is 0.5; expected 1 or more before opset 11"),
        (18, ["x", "", "", "sizes"], {"keep_aspect_ratio_policy": "not_larger"}, "policy is 'not_larger'"),
    ],
)
def test_a_resize_of_a_rarer_form_is_refused(way, opset, inputs, attributes, reason):
    known = {"scales": np.float32([1, 1, 0.5]), "sizes": np.int64([1, 1, 4])}
    node = helper.make_node("Resize", inputs, ["y"], mode="nearest", **attributes)
    model = model_of([node], {"x": numbers(0, (1, 1, 8))}, ["y"], {name: known[name] for name in inputs[-1:]}, opset)
    with pytest.raises(UnsupportedModel, match=f"node 'y' .*{reason}"):
        way(model)


@given(seed=seeds, shape=st.lists(st.integers(1, 6), min_size=2, max_size=4), k=st.integers(-4, 4))
@few
def test_triangles(way, seed, shape, k):
    nodes = [
        helper.make_node("Trilu", ["x", "k"], ["upper"], upper=1),
        helper.make_node("Trilu", ["x", "k"], ["lower"], upper=0),
    ]
    x = numbers(seed, shape)
    agree(way, model_of(nodes, {"x": x}, ["upper", "lower"], {"k": np.int64(k)}), [{"x": x}])


@given(seed=seeds, frames=st.integers(1, 4), memory=st.integers(1, 6), channels=st.integers(1, 4), data=st.data())
@few
def test_shift_register(way, seed, frames, memory, channels, data):
    """What foreign models carry from step to step: the newest frames behind the older ones, cut to length."""
    axis = data.draw(st.sampled_from([1, 2]))
    shape = [1, channels, channels]
    shape[axis] = frames
    state = list(shape)
    state[axis] = memory
    nodes = [
        helper.make_node("Concat", ["past", "x"], ["seen"], axis=axis),
        helper.make_node("Slice", ["seen", "begin", "end", "axis"], ["past.next"]),
        helper.make_node("ReduceMax", ["seen", "axis"], ["y"]),
    ]
    known = {"begin": np.int64([-memory]), "end": np.int64([2**31]), "axis": np.int64([axis])}
    random = np.random.default_rng(seed)
    feeds = [{"x": random.normal(size=shape).astype(np.float32)} for _ in range(2 * memory + 3)]
    inputs = feeds[0] | {"past": np.zeros(state, np.float32)}
    agree(way, model_of(nodes, inputs, ["y", "past.next"], known), feeds, {"past": "past.next"})
