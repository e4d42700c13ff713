"""The live loop on the software device: exact delay, devices and controls that change, and a quiet interpreter."""

import gc
import math
import sys
import threading

import numpy as np
import pytest
import soundfile
from live_parts import LOOKAHEAD, RAMP_S, Lockstep, Turned, run
from numba.core import event
from numba.core.dispatcher import Dispatcher
from signals import noise

from hearloop.runtime import live, worker_session
from hearloop.runtime.controls import Controls
from hearloop.runtime.errors import DeviceError, HearloopError
from hearloop.runtime.live import LiveLoop
from hearloop.runtime.software_device import SoftwareDevice
from hearloop.runtime.succession import Succession

pytestmark = pytest.mark.realtime


@pytest.mark.parametrize("rate", [16000, 44100, 48000])
@pytest.mark.parametrize("block", [1, 64, 127, 128, 160, 441, 480, 1024, "random"])
def test_the_delay_is_that_of_the_ledger_to_the_sample(rate, block, rng):
    sizes = rng.integers(1, 600, 500).tolist() if block == "random" else block
    audio = noise(int(0.25 * rate) if block == 1 else int(0.5 * rate))
    device, loop = run(audio, Turned(), Lockstep(), rate, sizes)
    assert loop.latency.total == round(loop.latency.total)
    delay, ramp = int(loop.latency.total), int(RAMP_S * rate)
    count = audio.shape[1] - ramp
    assert count > 0
    assert np.array_equal(device.output[:, delay + ramp :][:, :count], -audio[:, ramp:])
    stats = loop.stats()
    assert stats["misses"] == stats["concealed"] == stats["xruns"] == 0


@pytest.mark.parametrize(("rate", "block"), [(44100, [1024, 1200]), (16000, 4096), (44100, 8192), (48000, 8192)])
def test_blocks_of_many_chunks_are_no_backlog(rate, block):
    audio = noise(2 * rate)
    device, loop = run(audio, Turned(), Lockstep(), rate, block)
    stats, delay, ramp = loop.stats(), int(loop.latency.total), int(RAMP_S * rate)
    assert stats["dropped_chunks"] == stats["misses"] == 0
    assert np.array_equal(device.output[:, delay + ramp :][:, : audio.shape[1] - ramp], -audio[:, ramp:])


@pytest.mark.parametrize(("rate", "block"), [(16000, 128), (16000, 100), (44100, 441), (44100, 512), (48000, 480)])
def test_a_real_model_is_as_late_as_the_ledger_says(rate, block, make_bundle):
    audio = 0.03 * np.cumsum(noise(rate // 2), axis=1)  # wanders, and not as far as the limiter
    clock = Lockstep()
    device = SoftwareDevice(audio, rate, block, clock=clock)
    loop = clock.loop = LiveLoop(make_bundle(), device, "ort")
    with loop:
        loop.wait()
    delay, ramp = int(loop.latency.total), int(RAMP_S * rate)
    heard = device.output[:, delay + ramp :][:, : audio.shape[1] - ramp]
    assert np.max(np.abs(heard - audio[:, ramp:])) < 1e-5
    assert loop.stats()["frames"] >= 0.5 * 16000 / 128 - 1
    assert loop.stats()["concealed"] == 0


def test_one_microphone_is_heard_on_both_sides_and_two_stay_apart():
    audio, clock = noise(8000, 2), Lockstep()
    device, loop = run(audio, Turned(channels=2), clock)
    delay = int(loop.latency.total)
    assert np.array_equal(device.output[:, delay + 1000 :][:, :7000], -audio[:, 1000:])
    clock = Lockstep()
    device = SoftwareDevice(audio[:1], 16000, 128, output_channels=2, clock=clock)
    clock.loop = LiveLoop("none", device, wet_path=lambda chunk: Turned())
    with clock.loop:
        clock.loop.wait()
    for side in device.output:
        assert np.array_equal(side[delay + 1000 :][:7000], -audio[0, 1000:])


@pytest.mark.parametrize("outputs", [1, 4])
def test_microphones_that_do_not_fit_the_headphones_are_refused(outputs):
    """The right ear was once dropped, or played on two outputs, without a word."""
    device = SoftwareDevice(noise(1000, 2), 16000, output_channels=outputs, name="odd device")
    with pytest.raises(DeviceError, match=rf"'odd device' has 2 input channels and {outputs} output.*expected one inp"):
        LiveLoop("none", device, wet_path=lambda chunk: Turned(channels=2))


def test_bypass_is_the_dry_signal_in_the_same_place():
    audio = noise(8000)
    device, loop = run(audio, Turned(), Lockstep(), controls=Controls(bypass=True))
    delay = int(loop.latency.total)
    assert np.array_equal(device.output[:, delay + 1000 :][:, :7000], audio[:, 1000:])


def test_nothing_compiles_is_collected_or_piles_up_while_a_stream_runs(make_bundle):
    modules = [module for name, module in sys.modules.items() if name.startswith("hearloop.runtime")]
    dispatchers = [item for module in modules for item in vars(module).values() if isinstance(item, Dispatcher)]
    assert len(dispatchers) > 5
    allocated, seen = [], []

    def note(block):
        if block in (300, 1300):
            allocated.append(sys.getallocatedblocks())
        if block == 0:
            seen.append([len(item.signatures) for item in dispatchers])

    clock = Lockstep(note)
    device = SoftwareDevice(noise(128 * 1400), 16000, 128, clock=clock)
    clock.loop = LiveLoop(make_bundle(), device, "ort")
    with event.install_recorder("numba:compile") as compiled, clock.loop:
        clock.loop.wait()
    stats = clock.loop.stats()
    assert stats["blocks"] >= 1400
    assert stats["environment"]["garbage_collections"] == 0
    assert not compiled.buffer
    assert [len(item.signatures) for item in dispatchers] == seen[0]
    assert allocated[1] - allocated[0] < 50


def test_a_block_size_that_is_not_known_before_is_found_out():
    audio = noise(16000)
    device = SoftwareDevice(audio, 16000, 96)
    device.block_sizes = None
    with LiveLoop("none", device, wet_path=lambda chunk: Turned()) as loop:
        loop.wait()
    assert loop.stats()["block_sizes"] == [96, 96]
    delay = int(loop.latency.total)
    assert delay == 96 + LOOKAHEAD + (128 - 32) + 2 * 96
    concealed = loop.stats()["concealed"]
    assert_equal_unless_concealed(device.output[0, delay + 8000 :][:7000], -audio[0, 8000:15000], concealed, 96)


def test_a_host_that_changes_its_block_size_is_followed():
    audio = noise(40000)
    device = SoftwareDevice(audio, 16000, [128] * 60 + [200, 256] * 80)
    device.block_sizes = (128, 128)
    with LiveLoop("none", device, wet_path=lambda chunk: Turned()) as loop:
        before = loop.latency.total
        loop.wait(1.5)  # the sizes change after half a second
        concealed, start = loop.stats()["concealed"], device.position
        loop.wait()
    assert loop.latency.total > before
    delay, concealed = int(loop.latency.total), loop.stats()["concealed"] - concealed
    heard, expected = device.output[0, delay + start : delay + 38000], -audio[0, start:38000]
    assert_equal_unless_concealed(heard, expected, concealed, 256)


def test_a_host_that_returns_to_its_old_sizes_is_provided_for_in_all_of_them():
    device = SoftwareDevice(noise(32000), 16000, [128] * 60 + [96] + [128] * 60 + [96] + [128] * 200)
    device.block_sizes = (128, 128)
    with LiveLoop("none", device, wet_path=lambda chunk: Turned()) as loop:
        loop.wait()
    assert (loop._sessions.current.smallest, loop._sessions.current.largest) == (96, 128)


def assert_equal_unless_concealed(heard, expected, concealed, block):
    """On the real clock of a busy machine the output may open late, and blocks may be late, which are concealed.

    Whatever the machine does, these are counted: once the output is open, no more samples are wrong than those of the
    concealed blocks, and of the 5 ms after each in which the wet signal fades in.
    """
    right = heard == expected
    assert np.mean(right) > 0.5
    opened = right[np.argmax(right) + int(RAMP_S * 16000) :]
    assert np.count_nonzero(~opened) <= concealed * (block + 80)


@pytest.mark.parametrize("block", [128, 1024])
def test_the_output_opens_and_closes_without_a_click(block):
    tone = np.cos(2 * np.pi * 50 * np.arange(16000) / 16000) * 0.5  # at its loudest from the first sample on
    clock = Lockstep()  # a late block would be concealed, which is steeper than this tone
    # Not to be heard to its end, which is a click of its own; in lockstep a minute of it may be over within the wait.
    device = SoftwareDevice(tone, 16000, block, seconds=900, clock=clock)
    clock.loop = LiveLoop("none", device, wet_path=lambda chunk: Turned())
    with clock.loop as loop:
        loop.wait(0.5)
        assert not loop.finished
    heard = device.output[0]
    assert np.max(np.abs(heard)) > 0.45
    assert np.max(np.abs(np.diff(heard))) < 1.3 * np.max(np.abs(np.diff(tone)))
    assert np.max(np.abs(heard[-block:])) == 0


def test_a_recording_is_what_was_heard(tmp_path):
    path = tmp_path / "heard.flac"
    device, _ = run(noise(8000), Turned(), Lockstep(), record=path)
    written, rate = soundfile.read(path, dtype="float32")
    assert rate == 16000
    heard = device.output[0, 128 : 128 + len(written)]
    assert len(written) >= 8000
    assert np.max(np.abs(written[: len(heard)] - heard)) < 1e-4


@pytest.fixture
def endless_loop():
    """A loop that somebody must stop."""
    loop = LiveLoop("none", SoftwareDevice(noise(16000), 16000, seconds=math.inf), wet_path=lambda chunk: Turned())
    yield loop
    loop.stop()


def test_a_wait_ends_where_another_thread_stops_the_loop_and_that_is_no_fault(endless_loop, monkeypatch):
    monkeypatch.setattr(live, "SILENCE_S", 0.1)
    endless_loop.start()
    threading.Timer(0.2, endless_loop.stop).start()
    endless_loop.wait(60)
    endless_loop.check()
    assert endless_loop.seconds < 60
    assert endless_loop.stats()["message"] == ""


def test_threads_that_stop_a_loop_at_once_stop_it_once(endless_loop):
    failed, barrier = [], threading.Barrier(4)

    def stop():
        barrier.wait()
        try:
            endless_loop.stop()
        except Exception as error:
            failed.append(error)

    endless_loop.start()
    threads = [threading.Thread(target=stop) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert gc.isenabled()


def stop_in_the_next_fade(monkeypatch, loop: LiveLoop) -> None:
    """Let `stop` be called as by a signal's handler: by the thread itself that has just begun to close the output."""
    fade_out = worker_session.fade_out

    def interrupted(stage, gone):
        monkeypatch.setattr(worker_session, "fade_out", fade_out)
        loop.stop()
        fade_out(stage, gone)

    monkeypatch.setattr(worker_session, "fade_out", interrupted)


def assert_nothing_runs_any_more(loop: LiveLoop) -> None:
    assert loop.seconds < 60
    assert gc.isenabled()
    for thread in (loop._sessions.current.worker._thread, loop.device._thread):
        thread.join(20)
        assert not thread.is_alive()


def test_a_stop_in_the_midst_of_another_stop_of_the_same_thread_changes_nothing(endless_loop, monkeypatch):
    """It once did all the work a second time, counted events twice, and let the first stop fail at the end of it."""
    endless_loop.start()
    endless_loop._sessions.current._path.events["failed_frames"] = 3
    stop_in_the_next_fade(monkeypatch, endless_loop)
    endless_loop.stop()
    assert gc.isenabled()
    assert endless_loop.stats()["events"]["failed_frames"] == 3


def test_a_stop_while_a_new_block_size_is_taken_up_leaves_nothing_that_runs(monkeypatch):
    """The session of the new size once began after the end, and its worker never ended."""
    device = SoftwareDevice(noise(16000), 16000, [128] * 60 + [256] * 10**6, seconds=math.inf)
    device.block_sizes = (128, 128)
    loop = LiveLoop("none", device, wet_path=lambda chunk: Turned())
    loop.start()
    stop_in_the_next_fade(monkeypatch, loop)
    loop.wait(60)
    assert_nothing_runs_any_more(loop)


def test_a_stop_while_the_loop_starts_ends_it_as_soon_as_it_has_started(endless_loop, monkeypatch):
    begin = Succession.begin

    def interrupted(*arguments):
        endless_loop.stop()
        begin(*arguments)

    monkeypatch.setattr(Succession, "begin", interrupted)
    endless_loop.start()
    endless_loop.wait(60)
    assert_nothing_runs_any_more(endless_loop)


def test_a_loop_that_does_not_run_yet_cannot_be_waited_for(endless_loop):
    for wait in (endless_loop.wait, endless_loop.check):
        with pytest.raises(HearloopError, match="does not run; expected `start`"):
            wait()


def test_a_loop_runs_once(endless_loop):
    endless_loop.start()
    with pytest.raises(HearloopError, match=r"'software device' has been started before, .* expected a new LiveLoop"):
        endless_loop.start()
    assert not gc.isenabled()
    endless_loop.wait(0.1)
    endless_loop.stop()
    assert gc.isenabled()
    with pytest.raises(HearloopError, match="started before"), endless_loop:
        pass
    assert gc.isenabled()


def test_the_statistics_of_a_run_in_real_time_agree_with_each_other(make_bundle):
    device = SoftwareDevice(noise(16000), 16000, 128, seconds=3)
    with LiveLoop(make_bundle(), device, "ort") as loop:
        loop.wait()
    stats = loop.stats()
    assert stats["seconds"] >= 3
    assert stats["frames"] >= 370
    assert stats["compute_us"]["p50"] < 8000
    assert stats["compute_us"]["n"] == stats["frames"] - 1
    assert stats["latency_samples"] == 128 + 64 + 128
    assert stats["path"] == "worker"
