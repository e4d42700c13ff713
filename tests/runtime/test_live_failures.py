"""The live loop when the model, the worker, the callback or the device fails: never silence, never a click."""

import time
from threading import Event

import numpy as np
import onnx
import pytest
import soundfile
from graphs import graph_model
from live_parts import Lockstep, Turned, run
from onnx import helper
from signals import noise

from hearloop.runtime import live
from hearloop.runtime.callback import BLOCKS_TO_RETURN
from hearloop.runtime.errors import BundleError, DeviceError
from hearloop.runtime.live import LiveLoop
from hearloop.runtime.processor import Processor
from hearloop.runtime.software_device import SoftwareDevice
from hearloop.runtime.worker import FAILURES_TO_GIVE_UP

pytestmark = pytest.mark.realtime


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


def test_a_short_stall_is_concealed_counted_and_over():
    audio = noise(128 * 200)
    device, loop = stalled(2, audio)
    stats = loop.stats()
    assert stats["misses"] == stats["concealed"] == stats["longest_miss_run"] == 2
    assert stats["bypasses"] == 0
    assert sum(stats["late_chunks"].values()) == 2
    assert stats["dropped_chunks"] == 0
    delay = int(loop.latency.total)
    after = 128 * 105
    assert np.array_equal(device.output[:, delay + after :][:, : audio.shape[1] - after], -audio[:, after:])


def test_misses_in_a_row_switch_to_bypass_until_the_worker_has_kept_up():
    audio = noise(128 * 250)
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


def test_after_a_long_stall_the_worker_jumps_to_the_newest_input_and_nothing_is_shifted():
    audio = noise(128 * 300)
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


def test_a_model_that_raises_is_left_out_for_those_frames():
    def fail(chunk):
        if 50 <= chunk < 53:
            raise RuntimeError("no such operator")

    audio = noise(128 * 150)
    device, loop = run(audio, Turned(action=fail), Lockstep())
    stats = loop.stats()
    assert stats["failures"] == 3
    assert "no such operator" in stats["message"]
    assert stats["misses"] == 4  # and the one whose lookahead lies in the last failure
    delay, after = int(loop.latency.total), 128 * 115
    assert np.isfinite(device.output).all()
    assert np.array_equal(device.output[:, delay + after :][:, : audio.shape[1] - after], -audio[:, after:])


def test_a_model_that_fails_again_and_again_is_given_up_and_the_dry_signal_stays():
    def fail(chunk):
        if chunk >= 20:
            raise RuntimeError("out of order")

    audio = noise(128 * 300)
    device, loop = run(audio, Turned(action=fail), Lockstep())
    stats = loop.stats()
    assert stats["failures"] == FAILURES_TO_GIVE_UP
    assert "given up" in stats["message"]
    assert "out of order" in stats["message"]
    delay, after = int(loop.latency.total), 128 * 200
    heard = device.output[:, delay + after :][:, : audio.shape[1] - after]
    assert np.allclose(heard, audio[:, after:], atol=1e-4)


@pytest.mark.parametrize("block", [128, 441, 512])
def test_so_it_is_where_a_chunk_may_complete_no_frame(block, make_bundle):
    audio, clock = noise(3 * 44100), Lockstep()
    device = SoftwareDevice(audio, 44100, block, clock=clock)
    clock.loop = LiveLoop(make_bundle(fails_from=0), device, "ort")
    with clock.loop as loop:
        loop.wait()
    stats = loop.stats()
    assert stats["failures"] == FAILURES_TO_GIVE_UP
    assert "given up" in stats["message"]


def test_a_model_that_returns_nan_is_never_heard(make_bundle):
    audio, clock = noise(128 * 200), Lockstep()
    device = SoftwareDevice(audio, 16000, 128, clock=clock)
    clock.loop = LiveLoop(make_bundle(fails_from=20, fails_to=25), device, "ort")
    with clock.loop:
        clock.loop.wait()
    stats = clock.loop.stats()
    assert stats["events"]["failed_frames"] > 0
    assert np.isfinite(device.output).all()
    delay = int(clock.loop.latency.total)
    assert np.max(np.abs(device.output[:, delay + 1000 :][:, :20000] - audio[:, 1000:21000])) < 1e-5


def test_a_wet_path_that_returns_nan_is_never_heard():
    path = Turned()
    path.action = lambda chunk: setattr(path, "gain", np.nan if 50 <= chunk < 60 else -1.0)
    device, _ = run(noise(128 * 100), path, Lockstep())
    assert np.isfinite(device.output).all()
    assert np.max(np.abs(device.output)) < 1


@pytest.mark.parametrize("ceiling_dbfs", [-1.0, -30.0])
def test_an_error_in_the_callback_itself_lets_the_limited_input_through(ceiling_dbfs):
    audio = noise(128 * 60)
    audio[:, 128 * 40 + 5 : 128 * 40 + 9] = [np.nan, np.inf, 50, -50]

    def break_stage(block):
        if block == 40:
            clock.loop._sessions.current.callback.stage = None

    clock = Lockstep(break_stage)
    device, loop = run(audio, Turned(), clock, ceiling_dbfs=ceiling_dbfs)
    heard, ceiling = device.output[0, 128 * 41 : 128 * 42], np.float32(10 ** (ceiling_dbfs / 20))
    assert np.array_equal(heard[9:], np.clip(audio[0, 128 * 40 + 9 : 128 * 41], -ceiling, ceiling))
    assert np.max(np.abs(device.output)) <= ceiling
    assert "AttributeError" in loop.stats()["message"]
    assert loop.stats()["callback_errors"] > 0


class Unplugged(Lockstep):
    """The device ends by itself after 60 blocks."""

    def wait(self, seconds):
        if self.index == 60:
            raise OSError("unplugged")
        return super().wait(seconds)


@pytest.mark.parametrize("block", [128, 4096])
def test_a_device_that_vanishes_ends_the_loop_and_keeps_what_there_is(tmp_path, block):
    clock, path = Unplugged(), tmp_path / "heard.wav"
    device = SoftwareDevice(noise(128 * 1000), 16000, block, clock=clock)
    clock.loop = LiveLoop("none", device, wet_path=lambda chunk: Turned(), record=path)
    with pytest.raises(DeviceError, match=r"software device.*vanished after .* s: unplugged"), clock.loop:
        clock.loop.wait()
    stats = clock.loop.stats()
    assert stats["blocks"] == 60
    assert stats["frames"] == 60 * block / 128
    assert "unplugged" in stats["message"]
    assert soundfile.info(path).frames == 60 * block


def test_a_recording_that_cannot_go_on_is_told_and_the_sound_does(tmp_path, monkeypatch):
    def write(file, samples):
        raise OSError("No space left on device")

    monkeypatch.setattr(soundfile.SoundFile, "write", write)
    audio = noise(8000)
    device, loop = run(audio, Turned(), Lockstep(), record=tmp_path / "heard.wav")
    stats, delay = loop.stats(), int(loop.latency.total)
    assert "No space left" in stats["recording"]["error"]
    assert "heard.wav: the recording ends after" in stats["message"]
    assert np.array_equal(device.output[:, delay + 1000 :][:, :7000], -audio[:, 1000:])


def test_a_model_that_is_no_bundle_is_refused(tmp_path):
    path = tmp_path / "plain.onnx"
    onnx.save(graph_model([helper.make_node("Neg", ["x"], ["y"])], {"x": (1, 4)}, {"y": (1, 4)}), path)
    with pytest.raises(BundleError, match="is no bundle: nothing says how audio becomes its input"):
        LiveLoop(path, SoftwareDevice(noise(1000), 16000, 128), "ort")
    with pytest.raises(BundleError, match="is no bundle: nothing says how audio becomes its input"):
        Processor(path, engine="ort")


def test_a_device_that_falls_silent_has_vanished_too(monkeypatch):
    monkeypatch.setattr(live, "SILENCE_S", 0.3)
    never = Event()
    clock = Lockstep(lambda block: block == 50 and never.wait(1.5))
    device = SoftwareDevice(noise(128 * 1000), 16000, 128, clock=clock)
    clock.loop = LiveLoop("none", device, wet_path=lambda chunk: Turned())
    with pytest.raises(DeviceError, match="does not call back"), clock.loop:
        clock.loop.wait()
    assert 50 <= clock.loop.stats()["blocks"] <= 51


def test_a_device_that_never_calls_back_is_refused(monkeypatch):
    monkeypatch.setattr(live, "PATIENCE_S", 0.3)
    device = SoftwareDevice(noise(1000), 16000, 128)
    device.block_sizes = None
    monkeypatch.setattr(device, "start", lambda callback: None)
    with pytest.raises(DeviceError, match="0 callbacks"), LiveLoop("none", device, wet_path=lambda chunk: Turned()):
        pass
