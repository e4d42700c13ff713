"""`hearloop evaluate` on folders: the task of the models decides what is measured."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

pytest.importorskip("pesq", reason="pesq is not installed")
pytest.importorskip("pystoi", reason="pystoi is not installed")

from hearloop.models import build
from hearloop.models.simulation.starter import starter_material
from hearloop.models.training.checkpoint import write_checkpoint
from hearloop.tools.main import main

SIZES = {
    "enhance-small": {"channels": 8, "hidden": 12, "bands": 16, "blocks": 1},
    "separate-tiger-small": {"size": 8, "channels": 8, "rounds": 1, "scales": 2, "heads": 2, "query": 2, "memory": 4},
    "target": {"channels": 8, "hidden": 6, "blocks": 2, "heads": 2, "memory": 5, "query": 2, "embedding": 12},
    "enroll": {"channels": 8, "hidden": 6, "blocks": 1, "embedding": 12},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Checkpoints with random weights."""
    folder, found = tmp_path_factory.mktemp("models"), {}
    for name, config in SIZES.items():
        torch.manual_seed(0)
        weights = build(name, **config).state_dict()
        found[name] = str(folder / f"{name}.pt")
        content = {"model": name, "config": config, "weights": weights, "training": {}, "quality": []}
        write_checkpoint(folder / f"{name}.pt", content)
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The synthetic voices, noises and heads as files, and the arguments that name them."""
    root = tmp_path_factory.mktemp("data")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        material = starter_material()[1]
    for kind in ("speech", "noise"):
        corpus = getattr(material, kind)
        for index, (name, group) in enumerate(zip(corpus.names, corpus.groups, strict=True)):
            (root / kind / group).mkdir(parents=True, exist_ok=True)
            soundfile.write(root / kind / group / f"{name}.wav", corpus.recording(index), 16000)
    (root / "heads").mkdir()
    for head in material.heads:
        where = {"azimuth": head.azimuth_deg, "elevation": head.elevation_deg}
        np.savez(root / "heads" / f"{head.name}.npz", ir=head.responses, fs=16000, **where)
    return [f"--valid-{kind}={root / kind}" for kind in ("speech", "noise", "heads")]


@pytest.mark.parametrize(
    ("model", "measure", "said"),
    [
        ("enhance-small", "clean_si_sdr_db", "4 mixtures of unseen voices"),
        ("separate-tiger-small", "phantom_db", "4 pairs of unseen talkers"),
        ("target", "wrong_talker_percent", "4 scenes of unseen talkers, noises and heads"),
    ],
)
def test_the_task_of_the_model_decides_the_set_and_the_measures(models, data, tmp_path, capsys, model, measure, said):
    pytest.importorskip("matplotlib")
    out = tmp_path / "quality.json"
    numbers = ["--mixtures=4", "--clean=1", f"--enroll={models['enroll']}"]
    assert main(["evaluate", models[model], *data, *numbers, f"--json={out}", f"--plots={tmp_path}"]) == 0
    content = json.loads(out.read_text())
    assert content["test"].startswith(said)
    name = f"{model} ({Path(models[model]).parent.name}/{model}.pt)"
    assert [system["name"] for system in content["systems"]] == ["unprocessed", name]
    found = content["systems"][1]["bands"]["all"]
    assert found["si_sdr_improvement_db"]["count"] == 4
    assert np.isfinite(found[measure]["mean"])
    table = capsys.readouterr().out
    assert f"| {name} | 12 ms |" in table
    assert all((tmp_path / f"{name}.png").stat().st_size > 5000 for name in ("spectrograms", "scatter"))


def test_a_set_without_clean_voices_is_measured_and_drawn(models, data, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    arguments = ["--mixtures=1", "--clean=0", f"--plots={tmp_path}"]
    assert main(["evaluate", models["enhance-small"], *data, *arguments]) == 0
    assert "clean" not in capsys.readouterr().out
    assert all((tmp_path / f"{name}.png").stat().st_size > 5000 for name in ("spectrograms", "scatter"))


def test_enrolment_is_judged_by_whom_it_confuses(models, data, tmp_path, capsys):
    out = tmp_path / "identity.json"
    assert main(["evaluate", models["enroll"], *data, "--mixtures=12", f"--json={out}"]) == 0
    (found,) = json.loads(out.read_text())["systems"]
    assert (found["looks"], found["equal_error_percent"]["count"]) == (12, 12)
    assert 0 <= found["equal_error_percent"]["mean"] <= 100
    assert -1 <= found["likeness"]["mean"] <= 1
    assert "| enroll |" in capsys.readouterr().out
    content = []
    for more in ("--looks=1", "--looks=2", "--clean-looks"):
        assert main(["evaluate", models["enroll"], *data, "--mixtures=12", f"--json={out}", more]) == 0
        content.append(json.loads(out.read_text()))
    named = ["12 noisy looks of 2 to 5 s", "12 times 2 noisy looks of 2 to 5 s each", "12 clean looks of 2 to 5 s"]
    assert [each["test"] for each in content] == named
    assert content[0]["systems"] == [found]
    assert content[1]["systems"][0]["likeness"] != found["likeness"]
    assert content[2]["systems"][0]["likeness"] == found["likeness"]


@pytest.mark.parametrize(
    ("models_given", "more", "named"),
    [
        (["separate-tiger-small", "target"], [], "separate-tiger-small.pt) separate; target ("),
        (["separate-tiger-small"], ["--folder=/"], "to hold noisy/, talker1/ and talker2/"),
        (["target"], ["--enroll=unheard-of"], "model 'unheard-of'"),
        ([], [], "nothing to measure"),
        (["enroll"], ["--looks=0"], "--looks is 0; expected 1 at least"),
        (["enhance-small"], ["--mixtures=0"], "--mixtures is 0; expected 1 at least"),
        (["enhance-small"], ["--clean=-1"], "--clean is -1; expected 0 at least"),
        (["target"], ["--look-within=-5"], "frontal_deg is -5.0; expected 0 to 180"),
        (["target"], ["--json=nowhere/x.json"], "nowhere/x.json: the folder does not exist or cannot be written"),
        (["target"], ["--plots=/dev/null/plots"], "Not a directory: '/dev/null/plots'"),
    ],
)
def test_what_cannot_be_measured_is_one_line(models, data, capsys, models_given, more, named):
    arguments = [f"--enroll={models['enroll']}", *data, *more]
    assert main(["evaluate", *(models[name] for name in models_given), *arguments]) == 1
    error = capsys.readouterr().err
    assert named in error
    assert error.count("\n") == 1


def test_a_target_without_heads_asks_for_them(models, data, capsys):
    assert main(["evaluate", models["target"], f"--enroll={models['enroll']}", *data[:2]]) == 1
    assert "--valid-heads" in capsys.readouterr().err
