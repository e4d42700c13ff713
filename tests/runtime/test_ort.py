import numpy as np
import onnxruntime
import pytest

from hearloop.runtime import load_bundle, open_engine
from hearloop.runtime.denormals import flush_denormals, restore_denormals
from hearloop.runtime.ort import OrtEngine


def test_a_step_equals_a_plain_run_of_the_session_with_its_states(make_bundle, rng):
    bundle = load_bundle(make_bundle(gain=0.7, fails_from=5, fails_to=7))
    engine = OrtEngine(bundle)
    session = onnxruntime.InferenceSession(bundle.model, providers=["CPUExecutionProvider"])
    count = np.zeros(1, np.float32)
    for _ in range(12):
        spectrum = rng.standard_normal(engine.inputs["spectrum"].shape).astype(np.float32)
        engine.inputs["spectrum"][:] = spectrum
        engine.step()
        expected, count = session.run(None, {"spectrum": spectrum, "state.count": count})
        np.testing.assert_array_equal(engine.outputs["enhanced"], expected)
        np.testing.assert_array_equal(engine.states["state.count"], count)


def test_reset_and_warm_up_leave_the_initial_state(make_bundle):
    engine = open_engine(make_bundle(), "ort")
    assert engine.states["state.count"][0] == 0
    for steps in (1, 2, 5):
        for _ in range(steps):
            engine.step()
        assert engine.states["state.count"][0] == steps
        engine.reset()
        assert engine.states["state.count"][0] == 0


def test_another_stream_shares_the_model_but_not_the_state(make_bundle):
    first = open_engine(make_bundle(), "ort")
    second = first.another()
    first.step()
    assert (first.states["state.count"][0], second.states["state.count"][0]) == (1, 0)
    assert second.session is first.session


@pytest.mark.parametrize("setting", [True, False])
def test_denormals_are_flushed_only_between_the_two_calls(setting):
    tiny = np.full(8, 1e-39, np.float32)
    before = tiny * np.float32(0.5)
    assert (before > 0).all()
    if setting:
        previous = flush_denormals()
        flushed = tiny * np.float32(0.5)
        restore_denormals(previous)
        assert (flushed == 0).all()
    assert (tiny * np.float32(0.5) > 0).all()
