"""Functions of the domain `hearloop`: ONNX Runtime runs the bodies, the compiler gives the same, frame by frame."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from .running import agree, model_of

pytest.importorskip("torch")
from hearloop.export.functions import FUNCTIONS

FRAMES = 5
small = st.integers(1, 4)


def one(name, inputs, outputs, **attributes):
    node = helper.make_node(name, inputs.split(), outputs.split(), domain="hearloop", **attributes)
    return [node], [FUNCTIONS[used].to_function_proto() for used in sorted({name, "RingPush"})]


def random_feeds(shapes, seed):
    random = np.random.default_rng(seed)
    return [
        {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
        for _ in range(FRAMES)
    ]


@settings(max_examples=15)
@given(
    s=small,
    length=st.sampled_from([1, 2, 7, 40]),
    heads=small,
    width=st.sampled_from([1, 3, 8, 16]),
    n=small,
    carried=st.booleans(),
    seed=st.integers(0, 999),
)
def test_a_selective_scan(way, s, length, heads, width, n, carried, seed):
    shapes = {"x": (s, length, heads, width), "dt": (s, length, heads), "b": (s, length, n), "c": (s, length, n)}
    feeds = [{**feed, "dt": np.abs(feed["dt"])} for feed in random_feeds(shapes, seed)]
    state = np.zeros((s, heads, n, width), np.float32)
    constants = {"a": -np.linspace(0.1, 8, heads, dtype=np.float32), "d": np.linspace(1, 2, heads, dtype=np.float32)}
    nodes, functions = one("SelectiveScan", "x dt a b c d state", "y following")
    inputs = feeds[0] | ({"state": state} if carried else {})
    constants |= {} if carried else {"state": state + 1}
    model = model_of(nodes, inputs, ["y", "following"], constants, functions=functions)
    agree(way, model, feeds, {"state": "following"} if carried else None)


@pytest.mark.parametrize(("axis", "memory"), [(0, (3, 4)), (1, (2, 5, 3)), (2, (1, 2, 1, 4))])
def test_a_ring_push(way, axis, memory):
    new = tuple(1 if place == axis else size for place, size in enumerate(memory))
    nodes, functions = one("RingPush", "memory new", "window following", axis=axis)
    nodes.append(helper.make_node("ReduceSum", ["window"], ["total"], keepdims=0))
    feeds = random_feeds({"new": new}, seed=1)
    inputs = feeds[0] | {"memory": np.zeros(memory, np.float32)}
    model = model_of(nodes, inputs, ["window", "total", "following"], functions=functions)
    agree(way, model, feeds, {"memory": "following"})


@pytest.mark.parametrize(("taps", "dilation"), [(2, 1), (2, 4), (3, 2)])
def test_a_dilated_history(way, taps, dilation):
    nodes, functions = one("DilatedHistory", "memory new", "seen following", axis=2, dilation=dilation)
    feeds = random_feeds({"new": (1, 3, 1, 5)}, seed=2)
    inputs = feeds[0] | {"memory": np.zeros((1, 3, (taps - 1) * dilation, 5), np.float32)}
    model = model_of(nodes, inputs, ["seen", "following"], functions=functions)
    agree(way, model, feeds, {"memory": "following"})


def test_functions_of_one_name_are_told_apart_by_their_overload(way):
    imports = [helper.make_opsetid("", 18)]
    functions = []
    for overload, operator in (("doubled", "Add"), ("squared", "Mul")):
        body = [helper.make_node(operator, ["a", "a"], ["b"])]
        functions.append(helper.make_function("hearloop", "Itself", ["a"], ["b"], body, imports, overload=overload))
    nodes = [
        helper.make_node("Itself", ["x"], ["two x"], domain="hearloop", overload="doubled"),
        helper.make_node("Itself", ["x"], ["x x"], domain="hearloop", overload="squared"),
    ]
    feed = random_feeds({"x": (2, 3)}, seed=3)[0]
    model = model_of(nodes, feed, ["two x", "x x"], functions=functions)
    model.ir_version = 10
    agree(way, model, [feed])
