"""What `hearloop profile` makes of what it has measured, and what it refuses to measure."""

import json
import math
import re

import pytest

from hearloop.runtime.errors import HearloopError
from hearloop.runtime.worker import FAILURES_TO_GIVE_UP


def told(**changes):
    """The least of a report that can be a baseline, but for what is changed."""
    rows = [{"name": "enhance-small ort", "model": "enhance-small", "turns": [{"p50": 1.0}]}]
    content = {
        "format": "hearloop profile",
        "version": 2,
        "mode": "paced",
        "settings": {},
        "environment": {},
        "rows": rows,
    }
    return json.dumps(content | changes)


@pytest.mark.parametrize("name", ["yardstick", "passthrough"])
def test_a_model_that_is_called_like_a_reference_row_is_a_model(name, profile, foreign, tmp_path):
    path = tmp_path / f"{name}.onnx"
    path.write_bytes(foreign.read_bytes())
    arguments = ["--engine", "ort", "--seconds", 0.1, "--fail-on", "min<1s", "--png", tmp_path / "report.png"]
    status, _, report = profile(path, *arguments)
    assert report["rows"][-1]["name"] == f"{name} (2) ort"
    assert (status, len(report["failed"])) == (3, 1)


def test_a_model_that_is_given_up_is_told_and_compared_with_nothing(profile, make_bundle):
    arguments = ["--seconds", 1, "--fail-on", "misses>1000,rested>0,failed_frames>0"]
    status, _, report = profile(make_bundle(name="broken", fails_from=0), *arguments)
    compiled, ort = report["rows"][2:]
    assert (compiled["rested"], compiled["failed_frames"]) == (125 - FAILURES_TO_GIVE_UP, FAILURES_TO_GIVE_UP)
    assert (ort["rested"], ort["failed_frames"]) == (0, 125)
    assert compiled["stages_us"]["model"]["n"] == FAILURES_TO_GIVE_UP
    assert any("was given up" in note for note in compiled["notes"])
    assert not any("too slow" in note for note in compiled["notes"])
    assert report["engines"] == []
    assert (status, len(report["failed"])) == (3, 3)


def test_a_difference_that_is_no_number_is_null_in_the_report(profile, make_bundle):
    _, _, report = profile(make_bundle(name="late", fails_from=500), "--seconds", 0.1)
    assert report["engines"][0]["largest_difference"] is None


def test_a_condition_that_comes_true_is_the_exit_status(profile):
    arguments = ["enhance-small", "--engine", "compiled", "--seconds", 0.1]
    status, printed, report = profile(*arguments, "--fail-on", "min<1s,misses>1e3".replace("1e3", "1000"))
    assert status == 3
    assert "FAILED enhance-small compiled: min<1s" in printed
    assert len(report["failed"]) == 1
    status, printed, report = profile(*arguments, "--fail-on", "latency>12ms")
    assert (status, report["failed"]) == (0, [])


def test_a_run_is_compared_with_a_baseline(profile, tmp_path):
    arguments = ["enhance-small", "--engine", "compiled", "--seconds", 0.8]
    _, _, report = profile(*arguments)
    baseline = tmp_path / "baseline.json"
    baseline.write_text(json.dumps(report))
    _, printed, again = profile(*arguments, "--compare", baseline)
    assert "compared with the baseline" in printed
    (verdict,) = again["comparison"]
    assert verdict["name"] == "enhance-small compiled"
    # A second on a busy machine proves nothing, but what took a hundredth of the time is much slower now.
    for row in report["rows"]:
        for turn in row["turns"] if row["model"] == "enhance-small" else []:
            turn["model_p50"] /= 100
    baseline.write_text(json.dumps(report))
    status, printed, _ = profile(*arguments, "--compare", baseline)
    assert status == 3
    assert "slower" in printed


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "not a readable report"),
        ("{}", "not a report of `hearloop profile`"),
        ('{"format": "hearloop profile", "version": 9}', "version is 9; expected 2"),
        ('{"format": "hearloop profile", "version": 2, "mode": "live"}', "mode is 'live'; expected paced"),
        (told(rows=None), "rows is None"),
        (told(rows=[]), r"rows is \[\]"),
        (told(settings=None), "settings is None"),
        (told(environment=[]), r"environment is \[\]"),
        (told(rows=[1]), r"rows\[0\] is no object with a name and a model"),
        (told(rows=[{"model": "m", "turns": [{"p50": 1.0}]}]), r"rows\[0\] is no object with a name"),
        (told(rows=[{"name": "m", "model": "m", "turns": []}]), r"rows\[0\]: turns is \[\]"),
        (told(rows=[{"name": "m", "model": "m", "turns": [{"min": 1.0}]}]), "a turn is"),
        (told(rows=[{"name": "m", "model": "m", "turns": [{"p50": 0}]}]), "expected finite times above 0"),
        (told(rows=[{"name": "m", "model": "m", "turns": [{"p50": math.nan}]}]), "expected finite times above 0"),
        (told(rows=[{"name": "m", "model": "m", "turns": [{"p50": 1.0}], "ledger": [8]}]), r"ledger is \[8\]"),
    ],
)
def test_a_baseline_that_is_none_is_refused_before_anything_is_measured(content, complaint, profile, tmp_path):
    baseline = tmp_path / "baseline.json"
    baseline.write_text(content)
    status, printed, report = profile("enhance-small", "--compare", baseline, "--seconds", 100)
    assert (status, report) == (1, None)
    assert re.search(complaint, printed)


def test_a_judgement_that_fails_leaves_the_report(profile, monkeypatch, tmp_path):
    def compare(*_):
        raise HearloopError("cannot be compared")

    monkeypatch.setattr("hearloop.tools.profile.compare", compare)
    baseline = tmp_path / "baseline.json"
    baseline.write_text(told())
    status, _, report = profile("enhance-small", "--engine", "ort", "--seconds", 0.1, "--compare", baseline)
    assert status == 1
    assert report["rows"][-1]["name"] == "enhance-small ort"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "expected a model"),
        (["enhance-small", "--seconds", "nan"], "--seconds is nan"),
        (["enhance-small", "--live", "--seconds", "inf"], "--seconds is inf"),
        (["enhance-small", "--period-ms", -1], "--period-ms is -1.0"),
        (["enhance-small", "--block", 0], "--block is 0"),
        (["enhance-small", "--samplerate", 0], "--samplerate is 0"),
        (["enhance-small", "--back-to-back", "--channels", 0], "--channels is 0"),
        (["enhance-small", "--per-op", "--steps", 0], "--steps is 0"),
        (["enhance-small", "--block", 65537], "expected 1 to 65536"),
        (["enhance-small", "--sweep", "blocks=64,65537"], "a block has 65537 samples; expected 65536 at most"),
        (["enhance-small", "--png", "picture.abc"], "picture.abc is no name of a picture"),
        (["enhance-small", "--csv", "."], "is a folder; expected a file"),
        (["enhance-small", "--seconds", 0], "--seconds is 0"),
        (["enhance-small", "--sweep", "sizes=1"], "no axis 'sizes'"),
        (["enhance-small", "--sweep", "blocks=0"], "positive whole numbers"),
        (["enhance-small", "--fail-on", "p50"], "not understood"),
        (["enhance-small", "--back-to-back", "--compare", "x"], "paced and live"),
        (["enhance-small", "--per-op", "--html", "x"], "paced and live"),
        (["--loopback", "--fail-on", "p50>1ms"], "paced, live and sweep"),
        (["enhance-small", "--csv", "nowhere/x.csv"], "the folder does not exist"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, complaint, profile):
    status, printed, _ = profile(*arguments)
    assert status == 1
    assert complaint in printed
