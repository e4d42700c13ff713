"""The doctor, and the verbs that show models, as real commands."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

from hearloop.runtime import load_bundle, open_engine
from hearloop.runtime.golden import Golden, golden_error
from hearloop.runtime.live import LiveLoop
from hearloop.runtime.telemetry import Times
from hearloop.tools import doctor


def hearloop(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hearloop.tools.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture
def golden(rng) -> Golden:
    spectrum = rng.standard_normal((4, 1, 1, 1, 257, 2)).astype(np.float32)
    return Golden({"spectrum": spectrum}, {"enhanced": np.float32(0.5) * spectrum}, 1e-4)


def test_golden_vectors_are_reproduced_by_the_model_they_belong_to_and_by_no_other(make_bundle, golden):
    same, other = (load_bundle(make_bundle(gain=gain, golden=golden)) for gain in (0.5, 0.51))
    assert golden_error(open_engine(same), same.info.golden) <= 1e-6
    assert golden_error(open_engine(other), other.info.golden) == pytest.approx(0.02, rel=1e-3)


def test_golden_vectors_detect_a_model_that_returns_nan(make_bundle, golden):
    broken = load_bundle(make_bundle(gain=0.5, fails_from=2, golden=golden))
    assert golden_error(open_engine(broken), broken.info.golden) == np.inf


def test_the_doctor_finds_a_healthy_model_healthy_and_runs_it_in_real_time(make_bundle, golden):
    result = hearloop("doctor", "--json", "--model", make_bundle(gain=0.5, golden=golden))
    findings = {finding["check"]: finding for finding in json.loads(result.stdout)}
    model = next(finding for check, finding in findings.items() if check.startswith("model"))
    assert model["outcome"] == "ok"
    assert {"PortAudio", "real-time priority", "CPU governor", "paced run"} <= findings.keys()
    assert re.match(r"\S+ with engine \w+: \d+ frames of 8 ms", findings["paced run"]["found"])
    assert all(finding["remedy"] for finding in findings.values() if finding["outcome"] != "ok")


@pytest.mark.parametrize(
    ("model", "found"),
    [
        ("target-small", r"target-small with engine \w+: \d+ frames of 8 ms, p50"),
        ("enroll", "left out: model 'enroll' is not made"),
    ],
)
def test_the_doctor_runs_a_model_that_needs_a_voice_and_none_that_never_runs_live(model, found):
    findings = json.loads(hearloop("doctor", "--json", "--model", model).stdout)
    assert re.match(found, findings[-1]["found"]), findings[-1]


def test_the_doctor_tells_frames_as_long_as_they_are(make_bundle):
    findings = json.loads(hearloop("doctor", "--json", "--model", make_bundle(sample_rate=32000)).stdout)
    assert "frames of 4 ms" in findings[-1]["found"]


def test_the_doctor_fails_with_a_remedy_where_a_model_computes_something_else(make_bundle, golden):
    result = hearloop("doctor", "--model", make_bundle(gain=0.6, golden=golden))
    assert result.returncode == 1
    line = next(line for line in result.stdout.splitlines() if "golden" in line)
    assert line.startswith("failed")
    assert "->" in result.stdout


def test_the_doctor_fails_where_a_model_is_given_up(make_bundle):
    """Its sound goes on unprocessed, so that no deadline is missed."""
    result = hearloop("doctor", "--json", "--model", make_bundle(fails_from=0))
    finding = json.loads(result.stdout)[-1]
    assert (result.returncode, finding["check"], finding["outcome"]) == (1, "paced run", "failed")
    assert "not finite" in finding["found"]
    assert finding["remedy"]


def test_the_doctor_tells_of_a_run_without_times(make_bundle, monkeypatch):
    stats = LiveLoop.stats
    monkeypatch.setattr(LiveLoop, "stats", lambda loop: stats(loop) | {"compute_us": Times().to_json()})
    monkeypatch.setattr(doctor, "PACED_SECONDS", 1)
    assert "frames of 8 ms, none of them timed, " in doctor._paced(str(make_bundle())).found


def test_the_doctor_names_a_model_that_cannot_be_loaded(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    result = hearloop("doctor", "--model", tmp_path / "bad.onnx")
    assert result.returncode == 1
    assert "not a readable ONNX model" in result.stdout
    assert "Traceback" not in result.stderr


def test_inspect_shows_what_the_file_says(make_bundle, golden):
    path = make_bundle(name="example", golden=golden, comment="made for a test")
    text = hearloop("inspect", path).stdout
    for fact in ("example", "made for a test", "192 samples = 12 ms", "state.count", "4 frames", "asymmetric-512-192"):
        assert fact in text
    content = json.loads(hearloop("inspect", "--json", path).stdout)
    assert (content["name"], content["latency_samples"]) == ("example", 192)


def test_every_shipped_model_is_listed_with_licence_latency_and_place():
    shipped = json.loads(hearloop("models", "--json").stdout)
    text = hearloop("models").stdout
    assert "enhance-small" in shipped
    for name, content in shipped.items():
        assert name in text
        assert content["license"]
        assert content["path"] in text
        assert content["latency_samples"] <= 192
        assert content["quality"], "a shipped model states its quality"
        assert load_bundle(name).info.golden is not None
