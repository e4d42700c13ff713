"""`hearloop live` as a person runs it, on a JACK server: no miss of ours, and the delay that the ledger promises."""

import json
import subprocess
import sys
import time

import pytest
import soundfile
from measurements import IMPULSES, measure_delays, stolen_s

pytestmark = [pytest.mark.jack, pytest.mark.realtime]

ATTEMPTS = 3


def start_live(server, *arguments) -> subprocess.Popen:
    command = [sys.executable, "-m", "hearloop.tools.main", "live", "--engine", "ort", *map(str, arguments)]
    return subprocess.Popen(
        command,
        env=server.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )


def finish(process: subprocess.Popen, timeout: float = 60) -> tuple[str, str]:
    try:
        return process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


@pytest.mark.slow
@pytest.mark.parametrize("rate", [16000, 48000])
def test_twenty_seconds_without_a_miss_of_ours(rate, start_jack, make_bundle, tmp_path):
    """A loop that is sound runs without a miss; one that is too slow, or stumbles over its own locks, does not.

    What a shared machine does to our threads is not ours, though: a virtual processor is taken away for 10 ms and more,
    and no thread's own clock tells that from work. So the loop has three chances, and only a run without a miss passes.
    More misses than the processor time stolen meanwhile (Linux counts it) could explain are a failure. Between the two
    nothing is proved, for a fault of ours could hide in there, and the test is skipped with its figures.
    """
    server, model = start_jack(rate), make_bundle()
    unexplained_s = []
    for _ in range(ATTEMPTS):
        stolen_before_s = stolen_s()
        live = start_live(server, "--model", model, "--duration", 20, "--stats", tmp_path / "stats.json")
        output, errors = finish(live)
        assert live.returncode == 0, errors
        stats = json.loads((tmp_path / "stats.json").read_text())
        assert "JACK" not in errors
        assert stats["sample_rate"] == rate
        assert stats["compute_us"]["p50"] < 8000
        assert stats["failures"] == stats["callback_errors"] == 0
        assert stats["environment"]["garbage_collections"] == 0
        assert f"{stats['misses']} misses" in output
        if stats["misses"] == 0:
            assert stats["concealed"] == 0
            assert stats["frames"] > 18 * 125  # a server that is held up gives fewer
            return
        assert sum(stats["late_chunks"].values()) + stats["dropped_chunks"] > 0  # every miss has a cause
        missed_s = stats["misses"] * server.period / rate
        unexplained_s.append(round(missed_s - (stolen_s() - stolen_before_s), 3))
    told = f"misses in each of {ATTEMPTS} runs; missed less stolen time: {unexplained_s} s; the last run: {stats}"
    assert min(unexplained_s) <= 0, told
    pytest.skip(f"inconclusive, the host of this machine took processor time in every run: {told}")


@pytest.mark.parametrize(("rate", "period"), [(16000, 128), (16000, 96), (48000, 128)])
def test_a_loopback_measures_the_delay_of_the_ledger(rate, period, start_jack, make_bundle, tmp_path):
    """To the sample at the model's rate, and to one sample through the resamplers.

    The probe is before and after hearloop at once. JACK breaks such a circle with one period of delay, which is also
    what PortAudio tells as the delay of this device.
    """
    import jack

    server, gain = start_jack(rate, period), 0.5
    live = start_live(server, "--model", make_bundle("half", gain=gain), "--stats", tmp_path / "stats.json")
    observer = jack.Client("observer", no_start_server=True, servername=server.name)
    deadline = time.monotonic() + 120
    while not observer.get_ports("PortAudio:out_0") and time.monotonic() < deadline:
        assert live.poll() is None, live.communicate()
        time.sleep(0.1)
    observer.close()
    time.sleep(1)  # the block size is being found out, and the output opens with a ramp
    delays, level = measure_delays(server, "PortAudio:in_0", "PortAudio:out_0")
    live.terminate()
    _, errors = finish(live)
    assert live.returncode == 0, errors
    stats = json.loads((tmp_path / "stats.json").read_text())
    (delay, votes), promised = delays.most_common(1)[0], sum(stats["ledger"].values())
    assert votes > IMPULSES / 2, (delays, stats)  # a gap in the server may move single echoes
    assert abs(delay - promised) <= (0 if rate == 16000 else 1)
    assert promised * 16000 / rate == pytest.approx(stats["latency_samples"], abs=0.01)
    if rate == 16000:  # it is the model that is heard, not the dry signal
        assert level == pytest.approx(0.5 * gain, rel=0.01)


@pytest.mark.parametrize("path", ["native", "worker"])
def test_the_ledger_holds_after_the_server_has_changed_its_block_size(path, start_jack, tmp_path):
    """In bypass, which has the delay of the model and needs none."""
    import jack

    server = start_jack(16000, 128)
    live = start_live(server, "--engine", "compiled", "--path", path, "--bypass", "--stats", tmp_path / "stats.json")
    assert "on system" in live.stdout.readline()  # it runs
    controller = jack.Client("controller", no_start_server=True, servername=server.name)
    controller.blocksize = 256
    controller.close()
    time.sleep(2)  # the change is being followed
    delays, _ = measure_delays(server, "PortAudio:in_0", "PortAudio:out_0")
    live.terminate()
    _, errors = finish(live)
    assert live.returncode == 0, errors
    stats = json.loads((tmp_path / "stats.json").read_text())
    delay, votes = delays.most_common(1)[0]
    assert stats["block_sizes"] == [128, 256]
    assert votes > IMPULSES / 2, (delays, stats)
    assert delay == sum(stats["ledger"].values()) == 256 + 64 + (0 if path == "native" else 128 + 128)


def test_a_server_that_is_killed_ends_the_loop_with_a_message_and_keeps_what_there_is(
    start_jack, make_bundle, tmp_path
):
    server = start_jack(16000)
    recording, statistics = tmp_path / "heard.wav", tmp_path / "stats.json"
    live = start_live(server, "--model", make_bundle(), "--stats", statistics, "--record", recording)
    assert "on system" in live.stdout.readline()  # it runs
    time.sleep(1)
    server.stop()
    _, errors = finish(live, timeout=120)
    assert live.returncode == 1
    assert "device 'system' has vanished" in errors
    assert "Traceback" not in errors
    stats = json.loads(statistics.read_text())
    assert stats["frames"] > 0
    assert "vanished" in stats["message"]
    assert soundfile.info(recording).frames > 0


def test_devices_are_listed_and_an_unknown_one_is_refused(start_jack, make_bundle):
    server = start_jack(48000)

    def hearloop(*arguments):
        command = [sys.executable, "-m", "hearloop.tools.main", *map(str, arguments)]
        return subprocess.run(command, env=server.environment, capture_output=True, text=True, timeout=120)

    for arguments in (["devices"], ["live", "--list-devices"]):
        listed = hearloop(*arguments)
        assert listed.returncode == 0
        assert "system (JACK Audio Connection Kit), 2 in, 2 out, 48000 Hz" in listed.stdout
        assert not listed.stderr
    refused = hearloop("live", "--model", make_bundle(), "--input", "oboe")
    assert refused.returncode == 1
    assert "'oboe' is unknown" in refused.stderr
    assert "system" in refused.stderr
    other_rate = hearloop("live", "--model", make_bundle(), "--samplerate", 44100)
    assert other_rate.returncode == 1
    assert "refuses" in other_rate.stderr
    assert "48000" in other_rate.stderr


def test_a_look_is_taken_at_the_rate_of_the_server(start_jack, tmp_path):
    """A server without microphones gives silence, and that is what is said of the look."""
    server = start_jack(48000)
    command = [sys.executable, "-m", "hearloop.tools.main", "enroll", "Ada", "--seconds", "2.5"]
    environment = {**server.environment, "HEARLOOP_PROFILES": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "look of 2.5 s at -120 dBFS" in done.stdout
    assert "turn up the input" in done.stderr
    assert list(tmp_path.iterdir()) == []
