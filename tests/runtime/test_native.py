"""The native path: the same sound as the processor, no hand-over, and what becomes of models that fail or are slow."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live_parts import RAMP_S
from native_engine import FRAME, HEAD, PRODUCT, RESETS, SPIN_MS, NativeGain
from signals import noise

from hearloop.runtime import processor
from hearloop.runtime.callback import BLOCKS_TO_RETURN, BYPASSED, MISSES_TO_BYPASS
from hearloop.runtime.controls import MUTED_DB, Controls
from hearloop.runtime.devices import C_CALLBACK
from hearloop.runtime.engine import open_engine
from hearloop.runtime.native_callback import callback
from hearloop.runtime.native_pace import GIVEN_UP, MODE, PROBING, REST_LEFT, RESTING, RUNNING, keep_pace, new_pace
from hearloop.runtime.native_session import NativeSession, NativeTelemetry
from hearloop.runtime.outputstage import OutputStage
from hearloop.runtime.processor import Processor
from hearloop.runtime.session import REHEARSED_FRAMES, Setting, Telemetry
from hearloop.runtime.traffic import Traffic
from hearloop.runtime.wetpath import WetPath
from hearloop.runtime.worker import FAILURES_TO_GIVE_UP

pytestmark = pytest.mark.realtime


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


@pytest.fixture
def process(monkeypatch):
    """What the processor makes of the same sound with the same engine, called from Python."""

    def run(engine, samples, rate, sizes, block_size=None):
        monkeypatch.setattr(processor, "load_step", lambda model: model)
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
    opened = round(made.latency.total) + int(RAMP_S * rate)
    assert np.std(heard[:, opened:]) > 0.01
    np.testing.assert_array_equal(heard[:, opened:], expected[:, opened:])
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
        if start > path.latency_samples + RAMP_S * rate:
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


def test_what_is_given_up_is_not_counted_as_run(make_bundle):
    stream = Stream(NativeGain(make_bundle(), fails_from=0))
    stream.play_all(noise(128 * 300), [128] * 300)
    assert stream.model.frames == FAILURES_TO_GIVE_UP
    assert stream.model.compute.to_json()["n"] == FAILURES_TO_GIVE_UP - 1  # the first is told apart


@pytest.mark.parametrize("mode", [RESTING, GIVEN_UP])
def test_a_rehearsal_ends_whatever_the_model_does(mode, make_bundle):
    stream = Stream(NativeGain(make_bundle()))
    stream.session._pace[MODE] = mode
    stream.session._pace[REST_LEFT] = 10**9
    stream.session.rehearse(1)
    assert stream.model.frames == 0
    assert stream.telemetry.tally.blocks >= REHEARSED_FRAMES


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
