"""The native path: the same sound as the processor, no hand-over, and what becomes of models that fail or are slow."""

import time

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from native_engine import FRAME, GAIN, HEAD, PRODUCT, RESETS, SPIN_MS, NativeGain

from hearloop.runtime import live, processor
from hearloop.runtime.callback import BLOCKS_TO_RETURN, BYPASSED, MISSES_TO_BYPASS
from hearloop.runtime.controls import MUTED_DB, Controls
from hearloop.runtime.devices import C_CALLBACK
from hearloop.runtime.engine import open_engine
from hearloop.runtime.errors import EngineError, HearloopError
from hearloop.runtime.live import LiveLoop
from hearloop.runtime.native_callback import callback
from hearloop.runtime.native_pace import MODE, PROBING, RESTING, RUNNING, keep_pace, new_pace
from hearloop.runtime.native_session import NativeSession, NativeTelemetry
from hearloop.runtime.outputstage import OutputStage
from hearloop.runtime.processor import Processor
from hearloop.runtime.session import Setting, Telemetry
from hearloop.runtime.software_device import SoftwareDevice
from hearloop.runtime.traffic import Traffic
from hearloop.runtime.wetpath import WetPath
from hearloop.runtime.worker import FAILURES_TO_GIVE_UP

pytestmark = pytest.mark.realtime

RAMP_S = 0.06  # of the output stage, and a little more


class Stream:
    """A native session, and somebody who calls its callback."""

    def __init__(self, engine, channels=1, rate=16000, smallest=128, largest=128, controls=None, outputs=None):
        self.controls, self.channels, self.outputs = controls or Controls(), channels, outputs or channels
        self.controls.expect_sources(engine.info.sources, engine.info.name)

        def path(size):
            return WetPath(engine, channels, rate, size, controls=self.controls)

        setting = Setting(channels, rate, 16000, 128, path, self.controls, -1.0)
        self.telemetry, self.model = Telemetry(), NativeTelemetry()
        self.traffic = Traffic(channels, self.outputs)
        self.session = NativeSession(setting, smallest, largest, self.telemetry, self.model, self.traffic)
        self.session.start()
        self._call = C_CALLBACK(callback.address)

    def play(self, samples: np.ndarray, flags: int = 0) -> np.ndarray:
        """One block, (channels, n)."""
        indata = np.ascontiguousarray(samples.T, np.float32)
        outdata = np.full((len(indata), self.outputs), np.nan, np.float32)
        data = self.traffic.numbers.ctypes.data
        assert self._call(indata.ctypes.data, outdata.ctypes.data, len(indata), None, flags, data) == 0
        return outdata.T

    def play_all(self, samples: np.ndarray, sizes) -> np.ndarray:
        parts = np.split(samples, np.cumsum(sizes), axis=1)
        return np.concatenate([self.play(part) for part in parts if part.shape[1]], axis=1)


def noise(samples: int, channels: int = 1, seed: int = 1) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal((channels, samples))).astype(np.float32)


@pytest.fixture
def process(monkeypatch):
    """What the processor makes of the same sound with the same engine, called from Python."""

    def run(engine, samples, rate, sizes, block_size=None):
        monkeypatch.setattr(processor, "open_engine", lambda model, name: engine)
        made = Processor("none", len(samples), rate, block_size=block_size)
        made.reset()
        parts = np.split(samples, np.cumsum(sizes), axis=1)
        return np.concatenate([made.process(part) for part in parts], axis=1), made

    return run


@pytest.mark.parametrize("rate", [16000, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("block", [64, 128, 480, 1500, None])
def test_it_sounds_as_the_processor_does_bit_for_bit(rate, channels, block, make_bundle, process):
    """A model with memory that fails in some frames, bad input samples, and one or two streams through the model."""
    samples = noise(rate, channels)
    samples[:, rate // 2 : rate // 2 + 5] = [np.nan, np.inf, -np.inf, 100, -9]
    generator = np.random.default_rng(2)
    sizes = [block] * (rate // block) if block else generator.integers(1, 2000, rate // 1000).tolist()
    samples = samples[:, : sum(sizes)]
    make = {"gain": 0.5, "feedback": 0.3, "fails_from": 40, "fails_to": 42}
    stream = Stream(NativeGain(make_bundle(), **make), channels, rate, min(sizes), max(sizes))
    heard = stream.play_all(samples, sizes)
    expected, made = process(NativeGain(make_bundle(), **make), samples, rate, sizes, block)
    ramp = int(RAMP_S * rate)
    assert np.std(heard[:, ramp:]) > 0.01
    np.testing.assert_array_equal(heard[:, ramp:], expected[:, ramp:])
    assert dict(stream.session.events) == made.events
    assert made.events["failed_frames"] > 0
    assert dict(stream.session.latency) == dict(made.latency)
    assert "worker" not in stream.session.latency


@settings(max_examples=25)
@given(
    sizes=st.lists(st.integers(1, 1400), min_size=1, max_size=40),
    rate=st.sampled_from([16000, 44100, 48000]),
    changes=st.dictionaries(st.integers(0, 40), st.floats(0, 1), max_size=4),
    seed=st.integers(0, 1000),
)
def test_so_it_does_for_any_blocks_and_controls(sizes, rate, changes, seed, make_bundle):
    """Controls are followed from the block on in which they change, with the same ramp."""
    sizes = [rate // 20] * 2 + sizes  # the output opens in the first ones
    samples = noise(sum(sizes), seed=seed)
    stream = Stream(NativeGain(make_bundle(), feedback=0.5), 1, rate, 1, rate // 10)
    path = WetPath(NativeGain(make_bundle(), feedback=0.5), 1, rate)
    controls, start = Controls(), 0
    stage = OutputStage(1, rate, path.latency_samples, controls)
    stage.start(ramp=False)
    for index, size in enumerate(sizes):
        block = samples[:, start : start + size]
        if index - 2 in changes:
            stream.controls.mix = controls.mix = changes[index - 2]
            stream.controls.output_gain_db = controls.output_gain_db = -6 * changes[index - 2]
        heard, expected, wet = stream.play(block), np.zeros_like(block), np.zeros_like(block)
        path.process(block, wet)
        for at in range(0, size, path.chunk):
            part = slice(at, at + path.chunk)
            stage.process(block[:, part], wet[:, part], True, expected[:, part])
        if start > RAMP_S * rate:
            np.testing.assert_array_equal(heard, expected)
        start += size


@pytest.mark.parametrize("channels", [1, 2])
def test_a_compiled_model_sounds_as_in_the_processor(channels):
    samples = noise(480 * 100, channels)
    made = Processor("enhance-small", channels, 48000, "compiled", 480)
    expected = made.process(samples)
    stream = Stream(open_engine("enhance-small", "compiled"), channels, 48000, 480, 480)
    heard = stream.play_all(samples, [480] * 100)
    assert np.std(heard[:, 3000:]) > 1e-4
    np.testing.assert_array_equal(heard[:, 3000:], expected[:, 3000:])
    assert stream.model.failures == 0


@pytest.mark.parametrize("rate", [16000, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_separated_sources_are_remixed_as_in_the_processor(rate, channels, make_bundle):
    """With gains that change while it runs, and a model that fails in some frames."""
    masks = np.random.default_rng(4).normal(0.5, 0.3, (3, 257))
    bundle = make_bundle(masks=masks, fails_from=40, fails_to=42)
    block = 480
    samples = noise(block * 120, channels)
    made = Processor(bundle, channels, rate, "compiled", block, source_gains_db=(0, -6, 3))
    stream = Stream(open_engine(bundle, "compiled"), channels, rate, block, block, Controls(source_gains_db=(0, -6, 3)))
    for index, part in enumerate(np.split(samples, 120, axis=1)):
        if index % 25 == 24:
            made.controls.source_gains_db = stream.controls.source_gains_db = (-index / 2, MUTED_DB, 3)
        heard, expected = stream.play(part), made.process(part)
        if index * block > RAMP_S * rate:
            np.testing.assert_array_equal(heard, expected)
    assert np.std(heard) > 0.01
    assert stream.session.events["failed_frames"] == made.events["failed_frames"] > 0


def test_one_channel_is_played_on_all_outputs(make_bundle):
    samples = noise(128 * 62)
    one = Stream(NativeGain(make_bundle())).play_all(samples, [128] * 62)
    both = Stream(NativeGain(make_bundle()), outputs=2).play_all(samples, [128] * 62)
    np.testing.assert_array_equal(both, np.repeat(one, 2, axis=0))


def test_a_model_of_two_channels_is_one_stream(make_bundle, process):
    samples = noise(128 * 62, 2)
    bundle = make_bundle("binaural", channels=2)
    heard = Stream(NativeGain(bundle, feedback=0.4), 2).play_all(samples, [128] * 62)
    expected, _ = process(NativeGain(bundle, feedback=0.4), samples, 16000, [128] * 62, 128)
    np.testing.assert_array_equal(heard[:, 1000:], expected[:, 1000:])


def test_a_failed_frame_starts_the_model_afresh_inside_the_callback(make_bundle):
    engine = NativeGain(make_bundle(), fails_from=20, fails_to=1e9)
    stream = Stream(engine)
    resets = engine.memory[RESETS]
    heard = stream.play_all(noise(128 * 63), [128] * 63)
    assert np.isfinite(heard).all()
    assert stream.session.events["failed_frames"] == 3  # frames 20, 41 and 62
    assert engine.memory[RESETS] == resets + 3
    assert engine.memory[FRAME] == 0


def test_a_model_that_fails_again_and_again_is_given_up_and_the_dry_signal_stays(make_bundle):
    engine = NativeGain(make_bundle(), gain=0.5, fails_from=0)
    stream, samples = Stream(engine), noise(128 * 400)
    heard = stream.play_all(samples, [128] * 400)
    assert stream.model.failures == FAILURES_TO_GIVE_UP
    assert "given up" in stream.session.message
    latency, after = round(stream.session.latency.total), 128 * 200
    shifted = heard[:, latency + after :]
    np.testing.assert_allclose(shifted, samples[:, after : after + shifted.shape[1]], atol=1e-4)


def test_denormal_numbers_are_flushed_inside_and_nowhere_else(make_bundle):
    engine = NativeGain(make_bundle())
    tiny = engine.memory[HEAD - 1]
    engine.step()
    assert engine.memory[PRODUCT] > 0
    Stream(engine).play(noise(128))
    assert engine.memory[PRODUCT] == 0
    assert tiny * tiny > 0


def test_gaps_that_the_host_reports_are_counted_and_priming_is_none(make_bundle):
    stream = Stream(NativeGain(make_bundle()))
    for flags in (0, 1, 4 | 8, 0x10, 0):
        stream.play(noise(128), flags)
    assert stream.traffic.xruns == 2


def test_without_a_session_there_is_silence(make_bundle):
    stream = Stream(NativeGain(make_bundle()))
    stream.session.retire()
    assert np.all(stream.play(noise(128)) == 0)
    assert stream.traffic.blocks == 1
    assert stream.telemetry.tally.blocks == 0


class TestSlowModel:
    BLOCK, BLOCK_MS = 1600, 100  # so long that nothing but the model can fill it

    def stream(self, make_bundle):
        engine = NativeGain(make_bundle(), gain=0.5, feedback=0.5)
        return engine, Stream(engine, smallest=self.BLOCK, largest=self.BLOCK)

    def blocks(self, stream, count, seed=1):
        return stream.play_all(noise(self.BLOCK * count, seed=seed), [self.BLOCK] * count)

    def test_it_is_bypassed_after_some_late_blocks_probed_after_a_rest_and_heard_again(self, make_bundle):
        engine, stream = self.stream(make_bundle)
        tally = stream.telemetry.tally
        self.blocks(stream, 3)
        assert tally.misses == 0
        engine.constants[SPIN_MS] = 15  # for each of the 12 or 13 frames of a block
        self.blocks(stream, MISSES_TO_BYPASS)
        assert tally.misses == tally.longest_miss_run == MISSES_TO_BYPASS
        assert (tally.bypasses, tally.bypassed, tally.concealed) == (1, True, 0)
        assert stream.model.late["compute"] + stream.model.late["scheduling"] == MISSES_TO_BYPASS
        resets = engine.memory[RESETS]
        self.blocks(stream, 4)  # it rests for half a second, and costs nothing
        assert tally.misses == MISSES_TO_BYPASS
        self.blocks(stream, 1)
        assert engine.memory[RESETS] == resets + 1
        self.blocks(stream, 1)  # the probe, which it does not pass
        assert tally.misses == MISSES_TO_BYPASS + 1
        engine.constants[SPIN_MS] = 0
        self.blocks(stream, 10 + BLOCKS_TO_RETURN - 1)
        assert tally.bypassed
        self.blocks(stream, 1)
        assert not tally.bypassed
        assert tally.misses == MISSES_TO_BYPASS + 1
        assert tally.concealed == 5 + 1 + 10 + BLOCKS_TO_RETURN

    def test_what_is_heard_in_bypass_is_the_dry_signal_in_its_place_and_after_it_the_model(self, make_bundle):
        engine, stream = self.stream(make_bundle)
        engine.constants[SPIN_MS] = 15
        self.blocks(stream, MISSES_TO_BYPASS)
        engine.constants[SPIN_MS] = 0
        latency = round(stream.session.latency.total)
        samples = noise(self.BLOCK * 4, seed=3)
        heard = stream.play_all(samples, [self.BLOCK] * 4)
        np.testing.assert_allclose(
            heard[:, 3 * self.BLOCK :], samples[:, 3 * self.BLOCK - latency : -latency], atol=1e-3
        )
        samples = noise(self.BLOCK * 60, seed=4)
        heard = stream.play_all(samples, [self.BLOCK] * 60)
        assert not stream.telemetry.tally.bypassed
        twin = NativeGain(make_bundle(), gain=0.5, feedback=0.5)
        path, expected = WetPath(twin, 1, 16000, self.BLOCK), np.zeros_like(samples)
        path.process(samples, expected)
        last = slice(-4 * self.BLOCK, None)  # the model's memory of the time before has faded
        np.testing.assert_allclose(heard[:, last], expected[:, last], atol=1e-5)

    @given(
        late=st.lists(st.booleans(), min_size=1, max_size=600),
        stepped=st.lists(st.booleans(), min_size=600, max_size=600),
    )
    def test_the_pace_keeps_its_promises(self, late, stepped):
        """Bypass only after K late blocks in a row; return only after a clean run; rests that double, up to a bound."""
        pace, tally = new_pace(16000), np.zeros(9, np.int64)
        rests, in_time, run = [], 0, 0
        for is_late, has_stepped in zip(late, stepped, strict=False):
            mode = pace[MODE]
            afresh = keep_pace(pace, tally, 4000, mode == RUNNING, has_stepped, is_late)
            run = run + 1 if is_late else 0 if has_stepped else run
            in_time = 0 if is_late else in_time + has_stepped
            if mode == RUNNING and pace[MODE] == RESTING:
                assert run == MISSES_TO_BYPASS
                rests.append(0)
            if mode == PROBING:
                assert (pace[MODE] == RESTING) == is_late
                assert (pace[MODE] == RUNNING) == (in_time == BLOCKS_TO_RETURN)
                rests += [0] * bool(is_late)
            if mode == RESTING:
                rests[-1] += 1
                assert afresh == (pace[MODE] == PROBING)
                if afresh:
                    in_time = run = 0
                    assert rests[-1] == min(2 ** len(rests), 4 * 32)  # half a second are two of these blocks
            assert tally[BYPASSED] == (pace[MODE] != RUNNING)


def test_a_block_of_another_size_than_promised_is_concealed_and_nothing_breaks(make_bundle):
    stream = Stream(NativeGain(make_bundle(), gain=-1.0))
    samples = noise(128 * 20)
    stream.play_all(samples, [128] * 20)
    heard = stream.play_all(noise(5000), [100, 128, 3000])
    assert np.isfinite(heard).all()
    assert stream.model.late["host"] == 4
    assert stream.telemetry.tally.concealed == 4


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
    with pytest.raises(EngineError, match=r"'ort' has no native form"):
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


def test_the_output_opens_and_closes_without_a_click(native_loop):
    tone = np.sin(2 * np.pi * 50 * np.arange(16000) / 16000) * 0.5
    device = SoftwareDevice(tone, 16000, 128, seconds=60)
    with native_loop(device) as loop:
        loop.wait(0.5)
    heard = device.output[0]
    assert np.max(np.abs(heard)) > 0.45
    assert np.max(np.abs(np.diff(heard))) < 1.3 * np.max(np.abs(np.diff(tone)))
    assert np.max(np.abs(heard[-128:])) == 0


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
