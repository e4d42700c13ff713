"""Loading a model without metadata: which of its outputs are the next values of which inputs."""

import json
import re

import numpy as np
import onnx
import pytest
from graphs import graph_model
from onnx import TensorProto, helper

from hearloop.runtime import open_engine
from hearloop.runtime.bundle import load_bundle
from hearloop.runtime.errors import AudioError, EngineError, UnsupportedModel
from hearloop.runtime.golden import Golden, golden_error
from hearloop.runtime.load import find_states, load_model, possible_states
from hearloop.tools.main import main

SIGNAL, SMALL, LARGE = (1, 8), (1, 2), (3, 4)


@pytest.mark.parametrize("form", ["{}_out", "{}.next", "{}_next", "next_{}", "new_{}", "out_{}"])
def test_names_tell(form):
    inputs = {"a": SMALL, "x": SIGNAL, "b": SMALL}
    outputs = {form.format("b"): SMALL, "y": SIGNAL, form.format("a"): SMALL}
    assert find_states(inputs, outputs) == {"a": form.format("a"), "b": form.format("b")}


def test_shape_and_order_tell_where_no_name_does():
    inputs = {"x": SIGNAL, "p": SMALL, "q": LARGE, "r": SMALL}
    outputs = {"y": SIGNAL, "1": SMALL, "2": SMALL, "3": LARGE}
    assert find_states(inputs, outputs) == {"p": "1", "q": "3", "r": "2"}


def test_what_has_no_counterpart_is_no_state():
    inputs = {"x": SIGNAL, "condition": SMALL, "q": LARGE}
    assert find_states(inputs, {"y": SIGNAL, "3": LARGE}) == {"q": "3"}
    # Three of one shape against two of it: nobody can tell which is the condition.
    assert find_states({"x": SIGNAL, "p": SMALL, "q": SMALL, "r": SMALL}, {"y": SIGNAL, "1": SMALL, "2": SMALL}) == {}


def test_the_signal_is_never_a_state():
    assert find_states({"x": SIGNAL}, {"y": SIGNAL}) == {}


@pytest.mark.parametrize(
    ("inputs", "outputs", "states"),
    [
        (("audio", "h"), ("audio_out", "h_out"), {"h": "h_out"}),
        (("x", "h", "condition"), ("out_x", "out_h"), {"h": "out_h"}),
        (("x",), ("x_out",), {}),
    ],
)
def test_a_signal_that_is_named_like_a_state_is_none(inputs, outputs, states):
    assert find_states(dict.fromkeys(inputs, SMALL), dict.fromkeys(outputs, SMALL)) == states


def test_names_that_leave_no_signal_are_told():
    with pytest.raises(EngineError, match="none to the signal; say which outputs are next values with `states`"):
        find_states(dict.fromkeys(("h", "audio"), SMALL), dict.fromkeys(("audio_out", "h_out"), SMALL))


def test_a_name_and_a_shape_that_contradict_each_other_are_told():
    with pytest.raises(EngineError, match=r"'h_out' has shape \[3, 4\].*'h', which has \[1, 2\]"):
        find_states({"x": SIGNAL, "h": SMALL}, {"y": SIGNAL, "h_out": LARGE})


@pytest.fixture
def accumulator(tmp_path):
    """y = x + sum of the past; two memories of the same shape, which no name connects."""
    nodes = [
        helper.make_node("Add", ["up", "x"], ["more"]),
        helper.make_node("Sub", ["down", "x"], ["less"]),
        helper.make_node("Sub", ["more", "less"], ["y"]),
    ]
    path = tmp_path / "accumulator.onnx"
    inputs, outputs = ({name: [1, 4] for name in names} for names in (("x", "up", "down"), ("y", "more", "less")))
    onnx.save(graph_model(nodes, inputs, outputs), path)
    return path


@pytest.mark.parametrize("engine", ["ort", "compiled"])
def test_states_that_were_found_or_given_are_carried(accumulator, engine):
    one = np.ones((1, 4), np.float32)
    found = open_engine(accumulator, engine)
    assert [found.step({"x": one})["y"][0, 0] for _ in range(3)] == [2, 4, 6]
    given = open_engine(accumulator, engine, states={"up": "more"})
    zero = np.zeros_like(one)
    assert [given.step({"x": one, "down": zero})["y"][0, 0] for _ in range(3)] == [2, 3, 4]


def test_two_states_with_one_next_value_are_refused(accumulator):
    with pytest.raises(EngineError, match=r"'more' is the next value of \['up', 'down'\]; expected of one state"):
        load_model(accumulator, {"up": "more", "down": "more"})


@pytest.fixture
def half_named(tmp_path):
    """y = x + both memories, of which one has a name that tells and the other has not."""
    nodes = [
        helper.make_node("Add", ["x", "h"], ["h_out"]),
        helper.make_node("Add", ["x", "c"], ["cn"]),
        helper.make_node("Add", ["h_out", "cn"], ["y"]),
    ]
    path = tmp_path / "half.onnx"
    inputs, outputs = ({name: [1, 4] for name in names} for names in (("x", "h", "c"), ("y", "h_out", "cn")))
    onnx.save(graph_model(nodes, inputs, outputs), path)
    return path


HINT = "input 'c' and output 'cn' have the same shape; if they are a state, say so: --states h=h_out,c=cn"


def test_a_state_that_no_name_tells_beside_one_that_has_one_is_asked_about(half_named, capsys):
    """It was taken for a second signal in silence, and `profile` told the time of a model without its memory."""
    one = np.ones((1, 4), np.float32)
    engine = open_engine(half_named, "ort")
    with pytest.raises(AudioError, match=f"inputs are x; expected c, x .{re.escape(HINT)}"):
        engine.step({"x": one})
    for verb in (["inspect"], ["compile"], ["profile", "--engine", "ort", "--seconds", "0.1"]):
        assert main([*verb, str(half_named)]) == 0
        assert f"half: {HINT}" in " ".join(capsys.readouterr().out.split())
    told = open_engine(half_named, "ort", states={"h": "h_out", "c": "cn"})
    assert [told.step({"x": one})["y"][0, 0] for _ in range(3)] == [2, 4, 6]
    assert told.info.notes == ()


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ({"x": SIGNAL, "h": SMALL, "a": LARGE, "b": LARGE}, {"y": SIGNAL, "h_out": SMALL, "c": LARGE}),
        ({"x": SIGNAL, "h": SMALL, "condition": LARGE}, {"y": SIGNAL, "h_out": SMALL, "measure": (1,)}),
        ({"x": SIGNAL, "h": SMALL}, {"y": SIGNAL, "h_out": SMALL}),
    ],
)
def test_where_shapes_tell_nothing_nothing_is_asked(inputs, outputs):
    assert possible_states(inputs, outputs, find_states(inputs, outputs)) == {}


def test_free_dimensions_are_told(tmp_path, capsys):
    """A frame of one sample in the place of 128 was measured without a word."""
    path = tmp_path / "free.onnx"
    shapes = {"x": ["batch", 1, "time"]}, {"y": ["batch", 1, "time"]}
    onnx.save(graph_model([helper.make_node("Neg", ["x"], ["y"])], *shapes), path)
    assert main(["inspect", str(path)]) == 0
    assert "free dimensions are taken as 1: 'batch' of 'x', 'time' of 'x'" in capsys.readouterr().out
    assert main(["inspect", "--json", str(path)]) == 0
    assert len(json.loads(capsys.readouterr().out)["notes"]) == 1


@pytest.fixture
def counter(tmp_path):
    """y = x + number of the step, counted by an integer."""
    nodes = [
        helper.make_node("Add", ["n", "one"], ["n_out"]),
        helper.make_node("Cast", ["n_out"], ["count"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["x", "count"], ["y"]),
    ]
    graph = graph_model(nodes, {"x": [1, 4], "n": [1]}, {"y": [1, 4], "n_out": [1]}, {"one": np.int64([1])})
    for port in (graph.graph.input[1], graph.graph.output[1]):
        port.type.tensor_type.elem_type = TensorProto.INT64
    path = tmp_path / "counter.onnx"
    onnx.save(graph, path)
    return path


@pytest.mark.parametrize("engine", ["ort", "compiled"])
def test_a_state_may_be_a_whole_number(counter, engine):
    """It was refused with both engines, though ONNX Runtime runs it."""
    zero = np.zeros((1, 4), np.float32)
    opened = open_engine(counter, engine)
    for _ in range(2):
        assert [opened.step({"x": zero})["y"][0, 0] for _ in range(3)] == [1, 2, 3]
        opened.reset()
    opened.load_state({"n": np.int64([40])})
    assert opened.step({"x": zero})["y"][0, 0] == 41
    assert opened.save_state()["n"] == 41


def test_what_is_no_state_is_float32(counter):
    with pytest.raises(EngineError, match=r"'n' is a tensor\(int64\), expected tensor\(float\)"):
        load_model(counter, {})
    with pytest.raises(EngineError, match=r"shape \[1\], but"):
        load_model(counter, {"n": "y"})


def test_a_state_keeps_its_type(tmp_path):
    path = tmp_path / "casts.onnx"
    nodes = [helper.make_node("Cast", ["n"], ["n_out"], to=TensorProto.FLOAT), helper.make_node("Neg", ["x"], ["y"])]
    graph = graph_model(nodes, {"x": [1, 4], "n": [1]}, {"y": [1, 4], "n_out": [1]})
    graph.graph.input[1].type.tensor_type.elem_type = TensorProto.INT64
    onnx.save(graph, path)
    with pytest.raises(EngineError, match=r"'n' is a tensor\(int64\), but its next value 'n_out' a tensor\(float\)"):
        load_model(path)


@pytest.mark.parametrize("engine", ["ort", "compiled"])
def test_a_state_may_be_a_number_without_dimensions(tmp_path, engine):
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["loud"], keepdims=0),
        helper.make_node("Add", ["level", "loud"], ["level_out"]),
        helper.make_node("Add", ["x", "level_out"], ["y"]),
    ]
    path = tmp_path / "level.onnx"
    onnx.save(graph_model(nodes, {"x": [4], "level": []}, {"y": [4], "level_out": []}), path)
    opened, ones = open_engine(path, engine), np.ones((3, 4), np.float32)
    for _ in range(2):
        assert [opened.step({"x": frame})["y"][0] for frame in ones] == [5, 9, 13]
        opened.reset()


@pytest.mark.parametrize(
    ("states", "empty"),
    [
        ({"past": "past_out"}, r"state 'past' has shape \[1, 0\]"),
        ({}, r"input 'past' has shape \[1, 0\]"),
    ],
)
def test_inputs_and_states_without_elements_are_not_compiled(tmp_path, states, empty):
    nodes = [
        helper.make_node("Concat", ["past", "x"], ["y"], axis=1),
        helper.make_node("Slice", ["y", "four", "four", "one"], ["past_out"]),
    ]
    path = tmp_path / "forgets.onnx"
    constants = {"four": np.int64([4]), "one": np.int64([1])}
    onnx.save(graph_model(nodes, {"x": [1, 4], "past": [1, 0]}, {"y": [1, 4], "past_out": [1, 0]}, constants), path)
    feeds = {"x": np.ones((1, 4), np.float32)}
    if not states:
        feeds["past"] = np.ones((1, 0), np.float32)
    np.testing.assert_array_equal(open_engine(path, "ort", states=states).step(feeds)["y"], feeds["x"])
    with pytest.raises(UnsupportedModel, match=f"{empty}, expected at least one element"):
        open_engine(path, "compiled", states=states)


def test_an_output_without_elements_is_not_compiled(tmp_path):
    node = helper.make_node("Slice", ["x", "four", "four", "one"], ["y"])
    path = tmp_path / "silent.onnx"
    constants = {"four": np.int64([4]), "one": np.int64([1])}
    onnx.save(graph_model([node], {"x": [1, 4]}, {"y": [1, 0]}, constants), path)
    with pytest.raises(UnsupportedModel, match=r"output 'y' has shape \[1, 0\]"):
        open_engine(path, "compiled")


def test_golden_vectors_may_be_numbers_without_dimensions(tmp_path):
    nodes = [helper.make_node("Add", ["level", "x"], ["level_out"]), helper.make_node("Neg", ["level_out"], ["y"])]
    path = tmp_path / "level.onnx"
    onnx.save(graph_model(nodes, {"x": [], "level": []}, {"y": [], "level_out": []}), path)
    frames = np.float32([1, 2, 3])
    assert golden_error(open_engine(path, "ort"), Golden({"x": frames}, {"y": -np.cumsum(frames)})) == 0


def test_inspect_tells_the_same_as_json(accumulator, capsys):
    assert main(["inspect", "--json", str(accumulator)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["name"], told["inputs"]) == ("accumulator", [{"name": "x", "shape": [1, 4]}])
    assert told["states"][0] == {"name": "up", "next": "more", "shape": [1, 4]}


def test_inspect_shows_what_is_taken_for_states(accumulator, capsys):
    assert main(["inspect", str(accumulator)]) == 0
    printed = capsys.readouterr().out
    assert "state        up [1, 4] -> more" in printed
    assert "state        down [1, 4] -> less" in printed


def test_a_loaded_model_takes_no_other_states():
    bundle = load_bundle("enhance-small")
    assert load_model(bundle, {state.name: state.next for state in bundle.info.states}) is bundle
    with pytest.raises(EngineError, match="loaded already"):
        load_model(bundle, {})
