"""What several verbs are tested with: small models and looks for voices, and runs of `hearloop profile`."""

import json

import jsonschema
import numpy as np
import onnx
import pytest
import soundfile
import torch
from enrolment import RATE

from hearloop.models import build
from hearloop.models.simulation.sphere import spherical_head
from hearloop.models.simulation.starter import synthetic_voice
from hearloop.tools.main import main
from hearloop.tools.profiling.document import SCHEMA


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Untrained, of one checkpoint as the training leaves it: an enrolment, and a target model with its steering."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    sizes = {
        "target": {"channels": 8, "hidden": 6, "blocks": 1, "heads": 2, "memory": 5, "query": 2, "embedding": 12},
        "enroll": {"channels": 8, "hidden": 6, "blocks": 1, "embedding": 12},
    }
    content = {
        "model": "target",
        "config": {},
        "parts": {name: {"model": name, "config": config} for name, config in sizes.items()},
        "weights": {
            f"{name}.{key}": value
            for name, config in sizes.items()
            for key, value in build(name, **config).state_dict().items()
        },
        "training": {},
        "quality": [],
    }
    torch.save(content, folder / "best.pt")
    for name in sizes:
        output = str(folder / f"{name}.onnx")
        assert main(["export", str(folder / "best.pt"), output, "--part", name, "--license", "CC0-1.0"]) == 0
    return folder


@pytest.fixture(scope="session")
def look(tmp_path_factory):
    rng = np.random.default_rng(3)
    voice = 0.1 * synthetic_voice(rng, 3 * RATE, 180, 0.9)
    ears = np.stack([np.convolve(voice, ear)[: len(voice)] for ear in spherical_head().response(3)], axis=1)
    path = tmp_path_factory.mktemp("look") / "look.wav"
    soundfile.write(path, ears + 1e-4 * rng.standard_normal(ears.shape), RATE, subtype="FLOAT")
    return path


@pytest.fixture
def profiles(tmp_path, monkeypatch):
    monkeypatch.setenv("HEARLOOP_PROFILES", str(tmp_path / "profiles"))
    return tmp_path / "profiles"


@pytest.fixture
def profile(tmp_path, capsys):
    """Runs the verb; returns the exit status, what it printed, and its report, which fits the schema."""
    schema = json.loads(SCHEMA.read_text())

    def run(*arguments):
        path = tmp_path / "report.json"
        status = main(["profile", *map(str, arguments), "--json", str(path)])
        captured = capsys.readouterr()
        if not path.exists():
            return status, captured.err, None
        report = json.loads(path.read_text(), parse_constant=pytest.fail)  # Infinity and NaN are no JSON
        jsonschema.validate(report, schema)
        assert report["mode"] in ("loopback", "per-op") or max(map(len, captured.out.splitlines())) <= 80
        return status, captured.out, report

    return run


@pytest.fixture
def foreign(make_bundle, tmp_path):
    """The same model without anything that hearloop would know it by."""
    model = onnx.load(make_bundle())
    del model.metadata_props[:]
    path = tmp_path / "foreign.onnx"
    onnx.save(model, path)
    return path
