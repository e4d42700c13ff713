"""Engine "auto": ONNX Runtime at once, machine code when it is ready, and nothing heard of the change."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import graph_model
from onnx import helper

from hearloop.runtime import Processor, open_engine
from hearloop.runtime.auto_engine import AutoEngine
from hearloop.runtime.bundle import load_bundle
from hearloop.runtime.compiler import cache, compile
from hearloop.runtime.compiler.compiled import Options
from hearloop.runtime.live import LiveLoop
from hearloop.runtime.load import load_model
from hearloop.runtime.ort import OrtEngine
from hearloop.runtime.software_device import SoftwareDevice
from hearloop.runtime.spectral_frames import SpectralFrames

LONGEST_S = 120
# Of the input: what rounding makes of a mask that is computed in two ways. The largest of 12,000 frames was 2.4e-7.
ROUNDING = 5e-7


def frames(engine, random):
    while True:
        yield {name: random.standard_normal(array.shape).astype(np.float32) for name, array in engine.inputs.items()}


def difference(found, expected, inputs):
    """Of two outputs for one frame, against its input: noise is suppressed by 50 dB, and errors of a mask are not."""
    heard = max(np.abs(values).max() for values in inputs.values())
    return max(np.abs(found[name] - values).max() for name, values in expected.items()) / heard


def until_moved(engine, each):
    """Call `each` until the engine has moved over, and 50 times more; returns at which call it was."""
    moved, count, deadline = None, 0, time.monotonic() + LONGEST_S
    while moved is None or count < moved + 50:
        each(count)
        count += 1
        if moved is None and engine.name == "compiled":
            moved = count
        time.sleep(0.001)
        assert time.monotonic() < deadline, f"still on {engine.name}: {engine.note}"
    return moved


@pytest.mark.parametrize("patience", [1, 37])
def test_the_output_is_that_of_a_stream_without_interruption(patience, rng):
    bundle = load_bundle("enhance-small")
    engine, steady = AutoEngine(bundle, patience_steps=patience), OrtEngine(bundle)
    source, worst = frames(engine, rng), []
    assert engine.name == "ort"

    def step(_):
        inputs = next(source)
        worst.append(difference(engine.step(inputs), steady.step(inputs), inputs))

    assert until_moved(engine, step) > patience
    assert max(worst) < ROUNDING
    assert engine.note == ""
    for name, values in steady.save_state().items():
        np.testing.assert_allclose(engine.save_state()[name], values, rtol=1e-3, atol=1e-4)


def test_what_is_done_to_the_stream_meanwhile_is_done_to_its_follower(rng):
    bundle = load_bundle("enhance-small")
    engine, steady = AutoEngine(bundle, patience_steps=1), OrtEngine(bundle)
    source = frames(engine, rng)
    saved = steady.save_state()

    def step(count):
        nonlocal saved
        for each in (engine, steady):
            if count % 7 == 3:
                each.reset()
            if count % 11 == 5:
                each.load_state(saved)
        inputs = next(source)
        found, expected = engine.step(inputs), steady.step(inputs)
        if count % 13 == 0:
            saved = steady.save_state()
        assert difference(found, expected, inputs) < ROUNDING

    until_moved(engine, step)


def test_the_processor_moves_over_without_a_trace(rng):
    cache.fetch(load_bundle("enhance-small"), Options())
    bundle = load_bundle("enhance-small")
    moving, steady = Processor(bundle, 2, engine="ort"), Processor(bundle, 2, engine="ort")
    moving._wet.frames = spectral = SpectralFrames(AutoEngine(bundle, patience_steps=20), 2)
    engines = spectral.streams.engines
    deadline, rest = time.monotonic() + LONGEST_S, 100
    while rest:
        block = 0.1 * rng.standard_normal((2, int(rng.integers(1, 700)))).astype(np.float32)
        np.testing.assert_allclose(moving.process(block), steady.process(block), atol=1e-5)
        time.sleep(0.004)
        rest -= [each.name for each in engines] == ["compiled", "compiled"]
        assert time.monotonic() < deadline, [f"still on {each.name}: {each.note}" for each in engines]


@pytest.mark.realtime
def test_the_live_loop_moves_over_while_it_plays(rng):
    audio = 0.1 * rng.standard_normal((1, 16000)).astype(np.float32)
    loop = LiveLoop("enhance-small", SoftwareDevice(audio, 16000, seconds=60), "auto")
    assert (loop.path, loop.engine_name) == ("worker", "ort")
    cache.fetch(load_bundle("enhance-small"), Options())
    with loop:
        wait_for(lambda: loop.engine_name == "compiled")
        loop.wait(0.5)
    stats = loop.stats()
    assert (stats["engine"], stats["failures"], stats["message"]) == ("compiled", 0, "")
    assert LiveLoop("enhance-small", SoftwareDevice(audio, 16000), "auto").path == "native"


def test_a_native_path_is_compiled_for_at_once(rng):
    audio = np.zeros((1, 1600), np.float32)
    loop = LiveLoop("enhance-small", SoftwareDevice(audio, 16000), "auto", path="native")
    assert (loop.path, loop.engine_name) == ("native", "compiled")


def unsupported(path: Path) -> Path:
    """A model with an operator that the compiler does not know."""
    node = helper.make_node("Det", ["square"], ["d"], name="the determinant")
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["square"]), node]
    nodes += [helper.make_node("ReduceSum", ["d"], ["sum"]), helper.make_node("Add", ["x", "sum"], ["y"])]
    onnx.save(graph_model(nodes, {"x": [1, 8]}, {"y": [1, 8]}, {"shape": np.int64([2, 2, 2])}), path)
    return path


def test_a_model_that_cannot_be_compiled_goes_on_and_says_why(tmp_path):
    engine = AutoEngine(load_model(unsupported(tmp_path / "det.onnx")), patience_steps=1)
    deadline = time.monotonic() + LONGEST_S
    while not engine.note and time.monotonic() < deadline:
        engine.step({"x": np.ones((1, 8), np.float32)})
        time.sleep(0.01)
    assert "the determinant" in engine.note
    assert engine.name == "ort"


def test_a_stream_that_is_dropped_is_forgotten():
    engine = AutoEngine(load_bundle("enhance-small"), patience_steps=1)
    engine.run()
    found = weakref.ref(engine)
    del engine
    gc.collect()
    deadline = time.monotonic() + LONGEST_S
    while any(thread.name == "hearloop compile" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert found() is None


def test_a_short_stream_starts_no_compiler():
    engine = open_engine("enhance-small")
    for _ in range(20):
        engine.run()
    assert not any(thread.name == "hearloop compile" for thread in threading.enumerate())


def test_an_entry_is_compiled_once_however_many_ask(monkeypatch):
    bundle, count, compiled = load_bundle("enhance-small"), [], compile.compile_model

    def counted(*arguments):
        count.append(threading.get_ident())
        return compiled(*arguments)

    monkeypatch.setattr(compile, "compile_model", counted)
    threads = [threading.Thread(target=cache.fetch, args=(bundle, Options())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(count) == 1


def test_processes_that_compile_the_same_get_along(tmp_path):
    code = "from hearloop.tools.main import main; raise SystemExit(main(['compile', 'enhance-small']))"
    runs = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    printed = [run.communicate(timeout=LONGEST_S)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0], printed
    assert len(list(cache.cache_folder().glob("*.bin"))) == 1
    assert list(cache.cache_folder().glob("*.part")) == []
    assert cache.lookup(load_bundle("enhance-small"), Options()) is not None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_the_compiler_ends_with_the_program_that_started_it():
    code = (
        "import time\n"
        "from hearloop.runtime.auto_engine import AutoEngine\n"
        "from hearloop.runtime.bundle import load_bundle\n"
        "engine = AutoEngine(load_bundle('enhance-small'), patience_steps=1)\n"
        "engine.run()\n"
        "time.sleep(60)\n"
    )
    program = subprocess.Popen([sys.executable, "-c", code])
    try:
        children = wait_for(lambda: children_of(program.pid))
    finally:
        program.send_signal(signal.SIGKILL)
        program.wait()
    wait_for(lambda: not any(Path(f"/proc/{child}/cmdline").exists() for child in children))


def children_of(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(child) for child in task.read_text().split()]
    return found


def wait_for(condition):
    deadline = time.monotonic() + LONGEST_S
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions of Unix")
def test_a_folder_that_others_can_write_is_not_used(monkeypatch, tmp_path):
    folder = tmp_path / "open"
    folder.mkdir()
    monkeypatch.setenv("HEARLOOP_CACHE", str(folder))
    bundle = load_bundle("enhance-small")
    cache.fetch(bundle, Options())
    assert cache.lookup(bundle, Options()) is not None
    folder.chmod(0o777)
    assert cache.lookup(bundle, Options()) is None
