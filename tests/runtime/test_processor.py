from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearloop.runtime import AudioError, BundleError, EngineError, HearloopError, Processor, load_bundle
from hearloop.runtime.bundle_info import Port

RATES = [8000, 16000, 22050, 44100, 48000, 96000]
BLOCKS = [1, 64, 127, 128, 160, 441, 480, 1024, None]


def run(processor: Processor, samples: np.ndarray, sizes) -> np.ndarray:
    parts, start = [], 0
    for size in sizes:
        if start >= samples.shape[1]:
            break
        parts.append(processor.process(samples[:, start : start + size]))
        start += size
    return np.concatenate(parts, axis=1)


def blocks(block: int | None, total: int, rng: np.random.Generator) -> list[int]:
    return [block] * (total // block) if block else rng.integers(0, 700, 4 * total // 700 + 10).tolist()


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"block-{block or 'random'}")
def test_an_impulse_comes_out_exactly_where_the_ledger_says(make_bundle, rate, block, rng):
    """The model halves the sound, so this is the wet path that is measured, not the dry one."""
    processor = Processor(make_bundle(gain=0.5), sample_rate=rate, block_size=block)
    at, total = rate // 7, rate // 2
    impulse = np.zeros((1, total), np.float32)
    impulse[0, at] = 0.5
    out = run(processor, impulse, blocks(block, total, rng))[0]
    latency = processor.latency.total
    assert latency == pytest.approx(round(latency), abs=1e-6)
    assert np.argmax(np.abs(out)) == at + round(latency)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("channels", [1, 2])
def test_a_model_that_changes_nothing_gives_back_the_input_at_full_bandwidth(make_bundle, rate, channels, rng):
    """What lies above the model's 8 kHz is kept: white noise over the whole band comes back."""
    processor = Processor(make_bundle(), channels, rate)
    samples = (0.1 * rng.standard_normal((channels, rate // 2))).astype(np.float32)
    out = np.concatenate([run(processor, samples, blocks(None, rate // 2, rng)), processor.flush()], axis=1)
    aligned = out[:, round(processor.latency.total) :]
    assert aligned.shape == samples.shape
    np.testing.assert_allclose(aligned, samples, atol=1e-6)


@pytest.mark.parametrize("rate", [44100, 48000])
def test_above_8_khz_the_gain_follows_the_model(make_bundle, rate, rng):
    processor = Processor(make_bundle(gain=0.25), sample_rate=rate)
    samples = (0.1 * rng.standard_normal((1, 2 * rate))).astype(np.float32)
    out = processor.process(samples)
    spectrum_in, spectrum_out = (np.abs(np.fft.rfft(x[0, rate // 2 :])) for x in (samples, out))
    frequency = np.fft.rfftfreq(samples.shape[1] - rate // 2, 1 / rate)
    for low, high in ((500, 6000), (10000, 20000)):
        band = (frequency > low) & (frequency < high)
        gain = np.sqrt((spectrum_out[band] ** 2).sum() / (spectrum_in[band] ** 2).sum())
        assert gain == pytest.approx(0.25, rel=0.05)


@settings(max_examples=25)
@given(
    sizes=st.lists(st.integers(0, 1500), min_size=1, max_size=15),
    rate=st.sampled_from([16000, 44100, 48000]),
    channels=st.integers(1, 2),
)
def test_any_split_into_blocks_gives_the_same_output(make_bundle, sizes, rate, channels):
    samples = 0.1 * np.random.default_rng(sum(sizes)).standard_normal((channels, max(sum(sizes), 1)))
    samples = samples.astype(np.float32)
    path = make_bundle(gain=0.5)
    whole = Processor(path, channels, rate).process(samples)
    split = run(Processor(path, channels, rate), samples, [*sizes, 1])
    np.testing.assert_allclose(split, whole, atol=1e-7)


@pytest.mark.parametrize("rate", [16000, 44100])
def test_sound_that_must_not_be_written_to_is_taken_as_any_other(make_bundle, rate, rng):
    """As `np.frombuffer` gives it, and memory that is shared between processes."""
    samples = (0.1 * rng.standard_normal((1, rate // 5))).astype(np.float32)
    expected = Processor(make_bundle(gain=0.5), sample_rate=rate).process(samples)
    shared = np.frombuffer(samples.tobytes(), np.float32)[np.newaxis]
    assert not shared.flags.writeable
    np.testing.assert_array_equal(Processor(make_bundle(gain=0.5), sample_rate=rate).process(shared), expected)


def test_reset_starts_a_new_stream(make_bundle, rng):
    processor = Processor(make_bundle(gain=0.5), 2, 48000)
    samples = (0.1 * rng.standard_normal((2, 5000))).astype(np.float32)
    first = processor.process(samples)
    processor.process(samples[:, :777])
    processor.reset()
    np.testing.assert_array_equal(processor.process(samples), first)


@pytest.mark.parametrize("block_size", [None, 1, 480, 1440])
@pytest.mark.parametrize("rate", [16000, 44100])
def test_flush_gives_what_silence_would_have_brought_out(make_bundle, block_size, rate, rng):
    samples = (0.1 * rng.standard_normal((2, 2880))).astype(np.float32)
    flushed, waited = (Processor(make_bundle(), 2, rate, block_size=block_size) for _ in range(2))
    total = round(flushed.latency.total)
    expected = waited.process(np.concatenate([samples, np.zeros((2, 5760), np.float32)], axis=1))
    out = np.concatenate([flushed.process(samples), flushed.flush()], axis=1)
    np.testing.assert_allclose(out, expected[:, : 2880 + total], atol=1e-7)


def test_flush_computes_no_more_frames_than_are_inside(make_bundle):
    """At 100 Hz a sample is more than a frame, and a thousand samples of silence would be ten seconds of work."""
    processor = Processor(make_bundle(), sample_rate=100)
    processor.flush()
    assert processor._wet.frame_count <= processor.latency.total * 160 / 128


@pytest.mark.parametrize("kind", [np.int16, np.uint16, np.int64])
def test_numbers_of_numpy_mean_what_numbers_of_python_do(make_bundle, kind, rng):
    """A sum of the widths of NumPy would overflow: 200 channels of two sources, and 128 frames a second at 8 kHz."""
    samples = (0.1 * rng.standard_normal((200, 400))).astype(np.float32)
    bundle = make_bundle(masks=np.full((2, 257), 0.5))
    expected = Processor(bundle, 200, 8000, block_size=100)
    processor = Processor(bundle, np.uint8(200), kind(8000), block_size=kind(100))
    assert processor.latency == expected.latency
    np.testing.assert_array_equal(processor.separate(samples), expected.separate(samples))


def test_several_channels_share_one_mask_so_that_directions_stay(make_bundle, rng):
    """The right ear is the left at half the level and three samples later; after the model it still is."""
    left = 0.1 * rng.standard_normal(16000)
    samples = np.stack([left, 0.5 * np.roll(left, 3)]).astype(np.float32)
    out = Processor(make_bundle(gain=0.3), 2).process(samples)
    np.testing.assert_allclose(out[1, 503:-3], 0.5 * out[0, 500:-6], atol=1e-6)


class TestControls:
    @pytest.mark.parametrize("rate", [16000, 44100])
    def test_bypass_is_the_input_bit_for_bit_and_aligned(self, make_bundle, rate, rng):
        processor = Processor(make_bundle(gain=0.1), sample_rate=rate, bypass=True)
        samples = (0.1 * rng.standard_normal((1, rate))).astype(np.float32)
        latency = round(processor.latency.total)
        np.testing.assert_array_equal(processor.process(samples)[:, latency:], samples[:, :-latency])

    @pytest.mark.parametrize(
        ("controls", "gain"),
        [
            ({"mix": 0.5}, 0.5),
            ({"attenuation_limit_db": 20.0}, 0.1),
            ({"attenuation_limit_db": np.int64(20)}, 0.1),
            ({"attenuation_limit_db": 0.0}, 1.0),
            ({"attenuation_limit_db": 100.0}, 0.0),
            ({"output_gain_db": -20.0, "mix": 0.0}, 0.1),
        ],
    )
    def test_dry_and_wet_add_up_without_a_comb(self, make_bundle, controls, gain, rng):
        """A model that gives silence: what is heard is the dry part alone, at the promised level."""
        processor = Processor(make_bundle(gain=0.0), sample_rate=48000, **controls)
        samples = (0.1 * rng.standard_normal((1, 48000))).astype(np.float32)
        latency = round(processor.latency.total)
        settled = 24000  # the gain above 8 kHz follows the model within some 40 ms
        out = processor.process(samples)[:, latency + settled :]
        np.testing.assert_allclose(out, gain * samples[:, settled:-latency], atol=1e-6)

    @pytest.mark.parametrize(
        "change", [{"bypass": True}, {"attenuation_limit_db": 6.0}, {"mix": 0.3}, {"output_gain_db": -30.0}]
    )
    def test_a_change_while_running_does_not_click(self, make_bundle, change):
        """A 200 Hz tone never steps by more between samples than a slightly louder tone would."""
        processor = Processor(make_bundle(gain=0.1))
        tone = (0.5 * np.sin(2 * np.pi * 200 * np.arange(16000) / 16000)).astype(np.float32)
        first = processor.process(tone[:8001])
        for name, value in change.items():
            setattr(processor.controls, name, value)
        out = np.concatenate([first, processor.process(tone[8001:])])[1000:]
        assert np.abs(np.diff(out)).max() < 0.5 * 2 * np.pi * 200 / 16000 * 1.1

    @pytest.mark.parametrize(
        ("name", "value"), [("mix", 1.5), ("attenuation_limit_db", -1), ("output_gain_db", np.nan), ("mix", "all")]
    )
    def test_a_wrong_value_is_refused_by_name_and_changes_nothing(self, make_bundle, name, value):
        controls = Processor(make_bundle()).controls
        before = controls.targets.copy()
        with pytest.raises(HearloopError, match=name):
            setattr(controls, name, value)
        np.testing.assert_array_equal(controls.targets, before)


class TestFaults:
    def test_a_model_that_returns_nan_is_replaced_by_aligned_dry_sound_and_started_afresh(self, make_bundle, rng):
        """The model fails from its 20th frame until it is reset, which the first failure causes."""
        processor = Processor(make_bundle(gain=0.5, fails_from=20))
        samples = (0.1 * rng.standard_normal((1, 128 * 30))).astype(np.float32)
        out = processor.process(samples)
        latency = round(processor.latency.total)
        aligned, same = out[:, latency:], samples[:, :-latency]
        assert np.isfinite(out).all()
        assert processor.events["failed_frames"] == 1
        failed = slice(20 * 128, 20 * 128 + 64)  # inside the flat part of the failed frame
        np.testing.assert_allclose(aligned[:, failed], same[:, failed], atol=1e-6)
        np.testing.assert_allclose(aligned[:, 22 * 128 :], 0.5 * same[:, 22 * 128 :], atol=1e-6)

    def test_a_failing_model_does_not_click(self, make_bundle):
        processor = Processor(make_bundle(gain=0.5, fails_from=20))
        tone = (0.5 * np.sin(2 * np.pi * 100 * np.arange(128 * 40) / 16000)).astype(np.float32)
        out = processor.process(tone)[1000:]
        assert np.abs(np.diff(out)).max() < 0.5 * 2 * np.pi * 100 / 16000 * 1.2

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30, -3e38])
    @pytest.mark.parametrize("rate", [16000, 48000])
    def test_bad_input_samples_leave_no_trace_but_a_count(self, make_bundle, bad, rate, rng):
        processor = Processor(make_bundle(gain=0.5), sample_rate=rate)
        samples = (0.1 * rng.standard_normal((1, rate))).astype(np.float32)
        clean = processor.process(samples)
        processor.reset()
        broken = samples.copy()
        broken[0, 1000:1010] = bad
        out = processor.process(broken)
        assert processor.events["bad_samples"] == 10
        assert np.isfinite(out).all()
        assert np.abs(out).max() <= 10 ** (-1 / 20)
        np.testing.assert_allclose(out[:, -rate // 4 :], clean[:, -rate // 4 :], atol=1e-4)

    def test_an_empty_block_is_an_empty_answer(self, make_bundle):
        processor = Processor(make_bundle(), 2)
        assert processor.process(np.zeros((2, 0), np.float32)).shape == (2, 0)

    @pytest.mark.parametrize(
        ("samples", "told"),
        [
            (np.zeros((3, 10), np.float32), r"\(3, 10\).*\(2, any number\)"),
            (np.zeros(10, np.float32), r"\(10,\)"),
            (np.zeros((2, 10), np.int16), "int16.*float32"),
        ],
    )
    def test_audio_of_a_wrong_shape_or_type_is_told(self, make_bundle, samples, told):
        with pytest.raises(AudioError, match=told):
            Processor(make_bundle(), 2).process(samples)

    def test_a_block_of_another_size_than_promised_is_told(self, make_bundle):
        with pytest.raises(AudioError, match=r"100 samples.*block_size 128"):
            Processor(make_bundle(), block_size=128).process(np.zeros(100, np.float32))

    @pytest.mark.parametrize("arguments", [{"channels": 0}, {"sample_rate": -1}, {"sample_rate": 44100.5}])
    def test_nonsense_settings_are_told(self, make_bundle, arguments):
        with pytest.raises(AudioError, match=next(iter(arguments))):
            Processor(make_bundle(), **arguments)

    def test_a_binaural_model_refuses_another_number_of_channels(self, make_bundle):
        with pytest.raises(BundleError, match=r"2 channel\(s\) in.*3 channel"):
            Processor(make_bundle(channels=2), 3)

    def test_an_unknown_engine_is_told(self, make_bundle):
        with pytest.raises(EngineError, match=r"'gpu'.*auto, ort, compiled"):
            Processor(make_bundle(), engine="gpu")


@given(
    seed=st.integers(0, 10**6),
    level=st.floats(0.01, 1e6),
    ceiling=st.floats(-40, 0),
    gain_db=st.floats(-60, 30),
    bypass=st.booleans(),
)
@settings(max_examples=40)
def test_no_input_passes_the_ceiling(make_bundle, seed, level, ceiling, gain_db, bypass):
    processor = Processor(make_bundle(gain=3.0), 2, ceiling_dbfs=ceiling, output_gain_db=gain_db, bypass=bypass)
    samples = (level * np.random.default_rng(seed).standard_normal((2, 3000))).astype(np.float32)
    samples[0, ::97] = np.inf
    out = processor.process(samples)
    assert np.isfinite(out).all()
    assert np.abs(out).max() <= np.float32(10 ** (ceiling / 20))


def test_sound_below_the_ceiling_is_not_touched_by_the_limiter(make_bundle, rng):
    samples = rng.uniform(-0.8, 0.8, (1, 4000)).astype(np.float32)
    processor = Processor(make_bundle(), bypass=True)
    latency = round(processor.latency.total)
    np.testing.assert_array_equal(processor.process(samples)[:, latency:], samples[:, :-latency])


def test_a_model_that_needs_what_the_loudspeaker_plays_is_refused(make_bundle, tmp_path):
    """The runtime would feed it silence for ever."""
    model, info = onnx.load(make_bundle()), load_bundle(make_bundle()).info
    (spectrum,) = info.inputs
    reference = Port("far", "reference", spectrum.shape)
    model.graph.input.append(onnx.helper.make_tensor_value_info("far", onnx.TensorProto.FLOAT, spectrum.shape))
    del model.metadata_props[:]
    info = replace(info, name="echo-x", task="echo", inputs=(spectrum, reference))
    onnx.helper.set_model_props(model, info.to_metadata())
    onnx.save(model, tmp_path / "echo-x.onnx")
    with pytest.raises(BundleError, match=r"model 'echo-x' needs a reference .what the loudspeaker plays"):
        Processor(tmp_path / "echo-x.onnx", engine="ort")
