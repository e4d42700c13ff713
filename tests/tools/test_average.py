"""`hearloop average`: what is between two checkpoints of one architecture, and nothing between two architectures."""

import pytest
import torch

from hearloop.models import build
from hearloop.models.training.checkpoint import model_of_checkpoint, read_checkpoint, write_checkpoint
from hearloop.tools.main import main

SIZES = {"channels": 8, "hidden": 8, "bands": 16, "blocks": 1}


def checkpoint(path, seed, model="separate-small", config=SIZES):
    torch.manual_seed(seed)
    weights = build(model, **config).state_dict()
    facts = {"steps": seed}
    write_checkpoint(path, {"model": model, "config": config, "weights": weights, "training": facts, "quality": [{}]})
    return str(path)


@pytest.mark.parametrize(("shares", "of_second"), [(None, 0.5), ("0.25,0.75", 0.75), ("2,6", 0.75)])
def test_a_mean_is_between_its_checkpoints_and_runs(tmp_path, shares, of_second):
    paths = [checkpoint(tmp_path / f"{seed}.pt", seed) for seed in (1, 2)]
    given = [] if shares is None else ["--shares", shares]
    assert main(["average", *paths, *given, "--out", str(tmp_path / "mean.pt")]) == 0
    found, *parts = (read_checkpoint(path) for path in (tmp_path / "mean.pt", *paths))
    for name, value in found["weights"].items():
        first, second = (part["weights"][name] for part in parts)
        expected = torch.lerp(first, second, of_second) if value.is_floating_point() else second
        torch.testing.assert_close(value, expected)
    first, second = (f"{tmp_path.name}/{seed}.pt" for seed in (1, 2))
    facts = {"steps": 2, "mean_of": f"{1 - of_second:.2f} of {first}, {of_second:.2f} of {second}"}
    assert found["training"] == facts
    assert not found["quality"]  # that of one of them is not that of the mean
    model_of_checkpoint(found)


def test_the_mean_of_one_is_that_one(tmp_path):
    path = checkpoint(tmp_path / "one.pt", 1)
    assert main(["average", path, "--out", str(tmp_path / "mean.pt")]) == 0
    found, expected = (read_checkpoint(each)["weights"] for each in (tmp_path / "mean.pt", path))
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize(
    ("second", "shares", "message"),
    [
        ({"model": "separate", "config": SIZES | {"attentive": 1}}, None, "model is separate, that of"),
        ({"config": SIZES | {"hidden": 16}}, None, "config is {'channels': 8, 'hidden': 16"),
        ({}, "1", "--shares is '1'; expected 2 numbers above zero"),
        ({}, "1,-1", "expected 2 numbers above zero"),
        ({}, "a,b", "expected 2 numbers above zero"),
        ({}, "1e308,1e308", "expected 2 numbers above zero"),
        ({}, "nan,1", "expected 2 numbers above zero"),
    ],
)
def test_what_cannot_be_averaged_is_told(tmp_path, capsys, second, shares, message):
    paths = [checkpoint(tmp_path / "1.pt", 1), checkpoint(tmp_path / "2.pt", 2, **second)]
    given = [] if shares is None else ["--shares", shares]
    assert main(["average", *paths, *given, "--out", str(tmp_path / "mean.pt")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "mean.pt").exists()


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_weights_that_only_one_has_are_named(tmp_path, capsys, order):
    paths = [checkpoint(tmp_path / f"{seed}.pt", seed) for seed in (1, 2)]
    content = read_checkpoint(paths[1])
    del content["weights"]["mask.weight"]
    write_checkpoint(tmp_path / "2.pt", content)
    assert main(["average", *(paths[at - 1] for at in order), "--out", str(tmp_path / "mean.pt")]) == 1
    assert "lacks the weight mask.weight; expected the same names in both" in capsys.readouterr().err
    assert not (tmp_path / "mean.pt").exists()


def test_a_checkpoint_counts_once(tmp_path, capsys):
    path = checkpoint(tmp_path / "1.pt", 1)
    assert main(["average", path, path, "--out", str(tmp_path / "mean.pt")]) == 1
    assert "expected each of them once" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("out", "message"),
    [("nowhere/mean.pt", "the folder does not exist"), ("taken", "taken is a folder; expected a file")],
)
def test_what_cannot_be_written_is_one_line(tmp_path, capsys, out, message):
    (tmp_path / "taken").mkdir()
    assert main(["average", checkpoint(tmp_path / "1.pt", 1), "--out", str(tmp_path / out)]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("*.partial"))
