"""The compiled engine: the same numbers as ONNX Runtime, for bundles and for other people's models."""

import numpy as np
import onnx
import pytest
from graphs import graph_model
from onnx import helper

from hearloop.runtime import load_bundle, open_engine
from hearloop.runtime.compiler.cache import entry_path, lookup
from hearloop.runtime.compiler.compiled import Options
from hearloop.runtime.engine import NativeEngine
from hearloop.runtime.errors import AudioError, EngineError, UnsupportedModel
from hearloop.runtime.golden import golden_error
from hearloop.runtime.load import load_model

PEERS = {
    "gtcrn/gtcrn_simple.onnx": 1e-5,
    "dtln/model_1.onnx": 1e-4,
    "dtln/model_2.onnx": 1e-4,
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HEARLOOP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def foreign(tmp_path):
    """A model without metadata: a mean over the last four frames, kept by Concat and Slice."""
    nodes = [
        helper.make_node("Concat", ["past", "x"], ["window"], axis=0),
        helper.make_node("ReduceMean", ["window"], ["y"], axes=[0], keepdims=1),
        helper.make_node("Slice", ["window", "one", "end"], ["past_out"]),
    ]
    constants = {"one": np.int64([1]), "end": np.int64([4])}
    model = graph_model(nodes, {"x": [1, 5], "past": [3, 5]}, {"y": [1, 5], "past_out": [3, 5]}, constants, opset=13)
    path = tmp_path / "mean.onnx"
    onnx.save(model, path)
    return path


def compare(path, frames, tolerance, states=None):
    compiled, ort = (open_engine(path, engine=name, states=states) for name in ("compiled", "ort"))
    random = np.random.default_rng(0)
    largest = error = 0.0
    for _ in range(frames):
        frame = {name: random.standard_normal(array.shape) for name, array in ort.inputs.items()}
        expected, found = ort.step(frame), compiled.step(frame)
        assert found.keys() == expected.keys()
        for name in expected:
            error = max(error, np.abs(found[name] - expected[name]).max())
            largest = max(largest, np.abs(expected[name]).max())
    assert error <= tolerance * largest, error / largest
    return compiled, ort


@pytest.mark.parametrize("name", PEERS)
def test_peers_agree_with_onnx_runtime_over_1000_frames(shared, name):
    compare(shared / "peers" / name, 1000, PEERS[name])


def test_tf_gridnet_agrees_with_onnx_runtime(shared):
    path = shared / "compiler" / "prototype" / "tf_gridnet_step.onnx"
    compare(path, 1000, 1e-4, states={f"s{index}": f"n{index}" for index in range(14)})


def test_the_shipped_model_gives_its_golden_vectors():
    bundle = load_bundle("enhance-small")
    engine = open_engine(bundle, engine="compiled")
    assert golden_error(engine, bundle.info.golden) <= bundle.info.golden.tolerance
    assert isinstance(engine, NativeEngine)


def test_the_shipped_model_agrees_with_onnx_runtime_over_1000_frames():
    compare("enhance-small", 1000, 1e-4)


def test_a_foreign_model_and_its_states(foreign):
    engine, _ = compare(foreign, 50, 1e-6)
    engine.reset()
    for frame in range(6):
        found = engine.step({"x": np.full((1, 5), frame + 1.0)})["y"]
        expected = sum(range(max(frame - 2, 1), frame + 2)) / 4
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [[], [1], [2, 3]])
def test_signals_and_states_may_be_single_numbers(tmp_path, shape):
    nodes = [
        helper.make_node("Add", ["x", "sum"], ["sum_out"]),
        helper.make_node("Mul", ["sum_out", "half"], ["y"]),
    ]
    ports = {name: shape for name in ("x", "sum", "y", "sum_out")}
    inputs, outputs = ({name: ports[name] for name in names} for names in (("x", "sum"), ("y", "sum_out")))
    path = tmp_path / "sum.onnx"
    onnx.save(graph_model(nodes, inputs, outputs, {"half": np.float32(0.5)}, opset=13), path)
    compiled, ort = compare(path, 10, 1e-6)
    states = [engine.save_state()["sum"] for engine in (compiled, ort)]
    assert [state.shape for state in states] == 2 * [tuple(shape)]
    np.testing.assert_allclose(*states, rtol=1e-6)


def test_states_go_from_engine_to_engine(foreign):
    """Whoever continues from a state gives what the first one would have given."""
    random = np.random.default_rng(2)
    for path in (foreign, "enhance-small"):
        compiled, ort = compare(path, 7, 1e-4)
        for giver, taker in ((ort, compiled), (compiled, ort)):
            taker.load_state(giver.save_state())
            for name, array in giver.save_state().items():
                np.testing.assert_array_equal(taker.save_state()[name], array)
            for _ in range(9):
                frame = {name: random.standard_normal(array.shape) for name, array in ort.inputs.items()}
                one, other = giver.step(frame), taker.step(frame)
                for name in one:
                    np.testing.assert_allclose(one[name], other[name], rtol=1e-4, atol=1e-5)


def test_reset_is_exact():
    engine = open_engine("enhance-small", engine="compiled")
    random = np.random.default_rng(3)
    frames = random.standard_normal((20, *engine.inputs["spectrum"].shape))
    first = [engine.step({"spectrum": frame})["enhanced"] for frame in frames]
    engine.reset()
    again = [engine.step({"spectrum": frame})["enhanced"] for frame in frames]
    np.testing.assert_array_equal(first, again)
    other = engine.another()
    np.testing.assert_array_equal(other.step({"spectrum": frames[0]})["enhanced"], first[0])


def test_step_names_what_is_wrong(foreign):
    engine = open_engine(foreign, engine="compiled")
    with pytest.raises(AudioError, match="inputs are z; expected x"):
        engine.step({"z": np.zeros((1, 5))})
    with pytest.raises(AudioError, match=r"'x' has shape \[1, 4\], expected \[1, 5\]"):
        engine.step({"x": np.zeros((1, 4))})
    with pytest.raises(EngineError, match="the states are nothing; expected past"):
        engine.load_state({"nothing": np.zeros(3)})
    with pytest.raises(EngineError, match=r"state 'past' has shape \[3\]"):
        engine.load_state({"past": np.zeros(3)})


def test_states_that_do_not_fit_are_refused(foreign):
    with pytest.raises(EngineError, match="no output 'nothing', expected one of y, past_out"):
        load_model(foreign, {"past": "nothing"})
    with pytest.raises(EngineError, match=r"shape \[3, 5\].*'y' has \[1, 5\]"):
        load_model(foreign, {"past": "y"})
    assert [(state.name, state.next) for state in load_model(foreign).info.states] == [("past", "past_out")]


def test_what_cannot_be_compiled_is_named_and_still_runs(tmp_path):
    node = helper.make_node("TopK", ["x", "k"], ["y", "i"], name="the best")
    path = tmp_path / "topk.onnx"
    onnx.save(graph_model([node], {"x": [1, 8]}, {"y": [1, 2]}, {"k": np.int64([2])}), path)
    with pytest.raises(UnsupportedModel, match=r"'the best' \(TopK\)"):
        open_engine(path, engine="compiled")
    for name in ("ort", "auto"):
        found = open_engine(path, engine=name).step({"x": np.arange(8.0)[None]})["y"]
        np.testing.assert_array_equal(found, [[7, 6]])


def test_auto_takes_what_is_compiled_already(foreign):
    assert open_engine(foreign).name == "ort"
    assert open_engine(foreign, engine="compiled").name == "compiled"
    assert open_engine(foreign).name == "compiled"


@pytest.mark.parametrize("damage", ["truncated", "empty", "bit", "other version"])
def test_a_damaged_entry_is_compiled_again(foreign, damage):
    bundle = load_model(foreign)
    open_engine(bundle, engine="compiled")
    path = entry_path(bundle, Options())
    whole = path.read_bytes()
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 4
    broken = {"truncated": whole[:-7], "empty": b"", "bit": bytes(changed), "other version": b"x" + whole[1:]}[damage]
    path.write_bytes(broken)
    assert lookup(bundle, Options()) is None
    open_engine(bundle, engine="compiled")
    assert lookup(bundle, Options()) is not None


def test_the_cache_is_for_its_owner_only(foreign, folder):
    open_engine(foreign, engine="compiled")
    assert folder.stat().st_mode & 0o077 == 0
    assert sorted(path.suffix for path in folder.iterdir()) == [".bin", ".lock"]


def test_a_cache_that_cannot_be_written_is_done_without(foreign, tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("HEARLOOP_CACHE", str(blocked / "cache"))
    assert open_engine(foreign, engine="compiled").name == "compiled"
