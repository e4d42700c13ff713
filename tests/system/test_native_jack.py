"""The native path on a JACK server: what Python does elsewhere in the process is nothing to it."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from measurements import IMPULSES, measure_delays

pytestmark = [pytest.mark.jack, pytest.mark.realtime]

SCRIPT = Path(__file__).with_name("busy_interpreter.py")
ATTEMPTS = 3


def start(server, *arguments) -> subprocess.Popen:
    command = [sys.executable, SCRIPT, *map(str, arguments)]
    return subprocess.Popen(command, env=server.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> dict:
    try:
        output, errors = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode == 0, errors
    return json.loads(output)


@pytest.mark.slow
def test_a_busy_interpreter_costs_no_block_and_no_python_runs_on_the_audio_thread(start_jack):
    """Two spinning Python threads, garbage collection without pause, and the GIL held for a second.

    As in test_jack.py, only a run without a miss passes, and the machine's host may have taken processor time.
    """
    server, unexplained_s = start_jack(16000), []
    worker = finish(start(server, "--path", "worker", "--seconds", 5))
    print("worker:", {name: worker[name] for name in ("blocks", "misses", "concealed", "xruns", "callback_us")})
    assert worker["foreign_thread_states"] > 0  # so it can be seen
    for _ in range(ATTEMPTS):
        told = finish(start(server, "--path", "native", "--seconds", 10))
        print("native:", {name: told[name] for name in ("blocks", "misses", "concealed", "xruns", "callback_us")})
        assert told["path"] == "native"
        assert told["foreign_thread_states"] == 0
        assert told["garbage_collections"] > 100
        assert told["blocks_while_the_gil_was_held"] > 100  # of 125
        assert told["failures"] == 0
        if told["misses"] == 0:
            assert told["concealed"] == 0
            return
        unexplained_s.append(round(told["misses"] * server.period / server.sample_rate - told["stolen_s"], 3))
    told = f"misses in each of {ATTEMPTS} runs; missed less stolen time: {unexplained_s} s; the last run: {told}"
    assert min(unexplained_s) <= 0, told
    pytest.skip(f"inconclusive, the host of this machine took processor time in every run: {told}")


@pytest.mark.parametrize(("rate", "period"), [(16000, 128), (16000, 96), (48000, 128)])
def test_a_loopback_measures_the_delay_of_the_ledger(rate, period, start_jack):
    """As in test_jack.py: to the sample at the model's rate, and to one sample through the resamplers."""
    server = start_jack(rate, period)
    running = start(server, "--calm", "--seconds", 8, "--gain", 0.5, "--spin-ms", 0)
    assert "running" in running.stderr.readline()
    time.sleep(0.5)
    delays, level = measure_delays(server, "PortAudio:in_0", "PortAudio:out_0")
    told = finish(running)
    (delay, votes), promised = delays.most_common(1)[0], sum(told["ledger"].values())
    assert votes > IMPULSES / 2, (delays, told)
    assert abs(delay - promised) <= (0 if rate == 16000 else 1)
    assert "worker" not in told["ledger"]
    if rate == 16000:  # it is the model that is heard, not the dry signal
        assert level == pytest.approx(0.25, rel=0.01)


def test_a_server_that_is_killed_is_noticed(start_jack):
    server = start_jack(16000)
    running = start(server, "--calm", "--seconds", 30)
    assert "running" in running.stderr.readline()
    time.sleep(0.5)
    server.stop()
    _, errors = running.communicate(timeout=120)
    assert "has vanished" in errors
