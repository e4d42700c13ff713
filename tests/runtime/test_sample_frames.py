"""Models that work on samples: on time, at any rate, in any blocks, in every engine and path, and when they fail."""

from math import prod
from time import perf_counter_ns

import numpy as np
import onnx
import pytest
from graphs import graph_model
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from signals import noise

from hearloop.runtime import Processor
from hearloop.runtime.bundle import load_bundle
from hearloop.runtime.bundle_info import BundleInfo, Port, State
from hearloop.runtime.engine import open_engine
from hearloop.runtime.errors import BundleError
from hearloop.runtime.live import LiveLoop
from hearloop.runtime.sample_frames import SampleFrames, begin_samples, finish_samples
from hearloop.runtime.software_device import SoftwareDevice
from hearloop.runtime.stages import MODEL, SYNTHESIS, begin_laps, new_laps

FRAME, LOOKAHEAD = 128, 64
RATES = [16000, 22050, 44100, 48000]


@pytest.fixture(scope="module")
def make_model(tmp_path_factory):
    """Writes bundles that delay their samples by `lookahead`, times a gain per source; not a number in some frames."""
    folder = tmp_path_factory.mktemp("samples")

    def make(
        gains=(1.0,),
        channels=1,
        lookahead=LOOKAHEAD,
        fails_from=1e9,
        fails_to=2e9,
        shape=None,
        frame=FRAME,
        **changes,
    ):
        separates = len(gains) > 1
        outputs, past = len(gains) if separates else channels, max(lookahead, 1)
        shape_in, shape_out = (1, channels, 1, frame), (1, outputs, 1, frame)
        constants = {
            "gain": np.reshape(np.float32(gains), (1, -1, 1, 1)),
            **{"one": 1.0, "nan": np.nan, "from": fails_from, "to": fails_to},
            "axis": np.int64([3]),
            "late from": np.int64([past - lookahead]),
            "late to": np.int64([past - lookahead + frame]),
            "past from": np.int64([frame]),
            "past to": np.int64([frame + past]),
        }
        nodes = [
            helper.make_node("Concat", ["state.past", "audio"], ["heard"], axis=3),
            helper.make_node("Slice", ["heard", "late from", "late to", "axis"], ["late"]),
            helper.make_node("Slice", ["heard", "past from", "past to", "axis"], ["state.past.next"]),
            helper.make_node("Add", ["state.count", "one"], ["state.count.next"]),
            helper.make_node("GreaterOrEqual", ["state.count", "from"], ["after"]),
            helper.make_node("Less", ["state.count", "to"], ["before"]),
            helper.make_node("And", ["after", "before"], ["failing"]),
            helper.make_node("Where", ["failing", "nan", "gain"], ["factor"]),
            helper.make_node("Mul", ["late", "factor"], ["enhanced"]),
        ]
        shape_past = (1, channels, 1, past)
        inputs = {"audio": shape_in, "state.past": shape_past, "state.count": (1,)}
        results = {"enhanced": shape_out, "state.past.next": shape_past, "state.count.next": (1,)}
        model = graph_model(nodes, inputs, results, constants)
        facts = {
            "name": "samples",
            "task": "separate" if separates else "enhance",
            "sample_rate": 16000,
            "frame": frame,
            "lookahead": lookahead,
            "channels_in": channels,
            "channels_out": outputs,
            "front_end": "waveform",
            "window": None,
            "inputs": (Port("audio", "audio", shape or shape_in),),
            "outputs": (Port("enhanced", "audio", shape_out),),
            "states": (
                State("state.past", "state.past.next", shape_past),
                State("state.count", "state.count.next", (1,)),
            ),
            "parameters": 0,
            "macs_per_frame": prod(shape_out),
            "license": "CC0-1.0",
        }
        onnx.helper.set_model_props(model, BundleInfo(**(facts | changes)).to_metadata())
        path = folder / f"{len(list(folder.iterdir()))}.onnx"
        onnx.save(model, path)
        return path

    return make


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("lookahead", [0, 64, 200])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_model_that_changes_nothing_gives_the_aligned_input_at_full_bandwidth(make_model, rate, lookahead, channels):
    made, samples = Processor(make_model((1.0,), channels, lookahead), channels, rate), noise(rate // 2, channels)
    out = np.concatenate([made.process(samples), made.flush()], axis=1)[:, round(made.latency.total) :]
    np.testing.assert_allclose(out, samples, atol=1e-5)
    assert made.latency["lookahead"] == pytest.approx(lookahead * rate / 16000)


@pytest.mark.parametrize("rate", RATES)
def test_frames_may_be_longer_than_the_chunks_of_the_wet_path(make_model, rate):
    made, samples = Processor(make_model((0.7, 0.3), frame=3000), 1, rate), noise(rate)
    out = np.concatenate([made.process(samples), made.flush()], axis=1)[:, round(made.latency.total) :]
    np.testing.assert_allclose(out, samples, atol=1e-5)


@settings(max_examples=20)
@given(
    sizes=st.lists(st.integers(0, 1500), min_size=1, max_size=12),
    rate=st.sampled_from([16000, 44100]),
    failing=st.booleans(),
)
def test_any_split_into_blocks_gives_the_same(make_model, sizes, rate, failing):
    path = make_model((0.5,), fails_from=3 if failing else 1e9, fails_to=6)
    samples = noise(sum(sizes) + 1, seed=sum(sizes))
    whole, split = Processor(path, 1, rate, "ort"), Processor(path, 1, rate, "ort")
    found = np.concatenate([split.process(part) for part in np.split(samples, np.cumsum(sizes), axis=1)], axis=1)
    np.testing.assert_allclose(found, whole.process(samples), atol=1e-7)


def test_engines_give_the_same(make_model):
    path, samples = make_model((0.3,), 2, fails_from=10, fails_to=12), noise(16000, 2)
    heard = [Processor(path, 2, engine=engine).process(samples) for engine in ("ort", "compiled")]
    np.testing.assert_array_equal(*heard)


@pytest.mark.parametrize("engine", ["ort", "compiled"])
def test_a_frame_that_fails_is_the_input_and_neither_end_of_it_clicks(make_model, engine):
    time = np.arange(16000) / 16000
    samples = (0.2 * np.sin(2 * np.pi * 300 * time)).astype(np.float32)[np.newaxis]
    made = Processor(make_model((0.1,), fails_from=20, fails_to=21), engine=engine)
    out = np.concatenate([made.process(samples), made.flush()], axis=1)[0, round(made.latency.total) :]
    # The model begins afresh after a failure, and fails again as many frames later.
    assert made.events["failed_frames"] == (16000 // FRAME + 1) // 21
    # Sample n of the sound is in the frame that comes `LOOKAHEAD` samples later; a step decays in its beginning.
    dry = slice(20 * FRAME - LOOKAHEAD + 100, 21 * FRAME)
    np.testing.assert_allclose(out[dry], samples[0, dry], atol=0.01)
    wet = slice(21 * FRAME + 64, 41 * FRAME - LOOKAHEAD)
    np.testing.assert_allclose(out[wet], 0.1 * samples[0, wet], atol=1e-3)
    # The slope may change, by as much as that of the sound; the value does not jump.
    assert np.abs(np.diff(out, 2)).max() < 1.2 * np.abs(np.diff(samples)).max()


@pytest.mark.parametrize("rate", RATES)
def test_sources_of_samples_add_up_also_where_the_model_fails(make_model, rate):
    made = Processor(make_model((0.7, 0.3), fails_from=5, fails_to=7), 1, rate)
    samples = noise(rate // 2)
    apart = np.concatenate([made.separate(samples), made.flush()], axis=-1)[..., round(made.latency.total) :]
    np.testing.assert_allclose(apart.sum(0), samples, atol=1e-5)
    assert made.events["failed_frames"] > 0


@pytest.mark.parametrize("runs", [True, False])
def test_a_model_that_rested_has_taken_no_time(make_model, runs):
    laps, sound = new_laps(on=True), np.zeros((1, FRAME), np.float32)
    frames = SampleFrames(open_engine(make_model(), "ort"), 1, laps)
    begin_laps(laps, perf_counter_ns())
    begin_samples(frames.image.address, sound)
    finish_samples(frames.image.address, runs, sound)
    assert (laps[MODEL] > 0, laps[SYNTHESIS] > 0) == (runs, True)


def test_a_reset_forgets_everything(make_model):
    made, samples = Processor(make_model((0.5,), fails_from=4, fails_to=5)), noise(5 * FRAME + 17)
    first = made.process(samples)
    made.reset()
    np.testing.assert_array_equal(made.process(samples), first)


@pytest.mark.parametrize(("channels", "asked"), [(1, 2), (2, 1)])
def test_other_numbers_of_channels_are_refused(make_model, channels, asked):
    with pytest.raises(BundleError, match=rf"works on samples, of {channels} channel\(s\) .* process {asked} channel"):
        Processor(make_model((1.0,), channels), asked)


def test_a_bundle_whose_samples_are_no_frame_is_refused(make_model):
    with pytest.raises(BundleError, match=r"port 'audio': shape \[1, 1, 128\], expected \[1, 1, 1, 128\]"):
        load_bundle(make_model(shape=(1, 1, 128)))


@pytest.mark.realtime
@pytest.mark.parametrize("path", ["native", "worker"])
@pytest.mark.parametrize("rate", [16000, 48000])
def test_live_it_sounds_as_in_the_processor(make_model, path, rate):
    samples, model = noise(rate, 2), make_model((0.5,), 2, fails_from=30, fails_to=33)
    device = SoftwareDevice(samples, rate, FRAME)
    with LiveLoop(model, device, "compiled", path=path) as loop:
        loop.wait()
        stats = loop.stats()
    if stats["misses"]:
        pytest.skip(f"{stats['misses']} misses on this machine; nothing is known of the rest")
    assert stats["events"]["failed_frames"] > 0
    made = Processor(model, 2, rate, "compiled", FRAME)
    expected = np.concatenate([made.process(samples[:, : rate // FRAME * FRAME]), made.flush()], axis=1)
    expected, heard = expected[:, round(made.latency.total) :], device.output[:, round(loop.latency.total) :]
    settled = slice(rate // 10, rate // 2)
    np.testing.assert_allclose(heard[:, settled], expected[:, settled], atol=1e-6)
