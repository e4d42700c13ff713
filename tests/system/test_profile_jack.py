"""`hearloop profile` on a JACK server: a running stream from inside, and a round trip that explains itself."""

import json
import subprocess
import sys

import jsonschema
import pytest

from hearloop.tools.profiling.document import SCHEMA

pytestmark = [pytest.mark.jack, pytest.mark.realtime, pytest.mark.slow]


def profile(server, path, *arguments) -> tuple[str, dict]:
    """What it printed, and its report."""
    command = [sys.executable, "-m", "hearloop.tools.main", "profile", *map(str, arguments), "--json", str(path)]
    done = subprocess.run(command, env=server.environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    report = json.loads(path.read_text())
    jsonschema.validate(report, json.loads(SCHEMA.read_text()))
    assert max(map(len, done.stdout.splitlines())) <= 80
    return done.stdout, report


@pytest.mark.parametrize(
    ("engine", "path", "late"), [("compiled", "native", 192), ("ort", "worker", 320)], ids=["native", "worker"]
)
def test_a_stream_on_a_server_has_all_figures_and_a_ledger_from_mouth_to_ear(engine, path, late, start_jack, tmp_path):
    server = start_jack(16000)
    printed, report = profile(
        server, tmp_path / "live.json", "enhance-small", "--live", "--engine", engine, "--seconds", 3
    )
    (row,), (loop,) = report["rows"], report["loops"]
    assert row["runs"] == f"{path} path"
    assert row["ledger"]["total_samples"] == late
    assert row["blocks"] > 100  # a server that is held up gives fewer
    assert row["period_us"] == 8000
    assert loop["failures"] == loop["callback_errors"] == 0
    stages = [stage for stage in row["stages_us"].values() if stage]
    assert sum(stage["share"] for stage in stages) == pytest.approx(1, abs=1e-4)
    assert row["stages_us"]["model"]["n"] == pytest.approx(row["blocks"], abs=2)
    assert "mouth to ear" in printed


@pytest.mark.parametrize(
    "arguments", [(), ("enhance-small", "--engine", "compiled"), ("enhance-small", "--engine", "ort")]
)
def test_a_loopback_leaves_nothing_unexplained(arguments, start_jack, tmp_path):
    """The device alone, with the native path, and with the worker's."""
    server = start_jack(16000)
    printed, report = profile(server, tmp_path / "loop.json", *arguments, "--loopback", "--jack-loopback")
    found = report["loopback"]
    assert found["delay"]["certain"]
    assert not found["delay"]["inverted"]
    assert found["delay"]["confidence"] > 0.9
    assert abs(found["unexplained_samples"]) < 0.01
    names = [delay["name"] for delay in found["ledger"]["delays"]]
    assert ("lookahead" in names) == bool(arguments)
    assert ("worker" in names) == ("ort" in arguments)
    assert "unexplained" in printed


def test_without_a_loop_nothing_is_claimed(start_jack, tmp_path):
    server = start_jack(16000)
    printed, report = profile(server, tmp_path / "loop.json", "--loopback")
    assert not report["loopback"]["delay"]["certain"]
    assert "?? nothing came back" in printed
