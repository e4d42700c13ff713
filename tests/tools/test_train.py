"""hearloop train: what is wrong with a command is said before the recordings are read."""

import pytest
import torch

from hearloop.tools import train
from hearloop.tools.main import main

TEACHER = 'model = "enroll"\n[loss]\nteacher = "{path}"\nalignment = 1\n'


@pytest.fixture(autouse=True)
def _threads():
    """Processes that train together have one thread each, from the moment they are asked for."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


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


def test_the_model_of_a_bundle_that_is_called_otherwise_is_told(tmp_path, capsys):
    told = _complaint(capsys, "enhance", "--out", tmp_path / "run")
    assert "'enhance' is a bundle, made of the model 'enhance-mamba-small'; train that one; known are " in told
    told = _complaint(capsys, "no-such-model", "--out", tmp_path / "run")
    assert "model or configuration 'no-such-model' is unknown; known are " in told


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--processes=2", "--batch=3"], "batch of 3 does not divide among 2 processes"),
        (["--minutes=nan"], "minutes is nan; expected a finite number"),
        (["--seconds=nan"], "seconds is nan; expected a finite number"),
        (["--learning-rate=inf"], "learning_rate is inf; expected a finite number"),
        (["--steps=-5"], "steps is -5; expected zero or more"),
        (["--seed=-1"], "seed is -1; expected at least 0"),
    ],
)
def test_so_is_a_setting_that_is_wrong(tmp_path, capsys, given, message):
    assert message in _complaint(capsys, "separate-small", "--out", tmp_path / "run", *given)


def test_so_are_norms_that_hold_nothing(tmp_path, capsys):
    (tmp_path / "held.toml").write_text('model = "separate-small"\n[training]\nhold_norms = true\n')
    given = (tmp_path / "held.toml", "--out", tmp_path / "run")
    assert "hold_norms is true, and batch norms hold nothing" in _complaint(capsys, *given)
    assert "no-such-table.csv" in _complaint(capsys, *given, "--from", "separate-small")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "last.pt").touch()
    assert "no-such-table.csv" in _complaint(capsys, *given)


@pytest.mark.parametrize(("seconds", "message"), [(0.5, "has 32768 samples, and an item has 7936"), (1.1, "no-such")])
def test_so_is_a_transform_that_is_longer_than_the_items(tmp_path, capsys, seconds, message):
    (tmp_path / "long.toml").write_text('model = "enhance-small"\n[loss]\nresolutions = [32768]\n')
    given = (tmp_path / "long.toml", "--out", tmp_path / "run", "--seconds", seconds)
    assert message in _complaint(capsys, *given)


def test_so_is_tensorboard(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(train, "find_spec", lambda name: None)
    told = _complaint(capsys, "separate-small", "--out", tmp_path / "run", "--tensorboard")
    assert "pip install tensorboard" in told


def test_without_either_it_is_the_recordings(tmp_path, capsys):
    assert "no-such-table.csv" in _complaint(capsys, "separate-small", "--out", tmp_path / "run")
