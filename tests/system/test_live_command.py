"""`hearloop live` without a sound card: options, signals, keys, statistics, and every fault as one clear line."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

pytestmark = pytest.mark.realtime

LIVE = [sys.executable, "-m", "hearloop.tools.main", "live"]


@pytest.fixture
def noise_file(tmp_path, rng):
    path = tmp_path / "noise.wav"
    soundfile.write(path, 0.1 * rng.standard_normal(16000), 16000, subtype="FLOAT")
    return path


def start(*arguments, **streams) -> subprocess.Popen:
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    return subprocess.Popen([*LIVE, *map(str, arguments)], text=True, **streams)


def refuse(*arguments) -> str:
    live = start(*arguments)
    _, errors = live.communicate(timeout=120)
    assert live.returncode == 1
    assert "Traceback" not in errors
    assert errors.startswith("hearloop: ")
    return errors


def test_a_file_is_played_once_and_the_statistics_are_complete(noise_file, make_bundle, tmp_path):
    statistics, recording = tmp_path / "stats.json", tmp_path / "heard.wav"
    live = start(
        "--software", noise_file, "--model", make_bundle(), "--engine", "ort", "--stats", statistics,
        "--record", recording, "--mix", "0.5",
    )  # fmt: skip
    output, errors = live.communicate(timeout=120)
    assert live.returncode == 0, errors
    assert "latency 20.0 ms" in output
    assert "worker path" in output
    stats = json.loads(statistics.read_text())
    assert {"frames", "misses", "xruns", "concealed", "latency_samples", "ledger", "compute_us", "engine", "path",
            "environment"} <= set(stats)  # fmt: skip
    assert {"min", "p50", "p99", "p999", "max"} <= set(stats["compute_us"])
    assert stats["latency_samples"] == sum(stats["ledger"].values()) == 320
    assert (stats["engine"], stats["path"]) == ("ort", "worker")
    assert 125 <= stats["frames"] < 160
    heard, _ = soundfile.read(recording, dtype="float32")
    played, _ = soundfile.read(noise_file, dtype="float32")
    # Exact even where a late block was concealed: this model changes nothing, so its substitute is the same sound.
    assert np.max(np.abs(heard[192 + 1000 :][:14000] - played[1000:15000])) < 1e-4
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_bypass_step_the_limit_and_end_with_a_fade(number, noise_file, make_bundle, tmp_path):
    statistics, recording = tmp_path / "stats.json", tmp_path / "heard.wav"
    model = make_bundle("silence", gain=0.0)
    live = start(
        *("--software", noise_file, "--duration", 50, "--model", model, "--stats", statistics, "--record", recording),
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # these tests may run under nohup
    )
    live.stdout.readline()  # it runs
    time.sleep(0.7)
    live.send_signal(signal.SIGUSR1)
    time.sleep(0.7)
    live.send_signal(signal.SIGUSR1)
    live.send_signal(signal.SIGUSR2)  # from no limit to 6 dB
    time.sleep(0.7)
    live.send_signal(number)
    output, errors = live.communicate(timeout=120)
    assert live.returncode == 0, errors
    assert "misses" in output
    heard, _ = soundfile.read(recording)
    levels = np.array([np.sqrt(np.mean(part**2)) for part in np.array_split(heard, len(heard) // 800)])
    played = 0.1
    assert np.any(levels < 1e-6)  # the model's silence
    assert np.any(np.isclose(levels, played, rtol=0.2))  # bypass
    assert np.isclose(np.median(levels[-8:-3]), played / 2, rtol=0.2)  # limit
    assert np.max(np.abs(heard[-64:])) < 1e-3
    assert json.loads(statistics.read_text())["seconds"] < 20


def test_keys_do_what_the_help_says_and_a_terminal_shows_one_line(noise_file, make_bundle):
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    live = start("--software", noise_file, "--duration", 50, "--model", make_bundle(), stdin=theirs, stderr=theirs)
    os.close(theirs)
    shown = ""

    def show_until(text):
        nonlocal shown
        deadline = time.monotonic() + 20
        while text not in shown and time.monotonic() < deadline:
            shown += os.read(ours, 4096).decode()
        assert text in shown, shown

    show_until("limit none")
    assert "latency 20.0 ms" in shown
    os.write(ours, b"-")
    show_until("limit 24 dB")
    os.write(ours, b"-")
    show_until("limit 18 dB")
    os.write(ours, b"b")
    show_until("| bypass")
    os.write(ours, b"q")
    live.wait(timeout=120)
    os.close(ours)
    assert live.returncode == 0
    assert "Traceback" not in shown


def test_keys_change_the_gains_of_sources(noise_file, make_bundle):
    """Several at once, too: once, keys that were typed quickly waited in a buffer for the next one."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    model = make_bundle(masks=np.full((2, 257), 0.5))
    options = ("--software", noise_file, "--duration", 50, "--model", model, "--gains", "0,-12")
    live = start(*options, stdin=theirs, stderr=theirs)
    os.close(theirs)
    assert "1 to 9 choose a source" in live.stdout.readline()
    shown = ""
    for keys, text in (
        ("", "source *1 0 dB, 2 -12 dB"),
        ("<<", "source *1 -6 dB, 2 -12 dB"),
        ("2>", "source 1 -6 dB, *2 -9 dB"),
        ("m", "*2 off"),
        ("m93", "source 1 -6 dB, *2 -9 dB"),  # there is no source 9, and no source 3
        ("1m>", "source *1 -6 dB, 2 -9 dB"),
    ):
        os.write(ours, keys.encode())
        deadline, shown = time.monotonic() + 20, ""
        while text not in shown and time.monotonic() < deadline:
            shown += os.read(ours, 4096).decode()
        assert text in shown, shown
    os.write(ours, b"q")
    live.wait(timeout=120)
    os.close(ours)
    assert live.returncode == 0


def test_faults_are_one_clear_line(noise_file, make_bundle, tmp_path):
    model = make_bundle()
    text = tmp_path / "text.wav"
    text.write_text("not audio")
    assert "text.wav: not a sound file" in refuse("--software", text, "--model", model)
    assert "no such file" in refuse("--software", noise_file, "--model", tmp_path / "none.onnx")
    assert "16000 Hz" in refuse("--software", noise_file, "--model", model, "--samplerate", 48000)
    assert "folder does not exist" in refuse(
        "--software", noise_file, "--model", model, "--stats", tmp_path / "no" / "s"
    )
    assert "cannot be created" in refuse("--software", noise_file, "--model", model, "--record", tmp_path / "heard.txt")
    assert "mix" in refuse("--software", noise_file, "--model", model, "--mix", 3)
    assert "does not separate its input" in refuse("--software", noise_file, "--model", model, "--gains", "0,-12")
    assert "cannot take the native path" in refuse(
        "--software", noise_file, "--model", model, "--engine", "ort", "--path", "native"
    )
