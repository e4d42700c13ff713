"""The live loop on the software device: exact delay, every kind of failure, and a quiet interpreter."""

import sys
import time
from threading import Event

import numpy as np
import pytest
import soundfile
from numba.core import event
from numba.core.dispatcher import Dispatcher

from hearloop.runtime import live
from hearloop.runtime.callback import BLOCKS_TO_RETURN
from hearloop.runtime.controls import Controls
from hearloop.runtime.errors import DeviceError
from hearloop.runtime.ledger import Ledger
from hearloop.runtime.live import LiveLoop
from hearloop.runtime.software_device import SoftwareDevice
from hearloop.runtime.worker import FAILURES_TO_GIVE_UP

pytestmark = pytest.mark.realtime

LOOKAHEAD = 64
RAMP_S = 0.06  # of the output stage, and a little more


class Turned:
    """A wet path that can be told from the dry one: the input times a gain, after 64 samples.

    `action(chunk index)` is called before each chunk and may do whatever a bad model does.
    """

    def __init__(self, channels: int = 1, gain: float = -1.0, action=lambda index: None):
        self.gain, self.action, self.index = gain, action, 0
        self.latency, self.latency_samples = Ledger(16000, {"lookahead": LOOKAHEAD}), LOOKAHEAD
        self.events = {"failed_frames": 0}
        self.channels = channels
        self.reset()

    def process(self, samples, out):
        held = np.concatenate([self.tail, samples], axis=1)
        self.tail = held[:, samples.shape[1] :]
        self.index += 1
        self.action(self.index - 1)
        out[:] = self.gain * held[:, : samples.shape[1]]

    def reset(self):
        self.tail = np.zeros((self.channels, LOOKAHEAD), np.float32)


class Lockstep:
    """A clock that goes on as soon as the worker has done what there is to do, so that nothing depends on timing.

    `action(block index)` is called before each block; it may release the worker, or end the stream by an exception.
    While `holding`, the clock does not wait for the worker.
    """

    def __init__(self, action=lambda index: None):
        self.action, self.index, self.holding, self.loop = action, 0, False, None

    def wait(self, seconds):
        self.action(self.index)
        self.index += 1
        deadline = time.monotonic() + 20
        while not (self.holding or self.loop.settled):
            if time.monotonic() > deadline:
                raise TimeoutError("the worker does not come back")
            time.sleep(3e-4)
        return 0.0

    def postpone(self, seconds): ...


def run(audio, path, clock, rate=16000, block=128, controls=None, **settings):
    """Run the whole of `audio` in lockstep; returns the device and the loop."""
    device = SoftwareDevice(audio, rate, block, clock=clock)
    paths = [path, Turned(path.channels)]  # the rehearsal takes the last one
    loop = clock.loop = LiveLoop("none", device, controls=controls, wet_path=lambda chunk: paths.pop(), **settings)
    with loop:
        loop.wait()
    return device, loop


def noise(samples: int, rng, channels: int = 1) -> np.ndarray:
    return (0.1 * rng.standard_normal((channels, samples))).astype(np.float32)


@pytest.mark.parametrize("rate", [16000, 44100, 48000])
@pytest.mark.parametrize("block", [1, 64, 127, 128, 160, 441, 480, 1024, "random"])
def test_the_delay_is_that_of_the_ledger_to_the_sample(rate, block, rng):
    sizes = rng.integers(1, 600, 500).tolist() if block == "random" else block
    audio = noise(int(0.25 * rate) if block == 1 else int(0.5 * rate), rng)
    device, loop = run(audio, Turned(), Lockstep(), rate, sizes)
    assert loop.latency.total == round(loop.latency.total)
    delay, ramp = int(loop.latency.total), int(RAMP_S * rate)
    count = audio.shape[1] - ramp
    assert count > 0
    assert np.array_equal(device.output[:, delay + ramp :][:, :count], -audio[:, ramp:])
    stats = loop.stats()
    assert stats["misses"] == stats["concealed"] == stats["xruns"] == 0


@pytest.mark.parametrize(("rate", "block"), [(16000, 128), (16000, 100), (44100, 441), (44100, 512), (48000, 480)])
def test_a_real_model_is_as_late_as_the_ledger_says(rate, block, make_bundle, rng):
    audio = np.cumsum(noise(rate // 2, rng), axis=1) * 0.05
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


def test_one_microphone_is_heard_on_both_sides_and_two_stay_apart(rng):
    audio, clock = noise(8000, rng, channels=2), Lockstep()
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


def test_bypass_is_the_dry_signal_in_the_same_place(rng):
    audio = noise(8000, rng)
    device, loop = run(audio, Turned(), Lockstep(), controls=Controls(bypass=True))
    delay = int(loop.latency.total)
    assert np.array_equal(device.output[:, delay + 1000 :][:, :7000], audio[:, 1000:])


def stalled(blocks: int, audio: np.ndarray, gain: float = -1.0):
    """The worker hangs in chunk 100, and is released when so many blocks have passed without it."""
    release = Event()

    def hang(chunk):
        if chunk == 100:
            clock.holding = True
            release.wait(20)

    def pass_block(block):
        if block == 100 + 1:
            while not clock.holding:
                time.sleep(1e-4)
        if block == 100 + 1 + blocks:
            clock.holding = False
            release.set()

    clock = Lockstep(pass_block)
    return run(audio, Turned(gain=gain, action=hang), clock)


def test_a_short_stall_is_concealed_counted_and_over(rng):
    audio = noise(128 * 200, rng)
    device, loop = stalled(2, audio)
    stats = loop.stats()
    assert stats["misses"] == stats["concealed"] == stats["longest_miss_run"] == 2
    assert stats["bypasses"] == 0
    assert sum(stats["late_chunks"].values()) == 2
    assert stats["dropped_chunks"] == 0
    delay = int(loop.latency.total)
    after = 128 * 105
    assert np.array_equal(device.output[:, delay + after :][:, : audio.shape[1] - after], -audio[:, after:])


def test_misses_in_a_row_switch_to_bypass_until_the_worker_has_kept_up(rng):
    audio = noise(128 * 250, rng)
    device, loop = stalled(9, audio)
    stats = loop.stats()
    assert stats["misses"] == stats["longest_miss_run"] == 9
    assert stats["bypasses"] == 1
    assert stats["concealed"] == 9 + BLOCKS_TO_RETURN - 1
    assert not loop.telemetry.tally.bypassed
    delay = int(loop.latency.total)
    dry, wet = slice(128 * 135, 128 * 155), slice(128 * 165, 128 * 240)
    shifted = device.output[:, delay:]
    assert np.allclose(shifted[:, dry], audio[:, dry], atol=1e-4)  # the level of the concealment has been let go
    assert np.array_equal(shifted[:, wet], -audio[:, wet])


def test_after_a_long_stall_the_worker_jumps_to_the_newest_input_and_nothing_is_shifted(rng):
    audio = noise(128 * 300, rng)
    device, loop = stalled(60, audio)
    stats = loop.stats()
    assert stats["misses"] == 60 + 1  # and one whose lookahead lies in what was dropped
    assert stats["dropped_chunks"] > 40
    delay, after = int(loop.latency.total), 128 * 225
    assert np.array_equal(device.output[:, delay + after :][:, : audio.shape[1] - after], -audio[:, after:])


@pytest.mark.parametrize("blocks", [1, 3, 9, 60])
@pytest.mark.parametrize("gain", [1.0, 0.2])
def test_a_stall_does_not_click(blocks, gain):
    tone = 0.3 * np.sin(2 * np.pi * 100 * np.arange(128 * 250) / 16000)
    device, loop = stalled(blocks, tone, gain)
    assert loop.telemetry.tally.misses >= blocks
    steepest = np.max(np.abs(np.diff(tone)))
    assert np.max(np.abs(np.diff(device.output[0]))) < 1.5 * steepest


def test_a_model_that_raises_is_left_out_for_those_frames(rng):
    def fail(chunk):
        if 50 <= chunk < 53:
            raise RuntimeError("no such operator")

    audio = noise(128 * 150, rng)
    device, loop = run(audio, Turned(action=fail), Lockstep())
    stats = loop.stats()
    assert stats["failures"] == 3
    assert "no such operator" in stats["message"]
    assert stats["misses"] == 4  # and the one whose lookahead lies in the last failure
    delay, after = int(loop.latency.total), 128 * 115
    assert np.isfinite(device.output).all()
    assert np.array_equal(device.output[:, delay + after :][:, : audio.shape[1] - after], -audio[:, after:])


def test_a_model_that_fails_again_and_again_is_given_up_and_the_dry_signal_stays(rng):
    def fail(chunk):
        if chunk >= 20:
            raise RuntimeError("out of order")

    audio = noise(128 * 300, rng)
    device, loop = run(audio, Turned(action=fail), Lockstep())
    stats = loop.stats()
    assert stats["failures"] == FAILURES_TO_GIVE_UP
    assert "given up" in stats["message"]
    assert "out of order" in stats["message"]
    delay, after = int(loop.latency.total), 128 * 200
    heard = device.output[:, delay + after :][:, : audio.shape[1] - after]
    assert np.allclose(heard, audio[:, after:], atol=1e-4)


def test_a_model_that_returns_nan_is_never_heard(make_bundle, rng):
    audio, clock = noise(128 * 200, rng), Lockstep()
    device = SoftwareDevice(audio, 16000, 128, clock=clock)
    clock.loop = LiveLoop(make_bundle(fails_from=20, fails_to=25), device, "ort")
    with clock.loop:
        clock.loop.wait()
    stats = clock.loop.stats()
    assert stats["events"]["failed_frames"] > 0
    assert np.isfinite(device.output).all()
    delay = int(clock.loop.latency.total)
    assert np.max(np.abs(device.output[:, delay + 1000 :][:, :20000] - audio[:, 1000:21000])) < 1e-5


def test_a_wet_path_that_returns_nan_is_never_heard(rng):
    path = Turned()
    path.action = lambda chunk: setattr(path, "gain", np.nan if 50 <= chunk < 60 else -1.0)
    device, _ = run(noise(128 * 100, rng), path, Lockstep())
    assert np.isfinite(device.output).all()
    assert np.max(np.abs(device.output)) < 1


def test_an_error_in_the_callback_itself_lets_the_limited_input_through(rng):
    audio = noise(128 * 60, rng)
    audio[:, 128 * 40 + 5 : 128 * 40 + 9] = [np.nan, np.inf, 50, -50]

    def break_stage(block):
        if block == 40:
            clock.loop._session.callback.stage = None

    clock = Lockstep(break_stage)
    device, loop = run(audio, Turned(), clock)
    heard = device.output[0, 128 * 41 : 128 * 42]
    assert np.array_equal(heard[9:], audio[0, 128 * 40 + 9 : 128 * 41])
    assert np.max(np.abs(heard)) < 1
    assert "AttributeError" in loop.stats()["message"]
    assert loop.stats()["callback_errors"] > 0


def test_nothing_compiles_is_collected_or_piles_up_while_a_stream_runs(make_bundle, rng):
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
    device = SoftwareDevice(noise(128 * 1400, rng), 16000, 128, clock=clock)
    clock.loop = LiveLoop(make_bundle(), device, "ort")
    with event.install_recorder("numba:compile") as compiled, clock.loop:
        clock.loop.wait()
    stats = clock.loop.stats()
    assert stats["blocks"] >= 1400
    assert stats["environment"]["garbage_collections"] == 0
    assert not compiled.buffer
    assert [len(item.signatures) for item in dispatchers] == seen[0]
    assert allocated[1] - allocated[0] < 50


class Unplugged(Lockstep):
    """The device ends by itself after 60 blocks."""

    def wait(self, seconds):
        if self.index == 60:
            raise OSError("unplugged")
        return super().wait(seconds)


def test_a_device_that_vanishes_ends_the_loop_and_keeps_what_there_is(rng, tmp_path):
    clock, path = Unplugged(), tmp_path / "heard.wav"
    device = SoftwareDevice(noise(128 * 1000, rng), 16000, 128, clock=clock)
    clock.loop = LiveLoop("none", device, wet_path=lambda chunk: Turned(), record=path)
    with pytest.raises(DeviceError, match=r"software device.*vanished after .* s: unplugged"), clock.loop:
        clock.loop.wait()
    stats = clock.loop.stats()
    assert stats["frames"] == stats["blocks"] == 60
    assert "unplugged" in stats["message"]
    assert soundfile.info(path).frames == 60 * 128


def test_a_device_that_falls_silent_has_vanished_too(rng, monkeypatch):
    monkeypatch.setattr(live, "SILENCE_S", 0.3)
    never = Event()
    clock = Lockstep(lambda block: block == 50 and never.wait(1.5))
    device = SoftwareDevice(noise(128 * 1000, rng), 16000, 128, clock=clock)
    clock.loop = LiveLoop("none", device, wet_path=lambda chunk: Turned())
    with pytest.raises(DeviceError, match="does not call back"), clock.loop:
        clock.loop.wait()
    assert 50 <= clock.loop.stats()["blocks"] <= 51


def test_a_device_that_never_calls_back_is_refused(rng, monkeypatch):
    monkeypatch.setattr(live, "PATIENCE_S", 0.3)
    device = SoftwareDevice(noise(1000, rng), 16000, 128)
    device.block_sizes = None
    monkeypatch.setattr(device, "start", lambda callback: None)
    with pytest.raises(DeviceError, match="0 callbacks"), LiveLoop("none", device, wet_path=lambda chunk: Turned()):
        pass


def test_a_block_size_that_is_not_known_before_is_found_out(rng):
    audio = noise(16000, rng)
    device = SoftwareDevice(audio, 16000, 96)
    device.block_sizes = None
    with LiveLoop("none", device, wet_path=lambda chunk: Turned()) as loop:
        loop.wait()
    assert loop.stats()["block_sizes"] == [96, 96]
    delay = int(loop.latency.total)
    assert delay == 96 + LOOKAHEAD + (128 - 32) + 2 * 96
    assert_mostly_equal(device.output[0, delay + 8000 :][:7000], -audio[0, 8000:15000])


def test_a_host_that_changes_its_block_size_is_followed(rng):
    audio = noise(32000, rng)
    device = SoftwareDevice(audio, 16000, [128] * 60 + [200, 256] * 80)
    device.block_sizes = (128, 128)
    with LiveLoop("none", device, wet_path=lambda chunk: Turned()) as loop:
        before = loop.latency.total
        loop.wait()
    assert loop.latency.total > before
    delay = int(loop.latency.total)
    assert_mostly_equal(device.output[0, delay + 20000 :][:10000], -audio[0, 20000:30000])


def assert_mostly_equal(heard, expected):
    """On the real clock of a busy machine a block may be late; it is concealed, and the others are in their place."""
    assert np.mean(heard == expected) > 0.5


def test_the_output_opens_and_closes_without_a_click():
    tone = np.sin(2 * np.pi * 50 * np.arange(16000) / 16000) * 0.5
    clock = Lockstep()  # a late block would be concealed, which is steeper than this tone
    device = SoftwareDevice(tone, 16000, 128, seconds=60, clock=clock)
    clock.loop = LiveLoop("none", device, wet_path=lambda chunk: Turned())
    with clock.loop as loop:
        loop.wait(0.5)
    heard = device.output[0]
    assert np.max(np.abs(heard)) > 0.45
    assert np.max(np.abs(np.diff(heard))) < 1.3 * np.max(np.abs(np.diff(tone)))
    assert np.max(np.abs(heard[-128:])) == 0


def test_a_recording_is_what_was_heard(rng, tmp_path):
    path = tmp_path / "heard.flac"
    device, _ = run(noise(8000, rng), Turned(), Lockstep(), record=path)
    written, rate = soundfile.read(path, dtype="float32")
    assert rate == 16000
    heard = device.output[0, 128 : 128 + len(written)]
    assert len(written) >= 8000
    assert np.max(np.abs(written[: len(heard)] - heard)) < 1e-4


def test_the_statistics_of_a_run_in_real_time_agree_with_each_other(make_bundle, rng):
    device = SoftwareDevice(noise(16000, rng), 16000, 128, seconds=3)
    with LiveLoop(make_bundle(), device, "ort") as loop:
        loop.wait()
    stats = loop.stats()
    assert stats["seconds"] >= 3
    assert stats["frames"] >= 370
    assert stats["compute_us"]["p50"] < 8000
    assert stats["compute_us"]["n"] == stats["frames"] - 1
    assert stats["latency_samples"] == 128 + 64 + 128
    assert stats["path"] == "worker"
