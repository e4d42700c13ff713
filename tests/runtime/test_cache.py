"""The cache of compiled models: whatever happens to it, what runs is whole, and of the right model."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
from graphs import graph_model
from onnx import helper

from hearloop.runtime import open_engine
from hearloop.runtime.compiled_engine import CompiledEngine
from hearloop.runtime.compiler import cache
from hearloop.runtime.compiler.compiled import Options
from hearloop.runtime.compiler.target import host_target
from hearloop.runtime.errors import BundleError
from hearloop.runtime.load import load_model
from hearloop.tools.main import main

COMPILE = """
import sys
from hearloop.runtime.compiler import cache, compile
from hearloop.runtime.compiler.compiled import Options
from hearloop.runtime.load import load_model

whole = compile.compile_model

def told(*arguments):
    print("compiled", flush=True)
    return whole(*arguments)

compile.compile_model = told
bundle = load_model(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
cache.fetch(bundle, Options())
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HEARLOOP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def model(tmp_path, folder):
    """y is the sum of all x until now."""
    nodes = [helper.make_node("Add", ["h", "x"], ["h_out"]), helper.make_node("Identity", ["h_out"], ["y"])]
    path = tmp_path / "sum.onnx"
    inputs, outputs = ({name: [1, 4] for name in names} for names in (("x", "h"), ("y", "h_out")))
    onnx.save(graph_model(nodes, inputs, outputs), path)
    return load_model(path)


def check(engine):
    one = np.ones((1, 4), np.float32)
    assert [engine.step({"x": one})["y"][0, 0] for _ in range(3)] == [1, 2, 3]


def test_no_byte_of_an_entry_can_be_changed_unnoticed(model, rng):
    cache.fetch(model, Options())
    path = cache.entry_path(model, Options())
    whole = path.read_bytes()
    places = [*range(80), *rng.integers(80, len(whole), 300).tolist(), len(whole) - 1]
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        assert cache.lookup(model, Options()) is None, place
    for length in (*range(80), *rng.integers(80, len(whole), 50).tolist()):
        path.write_bytes(whole[:length])
        assert cache.lookup(model, Options()) is None, length
    path.write_bytes(whole + b"\0")
    assert cache.lookup(model, Options()) is None
    check(CompiledEngine(model))
    assert cache.lookup(model, Options()) is not None


def test_an_entry_under_the_name_of_another_is_refused(model):
    cache.fetch(model, Options())
    path = cache.entry_path(model, Options())
    other = cache.entry_path(model, Options(half_weights=True))
    other.write_bytes(path.read_bytes())
    assert cache.lookup(model, Options(half_weights=True)) is None


def test_the_kind_of_a_state_is_part_of_the_name(model):
    ring = replace(model, info=replace(model.info, states=(replace(model.info.states[0], kind="ring", axis=0),)))
    assert cache.entry_path(ring, Options()) != cache.entry_path(model, Options())


def test_the_processor_and_the_compiler_are_part_of_the_name(model, monkeypatch):
    here = cache.entry_path(model, Options())
    assert cache.entry_path(model, Options(), replace(host_target(), features="")) != here
    monkeypatch.setattr(cache, "_compiler_digest", lambda: "of other sources")
    assert cache.entry_path(model, Options()) != here


def test_where_there_is_too_much_the_oldest_entries_go(model, folder, monkeypatch):
    cache.fetch(model, Options())
    path = cache.entry_path(model, Options())
    monkeypatch.setattr(cache, "LARGEST_FOLDER_BYTES", path.stat().st_size + 1500)
    path.unlink()
    others = [folder / f"{age}.bin" for age in range(3)]
    for age, other in enumerate(others):
        other.write_bytes(bytes(1000))
        os.utime(other, (1000 - age, 1000 - age))
    cache.fetch(model, Options())
    assert set(folder.glob("*.bin")) == {path, others[0]}


def test_weights_beside_the_model_are_part_of_it(folder, tmp_path, monkeypatch):
    """Wherever the program runs, and also after the weights have changed while the model's own file has not."""
    path, x = tmp_path / "model" / "scaled.onnx", np.ones((1, 4), np.float32)
    path.parent.mkdir()
    monkeypatch.chdir(folder.parent)
    models = []
    for gain in (2, 3):
        node = helper.make_node("Mul", ["x", "gain"], ["y"])
        graph = graph_model([node], {"x": [1, 4]}, {"y": [1, 4]}, {"gain": np.full((1, 4), gain, np.float32)})
        path.with_suffix(".data").unlink(missing_ok=True)  # onnx would append to it
        onnx.save(graph, path, save_as_external_data=True, location="scaled.data", size_threshold=0)
        models.append(path.read_bytes())
        for engine in ("ort", "compiled"):
            assert (open_engine(path, engine).step({"x": x})["y"] == gain).all()
    assert models[0] == models[1]
    path.with_suffix(".data").unlink()
    with pytest.raises(BundleError, match=r"scaled\.onnx: not a readable ONNX model \(.*scaled\.data"):
        load_model(path)


def test_processes_that_start_together_compile_once(model):
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", COMPILE, str(model.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    for run in runs:
        assert run.stdout.readline() == "ready\n"
    for run in runs:
        run.stdin.write("\n")
        run.stdin.flush()
    printed = [run.communicate(timeout=120)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0]
    assert "".join(printed) == "compiled\n"


def test_a_lock_that_is_never_freed_is_not_waited_for_without_end(model, folder, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(cache, "LONGEST_WAIT_S", 0.1)
    path = cache.entry_path(model, Options()).with_suffix(".lock")
    folder.mkdir(mode=0o700)
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        check(CompiledEngine(model))


def test_what_a_killed_process_has_left_is_removed(model, folder):
    folder.mkdir(mode=0o700)
    path = cache.entry_path(model, Options())
    left = folder / f"{path.stem}.abc.part"
    old, young = folder / "other.abc.part", folder / "another.abc.part"
    for each in (left, old, young):
        each.write_bytes(b"half")
    os.utime(old, (0, 0))
    cache.fetch(model, Options())
    assert not left.exists()
    assert not old.exists()
    assert young.exists()  # its process may still be writing


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions of Unix")
def test_a_folder_that_others_can_write_is_left_alone_and_it_is_said(model, folder, tmp_path):
    folder.mkdir()
    folder.chmod(0o777)
    precious = tmp_path / "precious"
    precious.write_text("kept")
    cache.entry_path(model, Options()).with_suffix(".lock").symlink_to(precious)
    engine = CompiledEngine(model)
    check(engine)
    assert "can be written by others" in engine.note
    assert precious.read_text() == "kept"
    assert list(folder.glob("*.bin")) == []


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions of Unix")
def test_what_lies_in_a_folder_that_others_can_write_is_not_run(model, folder):
    cache.fetch(model, Options())
    assert cache.lookup(model, Options()) is not None
    folder.chmod(0o777)
    assert cache.lookup(model, Options()) is None


def test_a_disk_that_takes_nothing_is_told(model, monkeypatch, capsys):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.os, "replace", full)
    engine = CompiledEngine(model)
    check(engine)
    assert "No space left on device" in engine.note
    assert list(cache.cache_folder().glob("*.part")) == []
    assert main(["compile", str(model.path)]) == 0
    assert "No space left on device" in capsys.readouterr().out


def test_the_cache_is_listed_and_cleared(model, folder, capsys):
    assert main(["compile", str(model.path), "--list"]) == 0
    assert "1 compiled model(s)" in capsys.readouterr().out
    (folder / "broken.bin").write_bytes(b"x")
    assert main(["compile", "--list"]) == 0
    printed = capsys.readouterr().out
    assert "  sum " in printed
    assert "  damaged " in printed
    assert main(["compile", "--clear", "--list"]) == 0
    printed = capsys.readouterr().out
    assert "2 compiled model(s) removed" in printed
    assert "0 compiled model(s)" in printed
    assert list(folder.iterdir()) == []
    assert main(["compile"]) == 1
    assert "expected a model, --list or --clear" in capsys.readouterr().err
