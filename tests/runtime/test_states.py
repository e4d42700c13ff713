"""Which outputs of a model without metadata are the next values of which inputs."""

import json

import numpy as np
import onnx
import pytest
from graphs import graph_model
from onnx import helper

from hearloop.runtime import open_engine
from hearloop.runtime.bundle import load_bundle
from hearloop.runtime.errors import EngineError, UnsupportedModel
from hearloop.runtime.golden import Golden, golden_error
from hearloop.runtime.states import find_states, load_model
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
