"""hearloop train: what is wrong with a command is said before the recordings are read."""

import pytest

from hearloop.tools.main import main

TEACHER = 'model = "enroll"\n[loss]\nteacher = "{path}"\nalignment = 1\n'


def _complaint(capsys, *arguments) -> str:
    """What the command says; the table of recordings that it is given is not there, either."""
    assert main(["train", *map(str, arguments), "--manifest", "no-such-table.csv"]) != 0
    return capsys.readouterr().err


@pytest.mark.parametrize("weights", ["no-such-run/last.pt", "no-such-bundle.onnx", "no-such-model"])
def test_weights_to_begin_with_are_looked_for_first(tmp_path, capsys, weights):
    assert weights in _complaint(capsys, "separate-small", "--out", tmp_path / "run", "--from", weights)


def test_so_is_a_teacher(tmp_path, capsys):
    path = tmp_path / "pretrained.pt"
    (tmp_path / "taught.toml").write_text(TEACHER.format(path=path))
    assert str(path) in _complaint(capsys, tmp_path / "taught.toml", "--out", tmp_path / "run")


def test_without_either_it_is_the_recordings(tmp_path, capsys):
    assert "no-such-table.csv" in _complaint(capsys, "separate-small", "--out", tmp_path / "run")
