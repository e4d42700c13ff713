"""The live loop with the model inside the callback: on time, steered while it runs, on devices that change."""

import time

import numpy as np
import pytest
import soundfile
from live_parts import RAMP_S
from native_engine import GAIN, NativeGain
from signals import noise

from hearloop.runtime import live, session
from hearloop.runtime.controls import MUTED_DB, Controls
from hearloop.runtime.engine import open_engine
from hearloop.runtime.errors import DeviceError, EngineError, HearloopError
from hearloop.runtime.live import LiveLoop
from hearloop.runtime.software_device import SoftwareDevice

pytestmark = pytest.mark.realtime


class Steady:
    """A clock that is never waited for; `action(block index)` is called before each block."""

    def __init__(self, action=lambda index: None):
        self.action, self.index = action, 0

    def wait(self, seconds):
        self.action(self.index)
        self.index += 1
        time.sleep(1e-4)
        return 0.0

    def postpone(self, seconds): ...


@pytest.fixture
def native_loop(monkeypatch, make_bundle):
    """A live loop on a software device with a native engine."""

    def make(device, engine=None, **options):
        engine = engine or NativeGain(make_bundle())
        monkeypatch.setattr(live, "load_step", lambda model: model)
        monkeypatch.setattr(live, "open_engine", lambda model, name: engine)
        return LiveLoop("none", device, **options)

    return make


@pytest.mark.parametrize("rate", [16000, 44100, 48000])
@pytest.mark.parametrize("block", [64, 128, 441, 1024, "random"])
def test_the_live_loop_is_as_late_as_its_ledger_and_needs_no_hand_over(rate, block, native_loop, rng):
    sizes = rng.integers(1, 600, 500).tolist() if block == "random" else block
    audio = noise(rate // 2)
    device = SoftwareDevice(audio, rate, sizes, clock=Steady())
    with native_loop(device) as loop:
        loop.wait()
    stats = loop.stats()
    assert loop.latency.total == pytest.approx(round(loop.latency.total), abs=1e-9)
    delay, ramp = round(loop.latency.total), int(RAMP_S * rate)
    heard = device.output[:, delay + ramp :][:, : audio.shape[1] - ramp]
    assert np.max(np.abs(heard - audio[:, ramp:])) < 1e-5
    assert "worker" not in stats["ledger"]
    assert stats["path"] == "native"
    assert stats["concealed"] == 0
    assert stats["frames"] >= 0.5 * 125 - 1
    assert stats["compute_us"]["n"] == stats["frames"] - 1
    assert stats["slack_us"]["n"] == stats["callback_us"]["n"] == stats["blocks"] - 1
    if (rate, block) == (16000, 128):
        assert stats["latency_samples"] == 128 + 64


def test_both_paths_tell_the_same_kind_of_statistics_and_the_worker_can_be_asked_for(native_loop):
    told = {}
    for path in ("native", "worker"):
        with native_loop(SoftwareDevice(noise(16000), 16000, 128, seconds=0.5), path=path) as loop:
            loop.wait()
        told[path] = loop.stats()
        assert told[path]["path"] == path
        assert told[path]["callback_us"]["p50"] > 0
    assert set(told["native"]) == set(told["worker"])
    assert told["worker"]["latency_samples"] == told["native"]["latency_samples"] + 128


def test_a_path_that_is_unknown_or_impossible_is_refused(make_bundle):
    device = SoftwareDevice(noise(1000), 16000, 128)
    with pytest.raises(EngineError, match=r"'callback'.*auto, native, worker"):
        LiveLoop(make_bundle(), device, path="callback")
    with pytest.raises(EngineError, match=r"'ort' cannot take the native path"):
        LiveLoop(make_bundle(), device, "ort", path="native")
    assert LiveLoop(make_bundle(), device, "ort").path == "worker"


def test_controls_are_followed_while_it_runs_without_a_click(native_loop, make_bundle):
    tone = 0.4 * np.sin(2 * np.pi * 200 * np.arange(32000) / 16000)
    controls = Controls()

    def change(block):
        controls.bypass = 60 <= block < 120
        controls.output_gain_db = -12.0 if block >= 180 else 0.0

    device = SoftwareDevice(tone, 16000, 128, clock=Steady(change))
    with native_loop(device, NativeGain(make_bundle(), gain=0.1), controls=controls) as loop:
        loop.wait()
    heard, delay = device.output[0, : len(tone)], round(loop.latency.total)
    steepest = 0.4 * 2 * np.pi * 200 / 16000
    assert np.max(np.abs(np.diff(heard))) < 1.1 * steepest

    def level(block):
        return np.max(np.abs(heard[delay + 128 * block :][:640])) / 0.4

    assert level(40) == pytest.approx(0.1, rel=0.02)
    assert level(100) == pytest.approx(1.0, rel=0.02)
    assert level(160) == pytest.approx(0.1, rel=0.02)
    assert level(220) == pytest.approx(0.1 * 10 ** (-12 / 20), rel=0.02)


@pytest.mark.parametrize("path", ["native", "worker"])
@pytest.mark.parametrize("channels", [1, 2])
def test_gains_of_sources_change_while_it_runs_without_a_click(path, channels, native_loop, make_bundle):
    """Muted from block 60 on, and again at half its level, of two thirds of a tone; in both paths alike."""
    tone = 0.4 * np.sin(2 * np.pi * 200 * np.arange(32000) / 16000)
    controls = Controls(source_gains_db=(0, 0))

    def change(block):
        controls.source_gains_db = (0 if block < 60 else MUTED_DB if block < 120 else -6, 0)
        deadline = time.monotonic() + 20
        while not loop.settled and time.monotonic() < deadline:
            time.sleep(3e-4)

    device = SoftwareDevice(np.tile(tone, (channels, 1)), 16000, 128, clock=Steady(change))
    bundle = make_bundle(masks=np.repeat([[2 / 3], [1 / 3]], 257, axis=1))
    loop = native_loop(device, open_engine(bundle, "compiled"), controls=controls, path=path)
    with loop:
        loop.wait()
    assert loop.path == path
    assert loop.stats()["concealed"] == 0
    delay = round(loop.latency.total)
    assert np.max(np.abs(np.diff(device.output))) < 1.05 * 0.4 * 2 * np.pi * 200 / 16000
    for block, gain in ((50, 1), (110, 1 / 3), (200, 2 / 3 * 10 ** (-6 / 20) + 1 / 3)):
        for heard in device.output:
            assert np.max(np.abs(heard[delay + 128 * block :][:640])) == pytest.approx(0.4 * gain, rel=0.02)


def test_gains_that_do_not_fit_the_model_are_told_before_the_device_starts(make_bundle):
    for bundle, told in ((make_bundle(), "does not separate"), (make_bundle(masks=np.ones((3, 257))), "expected 3")):
        with pytest.raises(HearloopError, match=told):
            LiveLoop(bundle, SoftwareDevice(noise(1000), 16000), "ort", Controls(source_gains_db=(0, 0)))


def test_a_host_that_changes_its_block_size_is_followed(native_loop, make_bundle):
    audio = noise(48000)
    device = SoftwareDevice(audio, 16000, [128] * 60 + [200, 256] * 120)
    device.block_sizes = (128, 128)
    with native_loop(device, NativeGain(make_bundle(), gain=-1.0)) as loop:
        before = loop.latency.total
        loop.wait()
    stats = loop.stats()
    assert loop.latency.total > before
    assert stats["late_chunks"]["host"] > 0
    assert stats["block_sizes"] == [128, 256]
    delay = round(loop.latency.total)
    assert np.max(np.abs(device.output[0, delay + 32000 :][:10000] + audio[0, 32000:42000])) < 1e-5


@pytest.mark.parametrize("path", ["native", "worker"])
def test_a_host_that_changes_to_another_size_costs_what_that_size_costs_and_a_recording_keeps_its_time(
    path, native_loop, make_bundle, tmp_path
):
    """The silence of the change is recorded as such, and the old size is provided for no more."""
    device = SoftwareDevice(noise(48000), 16000, [128] * 100 + [256] * 200)
    device.block_sizes = (128, 128)
    with native_loop(device, NativeGain(make_bundle()), path=path, record=tmp_path / "heard.wav") as loop:
        loop.wait()
    stats = loop.stats()
    assert stats["ledger"] == {
        "device input": 256,
        "lookahead": 64,
        "re-blocking": 0 if path == "native" else 128,
        **({} if path == "native" else {"worker": 128}),
        "device output": 0,
    }
    assert stats["block_sizes"] == [128, 256]
    written, _ = soundfile.read(tmp_path / "heard.wav", dtype="float32")
    heard = device.output[0, 256 : 256 + len(written)]
    assert len(written) >= 48000
    np.testing.assert_allclose(written[: len(heard)], heard, atol=1e-4)


def test_a_device_that_dies_before_anybody_looks_has_vanished(native_loop):
    def unplug(block):
        if block == 5:
            raise OSError("unplugged")

    with native_loop(SoftwareDevice(noise(16000), 16000, clock=Steady(unplug))) as loop:
        while loop.device.fault is None:
            time.sleep(0.01)
        time.sleep(0.1)  # until its thread is gone
        with pytest.raises(DeviceError, match="unplugged"):
            loop.wait(1)
    assert "unplugged" in loop.stats()["message"]


def test_a_block_size_that_is_not_known_before_is_found_out(native_loop, make_bundle):
    audio = noise(16000)
    device = SoftwareDevice(audio, 16000, 96)
    device.block_sizes = None
    with native_loop(device, NativeGain(make_bundle(), gain=-1.0)) as loop:
        loop.wait()
    assert loop.stats()["block_sizes"] == [96, 96]
    delay = round(loop.latency.total)
    assert delay == 96 + 64 + (128 - 32)
    assert np.max(np.abs(device.output[0, delay + 8000 :][:7000] + audio[0, 8000:15000])) < 1e-5


@pytest.mark.parametrize("block", [128, 100, 1024])
def test_the_output_opens_and_closes_without_a_click(block, native_loop):
    tone = np.cos(2 * np.pi * 50 * np.arange(16000) / 16000) * 0.5  # at its loudest from the first sample on
    device = SoftwareDevice(tone, 16000, block, seconds=60)
    with native_loop(device) as loop:
        loop.wait(0.5)
    heard = device.output[0]
    assert np.max(np.abs(heard)) > 0.45
    assert np.max(np.abs(np.diff(heard))) < 1.3 * np.max(np.abs(np.diff(tone)))
    assert np.max(np.abs(heard[-block:])) == 0


@pytest.mark.parametrize(("path", "block"), [("native", 100), ("worker", 1024)])
def test_another_block_size_is_taken_up_without_a_click(path, block, native_loop, make_bundle, monkeypatch):
    """The new delay line begins with silence, over which the ramp must not open."""
    monkeypatch.setattr(session, "FADE_PATIENCE_S", 20.0)
    tone = np.cos(2 * np.pi * 50 * np.arange(16000) / 16000) * 0.5
    unhurried = Steady(lambda block: time.sleep(0.005))  # the change must be noticed before the end
    count = 128 * 60 + block * 400
    device = SoftwareDevice(tone, 16000, [128] * 60 + [block] * 9999, seconds=count / 16000, clock=unhurried)
    device.block_sizes = (128, 128)
    with native_loop(device, NativeGain(make_bundle()), path=path) as loop:
        loop.wait()
    assert loop._sessions.current.smallest == block
    heard = device.output[0, :count]  # the tone's own end is as steep as may be
    assert np.max(np.abs(heard[-16000:])) > 0.45
    assert np.max(np.abs(np.diff(heard))) < 1.3 * np.max(np.abs(np.diff(tone)))


def test_a_recording_is_what_was_heard(native_loop, tmp_path):
    unhurried = Steady(lambda block: time.sleep(0.002))  # the file is written in real time
    path, device = tmp_path / "heard.wav", SoftwareDevice(noise(8000, 2), 16000, 128, clock=unhurried)
    with native_loop(device, record=path) as loop:
        loop.wait()
    written, _ = soundfile.read(path, dtype="float32")
    heard = device.output[:, 128 : 128 + len(written)].T
    assert len(written) >= 8000
    np.testing.assert_allclose(written[: len(heard)], heard, atol=1e-4)


def test_a_gain_that_changes_in_the_model_is_heard_at_once(native_loop, make_bundle):
    """The callback works on the engine's own memory, not on a copy."""
    engine = NativeGain(make_bundle(), gain=1.0)

    def change(block):
        engine.constants[GAIN] = 1.0 if block < 100 else 0.25

    audio = noise(128 * 200)
    device = SoftwareDevice(audio, 16000, 128, clock=Steady(change))
    with native_loop(device, engine) as loop:
        loop.wait()
    delay = round(loop.latency.total)
    shifted = device.output[:, delay : delay + audio.shape[1]]
    np.testing.assert_allclose(shifted[:, 128 * 50 : 128 * 98], audio[:, 128 * 50 : 128 * 98], atol=1e-5)
    np.testing.assert_allclose(shifted[:, 128 * 102 : 128 * 190], 0.25 * audio[:, 128 * 102 : 128 * 190], atol=1e-5)
