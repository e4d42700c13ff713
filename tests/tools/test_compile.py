"""The verbs around the compiler, as a user runs them."""

import json

import pytest

from hearloop.tools.main import main


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HEARLOOP_CACHE", str(tmp_path / "cache"))


def test_compile_fills_the_cache_and_says_so(capsys):
    assert main(["compile", "enhance-small"]) == 0
    first = capsys.readouterr().out
    assert "enhance-small: compiled in" in first
    assert "kernels" in first
    assert main(["compile", "enhance-small"]) == 0
    assert "was compiled already" in capsys.readouterr().out


def test_inspect_shows_the_plan(capsys):
    assert main(["inspect", "enhance-small", "--plan"]) == 0
    printed = capsys.readouterr().out
    assert "state state.encoder.0 [1, 16, 2, 64]: ring (3 slots)" in printed
    assert "contract_" in printed


def test_profile_compares_the_engines_and_tells_where_the_time_goes(tmp_path, capsys):
    report = tmp_path / "report.json"
    arguments = ["--half-weights", "--per-op", "--steps", "50", "--json", str(report)]
    assert main(["profile", "enhance-small", *arguments]) == 0
    printed = capsys.readouterr().out
    assert max(len(line) for line in printed.splitlines()) <= 80
    (found,) = json.loads(report.read_text())
    assert set(found["times_us"]) == {"ort", "ort bound", "compiled", "compiled f16"}
    assert all(0 < times["min"] <= times["median"] <= times["p99"] for times in found["times_us"].values())
    assert found["errors"]["compiled"] <= 1e-5
    kernels = found["kernels"]["kernels"]
    assert sum(kernel["macs"] for kernel in kernels) == found["macs"]
    # The shortest times of the kernels cannot come to more than the shortest step.
    assert 0 < sum(kernel["us"] for kernel in kernels) <= found["kernels"]["step_us"]


def test_states_are_given_by_pairs(capsys):
    assert main(["compile", "enhance-small", "--states", "nonsense"]) == 1
    assert "expected IN=OUT" in capsys.readouterr().err
