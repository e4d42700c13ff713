"""`hearloop process` on folders: no recording is written over, no output is taken for a recording."""

import os
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hearloop.tools import process
from hearloop.tools.main import main


def record(*paths: Path) -> None:
    """A tenth of a second in each file, and in no two the same."""
    for seed, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * np.random.default_rng(seed).standard_normal((1600, 1)), 16000)


@pytest.mark.parametrize("out", ["in", "link"])
def test_a_recording_is_not_replaced_by_a_source_of_another(make_bundle, tmp_path, capsys, out):
    recordings = [tmp_path / "in" / name for name in ("talk.wav", "talk.1.wav")]
    record(*recordings)
    (tmp_path / "link").symlink_to("in")
    before = [path.read_bytes() for path in recordings]
    model = make_bundle(masks=np.full((2, 257), 0.5))
    assert main(["process", "--model", str(model), str(tmp_path / "in"), str(tmp_path / out)]) == 1
    assert f"{out}/talk.1.wav: is the recording itself" in capsys.readouterr().err
    assert [path.read_bytes() for path in recordings] == before
    assert sorted(os.listdir(tmp_path / "in")) == ["talk.1.wav", "talk.wav"]


@pytest.mark.parametrize("out", ["out", "deep/out"])
def test_a_second_run_does_not_process_what_the_first_has_written(make_bundle, tmp_path, out):
    record(tmp_path / "a.wav", tmp_path / "deep" / "b.wav")
    for _ in range(2):
        assert main(["process", "--model", str(make_bundle()), str(tmp_path), str(tmp_path / out)]) == 0
    written = sorted(path.relative_to(tmp_path / out) for path in (tmp_path / out).rglob("*.wav"))
    assert written == [Path("a.wav"), Path("deep/b.wav")]


def test_a_folder_inside_out_is_processed(make_bundle, tmp_path):
    record(tmp_path / "raw" / "a.wav")
    assert main(["process", "--model", str(make_bundle()), str(tmp_path / "raw"), str(tmp_path)]) == 0
    assert soundfile.info(tmp_path / "a.wav").frames == 1600


@pytest.mark.parametrize("source", ["in", "in/a.wav"])
def test_an_unknown_backend_is_told(make_bundle, tmp_path, capsys, source):
    pytest.importorskip("joblib")
    record(tmp_path / "in" / "a.wav")
    places = (str(tmp_path / source), str(tmp_path / "out.wav"))
    assert main(["process", "--model", str(make_bundle()), *places, "--backend", "nope"]) == 1
    assert "--backend is 'nope'; expected one that joblib has" in capsys.readouterr().err


def test_a_backend_whose_package_is_missing_is_told(make_bundle, tmp_path, capsys, monkeypatch):
    pytest.importorskip("joblib")
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "joblib._dask", raising=False)
    record(tmp_path / "in" / "a.wav")
    places = (str(tmp_path / "in"), str(tmp_path / "out"))
    assert main(["process", "--model", str(make_bundle()), *places, "--backend", "dask"]) == 1
    told = capsys.readouterr().err
    assert "--backend is 'dask'" in told
    assert "dask is not installed" in told
    assert "expected one" not in told


def test_a_process_that_was_killed_is_told(make_bundle, tmp_path, capsys, monkeypatch):
    def killed(*_):
        raise BrokenProcessPool("a child process terminated abruptly")

    monkeypatch.setattr(process, "_map", killed)
    record(tmp_path / "in" / "a.wav")
    places = (str(tmp_path / "in"), str(tmp_path / "out"))
    assert main(["process", "--model", str(make_bundle()), *places, "--jobs", "2"]) == 1
    assert "a process was killed" in capsys.readouterr().err


def test_a_recording_that_is_cut_is_told(make_bundle, tmp_path, capsys):
    soundfile.write(tmp_path / "whole.mp3", 0.1 * np.random.default_rng(1).standard_normal(80000), 16000)
    whole = (tmp_path / "whole.mp3").read_bytes()
    for name, data in (("whole", whole), ("cut", whole[: len(whole) // 2])):
        (tmp_path / f"{name}.mp3").write_bytes(data)
        places = (str(tmp_path / f"{name}.mp3"), str(tmp_path / f"{name}.wav"))
        assert main(["process", "--model", str(make_bundle()), *places]) == 0
        assert ("cut.wav: only" in capsys.readouterr().err) == (name == "cut")
