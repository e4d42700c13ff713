"""`hearloop export`: from a checkpoint of the training to a bundle."""

import json
from types import SimpleNamespace

import pytest
import torch

from hearloop.export import ExportError
from hearloop.models import build
from hearloop.runtime.bundle import load_bundle
from hearloop.tools.main import main

SIZES = {"channels": 8, "hidden": 12, "bands": 16, "blocks": 1}


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    content = {
        "model": "enhance-small",
        "config": SIZES,
        "weights": build("enhance-small", **SIZES).state_dict(),
        "training": {"speech_minutes": 60.0, "command": "hearloop train --speech /home/someone/private"},
        "quality": [{"test": "validation", "si_sdr_improvement_db": 4.0}],
    }
    path = tmp_path / "best.pt"
    torch.save(content, path)
    return path


def test_a_checkpoint_becomes_a_bundle_that_tells_its_training_but_no_folder_of_the_author(
    checkpoint, tmp_path, capsys
):
    output = tmp_path / "mine.onnx"
    assert main(["export", str(checkpoint), str(output), "--license", "CC-BY-4.0", "--comment", "tiny"]) == 0
    info = load_bundle(output).info
    assert (info.name, info.license, info.comment) == ("mine", "CC-BY-4.0", "tiny")
    assert info.training == {"model": "enhance-small", "config": SIZES, "speech_minutes": 60.0}
    assert info.quality[0]["si_sdr_improvement_db"] == 4.0
    assert f"{info.parameters:,} parameters" in capsys.readouterr().out


def test_the_figures_of_an_evaluation_go_into_the_bundle(checkpoint, tmp_path, capsys):
    quality, output = tmp_path / "quality.json", tmp_path / "mine.onnx"
    means = {"si_sdr_improvement_db": {"mean": 8.1234}, "pesq_wb": {"mean": None}, "swaps_per_minute": {"mean": 0.5}}
    system = {"name": "mine", "latency_ms": 12.0, "bands": {"all": means, "room": {}}}
    quality.write_text(json.dumps({"task": "separate", "test": "4 pairs", "systems": [system]}))
    words = ["export", str(checkpoint), str(output), "--license", "CC0-1.0", "--quality", str(quality)]
    assert main(words) == 0
    figures = {"si_sdr_improvement_db": 8.123, "swaps_per_minute": 0.5}
    assert load_bundle(output).info.quality == ({"test": "4 pairs", "latency_ms": 12.0, **figures},)
    identity = {"name": "known", "equal_error_percent": {"mean": 20.0, "low": 18.0}, "looks": 120, "talkers": 25}
    quality.write_text(json.dumps({"task": "enroll", "test": "120 looks", "systems": [identity]}))
    assert main([*words, "--name", "known"]) == 0
    assert load_bundle(output).info.quality == ({"test": "120 looks", "equal_error_percent": 20.0},)
    assert main([*words, "--name", "another"]) == 1
    assert "holds no result of `hearloop evaluate --json` for 'another'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("best.pt", b"no checkpoint", "not a readable checkpoint"),
        ("gone.pt", None, "no such checkpoint"),
    ],
)
def test_a_bad_checkpoint_is_one_line_and_writes_nothing(name, content, named, tmp_path, capsys):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    output = tmp_path / "out.onnx"
    assert main(["export", str(tmp_path / name), str(output), "--license", "CC0-1.0"]) == 1
    error = capsys.readouterr().err
    assert named in error
    assert error.count("\n") == 1
    assert not output.exists()


def test_a_target_stays_as_it_is_with_its_steering_unless_both_can_be_made(tmp_path, monkeypatch, capsys):
    config = {"channels": 4, "hidden": 4, "bands": 8, "blocks": 1, "embedding": 8}
    weights = build("target-small", **config).state_dict()
    content = {"model": "target-small", "config": config, "weights": weights, "training": {}, "quality": []}
    torch.save(content, tmp_path / "best.pt")
    old = {tmp_path / "ada.onnx": b"target", tmp_path / "ada-steering.onnx": b"steering"}
    for path, held in old.items():
        path.write_bytes(held)

    def refuse(*given):
        raise ExportError("gives another map")

    def write(model, path, **facts):
        path.write_bytes(b"new")
        return SimpleNamespace(version="1")

    monkeypatch.setattr("hearloop.export.export_bundle", write)
    monkeypatch.setattr("hearloop.export.steering.export_steering", refuse)
    words = ["export", str(tmp_path / "best.pt"), str(tmp_path / "ada.onnx"), "--license", "CC0-1.0"]
    assert main(words) == 1
    assert "gives another map" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.suffix != ".pt"} == old


@pytest.mark.parametrize("output", ["out.bin", "missing/out.onnx"])
def test_an_output_that_cannot_be_a_bundle_is_refused_before_the_work(checkpoint, output, tmp_path, capsys):
    assert main(["export", str(checkpoint), str(tmp_path / output), "--license", "CC0-1.0"]) == 1
    assert "expected a file ending in .onnx in an existing folder" in capsys.readouterr().err
