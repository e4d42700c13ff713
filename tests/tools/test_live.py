"""`hearloop live`: what it refuses before there is sound, and what it leaves behind."""

import json
import signal
import threading

import numpy as np
import pytest
import soundfile

from hearloop.runtime import HearloopError
from hearloop.runtime.controls import Controls
from hearloop.tools import live
from hearloop.tools.main import build_parser, main


@pytest.fixture
def played(tmp_path, make_bundle):
    """The arguments of a command that plays a short sound."""
    soundfile.write(tmp_path / "in.wav", np.zeros(1600), 16000)
    return ["live", "--software", str(tmp_path / "in.wav"), "--model", str(make_bundle()), "--engine", "ort"]


@pytest.mark.parametrize("latency", ["nan", "inf", "-1", "soon"])
def test_a_latency_that_no_sound_card_can_have_is_refused(latency, capsys):
    assert main(["live", f"--latency={latency}"]) == 1
    assert f"--latency is {latency!r}; expected low, high, or a number of seconds" in capsys.readouterr().err


@pytest.mark.parametrize("rate", [0, -5])
def test_so_is_such_a_rate(played, rate, capsys):
    assert main([*played, f"--samplerate={rate}"]) == 1
    assert f"--samplerate is {rate}; expected a positive number of Hz" in capsys.readouterr().err


def test_so_is_a_folder_for_the_statistics(played, tmp_path, capsys):
    assert main([*played, "--stats", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"hearloop: {tmp_path} is a folder; expected a file\n"


def test_a_very_long_run_needs_no_memory_for_what_was_heard(played):
    device = live._device(build_parser("live").parse_args([*played, "--duration=1e300"]))
    assert (device.finished, device.output.size) == (False, 0)


def test_the_summary_is_told_though_the_statistics_cannot_be_written(played, tmp_path, monkeypatch, capsys):
    def full(path, content):
        raise HearloopError(f"{path}: cannot be written (No space left on device)")

    monkeypatch.setattr(live, "write_json", full)
    assert main([*played, "--stats", str(tmp_path / "run.json")]) == 1
    captured = capsys.readouterr()
    assert " frames, " in captured.out
    assert "run.json: cannot be written" in captured.err


def test_the_statistics_are_written_though_the_terminal_has_gone(played, tmp_path, monkeypatch):
    def gone(loop):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(live, "_summary", gone)
    assert main([*played, "--stats", str(tmp_path / "run.json")]) == 1
    assert json.loads((tmp_path / "run.json").read_text())["blocks"] > 0


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="a signal of POSIX")
@pytest.mark.parametrize("ignored", [False, True])
def test_a_closed_terminal_ends_it_unless_it_shall_go_on(monkeypatch, ignored):
    ended = threading.Event()
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        with live._signals(Controls(), ended):
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert ended.is_set() != ignored
