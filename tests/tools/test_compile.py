"""The verbs around the compiler, as a user runs them."""

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


def test_states_are_given_by_pairs(capsys):
    assert main(["compile", "enhance-small", "--states", "nonsense"]) == 1
    assert "expected IN=OUT" in capsys.readouterr().err
