"""Models that separate: the sources add up to the input, remixed or apart, at any rate and in any blocks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from signals import noise

from hearloop.runtime import AudioError, BundleError, Controls, HearloopError, Processor, load_bundle, processor
from hearloop.runtime.controls import MUTED_DB

RATES = [8000, 16000, 22050, 44100, 48000]
BINS = 257


def adding_up(sources: int, seed: int = 3) -> np.ndarray:
    """Masks of all shapes, also beyond 0 and 1, that add up to one: float (sources, bins)."""
    masks = np.random.default_rng(seed).normal(0.5, 0.5, (sources, BINS))
    masks[-1] = 1 - masks[:-1].sum(0)
    return masks


def constant(*gains: float) -> np.ndarray:
    return np.repeat(np.array(gains)[:, np.newaxis], BINS, axis=1)


def in_blocks(process, samples: np.ndarray, seed: int = 2) -> np.ndarray:
    """Feed blocks of 0 to 700 samples."""
    ends = np.cumsum(np.random.default_rng(seed).integers(0, 700, samples.shape[1] // 300))
    parts = np.split(samples, ends[ends < samples.shape[1]], axis=1)
    return np.concatenate([process(part) for part in parts], axis=-1)


def level_db(signal: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(signal**2) + 1e-20))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(("channels", "sources"), [(1, 2), (2, 2), (2, 3)])
def test_sources_add_up_to_the_aligned_input_at_full_bandwidth(make_bundle, rate, channels, sources):
    made = Processor(make_bundle(masks=adding_up(sources)), channels, rate)
    samples = noise(rate // 2, channels)
    apart = np.concatenate([in_blocks(made.separate, samples), made.flush()], axis=-1)
    apart = apart[..., round(made.latency.total) :]
    assert apart.shape == (sources, *samples.shape)
    assert all(level_db(source) > -60 for source in apart)
    np.testing.assert_allclose(apart.sum(0), samples, atol=1e-5)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("channels", [1, 2])
def test_the_remix_is_the_sum_of_the_sources_times_their_gains(make_bundle, rate, channels):
    bundle, samples = make_bundle(masks=adding_up(3)), noise(rate // 2, channels)
    apart = in_blocks(Processor(bundle, channels, rate).separate, samples)
    remix = in_blocks(Processor(bundle, channels, rate, source_gains_db=(0, -12, MUTED_DB)).process, samples, seed=5)
    np.testing.assert_allclose(remix, apart[0] + 10 ** (-12 / 20) * apart[1], atol=1e-6)


@pytest.mark.parametrize("rate", RATES)
def test_without_gains_the_remix_is_the_input(make_bundle, rate):
    made, samples = Processor(make_bundle(masks=adding_up(2)), 2, rate), noise(rate // 2, 2)
    out = np.concatenate([in_blocks(made.process, samples), made.flush()], axis=1)
    np.testing.assert_allclose(out[:, round(made.latency.total) :], samples, atol=1e-5)


@settings(max_examples=25)
@given(
    sizes=st.lists(st.integers(0, 1500), min_size=1, max_size=12),
    rate=st.sampled_from([16000, 44100, 48000]),
    channels=st.integers(1, 2),
    apart=st.booleans(),
)
def test_any_split_into_blocks_gives_the_same_sources(make_bundle, sizes, rate, channels, apart):
    bundle, samples = make_bundle(masks=adding_up(2)), noise(sum(sizes) + 1, channels, sum(sizes))
    made = [Processor(bundle, channels, rate, source_gains_db=(-6, 3)) for _ in range(2)]
    whole, split = (each.separate if apart else each.process for each in made)
    parts = np.split(samples, np.cumsum(sizes), axis=1)
    expected = whole(samples)
    np.testing.assert_allclose(np.concatenate([split(part) for part in parts], axis=-1), expected, atol=1e-7)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("block", [127, 128, 480, None])
def test_an_impulse_comes_out_of_every_source_where_the_ledger_says(make_bundle, rate, block):
    made = Processor(make_bundle(masks=constant(0.7, 0.3)), sample_rate=rate, block_size=block)
    at = rate // 7
    impulse = np.zeros((1, rate // 2 // (block or 1) * (block or 1)), np.float32)
    impulse[0, at] = 0.5
    apart = made.separate(impulse)
    assert np.argmax(np.abs(apart), axis=-1).tolist() == [[at + round(made.latency.total)]] * 2


@pytest.mark.parametrize("rate", [44100, 48000])
@pytest.mark.parametrize("upper", [1.0, 0.0, 0.25])
def test_above_8_khz_a_source_has_its_share_of_the_upper_part_of_the_band(make_bundle, rate, upper):
    lower = np.arange(BINS) < 64
    masks = np.stack([np.where(lower, 1 - upper, upper), np.where(lower, upper, 1 - upper)])
    samples = noise(2 * rate)
    apart = Processor(make_bundle(masks=masks), sample_rate=rate).separate(samples)[:, 0, rate // 2 :]
    spectra = np.abs(np.fft.rfft([samples[0, rate // 2 :], *apart]))
    band = np.fft.rfftfreq(apart.shape[1], 1 / rate) > 10000
    given, *found = np.sqrt((spectra[:, band] ** 2).sum(1))
    np.testing.assert_allclose(np.array(found) / given, [upper, 1 - upper], atol=0.03)


class TestTwoEars:
    def test_every_source_keeps_the_differences_between_the_ears(self, make_bundle):
        """The right ear is the left at half the level and three samples later; so it is in each source."""
        left = noise(16000)[0]
        samples = np.stack([left, 0.5 * np.roll(left, 3)])
        masks = np.stack([np.linspace(0.2, 0.9, BINS), 1 - np.linspace(0.2, 0.9, BINS)])
        for source in Processor(make_bundle(masks=masks), 2).separate(samples):
            # The analysis window moves between the ears, so that this is not exact.
            np.testing.assert_allclose(source[1, 503:-3], 0.5 * source[0, 500:-6], atol=2e-3)

    def test_equal_ears_give_what_one_ear_gives(self, make_bundle):
        samples, bundle = noise(8000), make_bundle(masks=adding_up(2))
        one = Processor(bundle).separate(samples)
        both = Processor(bundle, 2).separate(np.repeat(samples, 2, axis=0))
        np.testing.assert_allclose(both, np.repeat(one, 2, axis=1), atol=1e-5)

    def test_ears_that_cancel_one_another_still_hear_everything(self, make_bundle):
        made, samples = Processor(make_bundle(masks=adding_up(2)), 2), noise(8000)
        samples = np.concatenate([samples, -samples])
        apart = made.separate(samples)
        latency = round(made.latency.total)
        np.testing.assert_allclose(apart.sum(0)[:, latency:], samples[:, :-latency], atol=1e-5)

    def test_a_model_that_orders_talkers_by_their_level_orders_them_alike_at_both_ears(self, make_bundle, monkeypatch):
        """Each ear by itself would be given another order: the left one hears loud, the right one soft sound."""

        class Moody:
            name = "moody"

            def __init__(self):
                self.info = load_bundle(make_bundle(masks=constant(0.9, 0.1))).info
                self.inputs = {port.name: np.zeros(port.shape, np.float32) for port in self.info.inputs}
                self.outputs = {port.name: np.zeros(port.shape, np.float32) for port in self.info.outputs}

            def step(self):
                given = self.inputs["spectrum"]
                loud = np.sum(given**2) > 100
                self.outputs["enhanced"][:] = given * np.reshape((0.9, 0.1) if loud else (0.1, 0.9), (1, 2, 1, 1, 1))

            def reset(self): ...

            def another(self):
                return Moody()

        monkeypatch.setattr(processor, "load_step", lambda model: model)
        monkeypatch.setattr(processor, "open_engine", lambda model, name: Moody())
        samples = np.concatenate([noise(16000), 0.01 * noise(16000, seed=2)])
        single = [Processor("moody").separate(ear[np.newaxis])[:, 0, 1000:] for ear in samples]
        assert level_db(single[0][0]) > level_db(single[0][1])
        assert level_db(single[1][0]) < level_db(single[1][1])
        first, second = Processor("moody", 2).separate(samples)[..., 1000:]
        for ear in range(2):
            assert level_db(first[ear]) > level_db(second[ear]) + 18


class TestStream:
    def test_reset_starts_a_new_stream_of_either_kind(self, make_bundle):
        made, samples = Processor(make_bundle(masks=adding_up(2)), 2, 48000), noise(5000, 2)
        first = made.separate(samples)
        made.reset()
        remix = made.process(samples)
        made.reset()
        np.testing.assert_array_equal(made.separate(samples), first)
        np.testing.assert_allclose(remix, first.sum(0), atol=1e-6)

    def test_a_stream_is_remixed_or_taken_apart_from_its_start_on(self, make_bundle):
        made = Processor(make_bundle(masks=adding_up(2)))
        made.process(noise(100))
        with pytest.raises(AudioError, match=r"begun with process\(\); reset\(\) .* before separate\(\)"):
            made.separate(noise(100))
        made.reset()
        made.separate(noise(100))
        assert made.flush().shape == (2, 1, round(made.latency.total))
        with pytest.raises(AudioError, match=r"begun with separate\(\)"):
            made.process(noise(100))

    def test_an_empty_block_is_an_empty_answer(self, make_bundle):
        assert Processor(make_bundle(masks=adding_up(2)), 3).separate(noise(0, 3)).shape == (2, 3, 0)

    def test_any_other_model_gives_one_source(self, make_bundle):
        samples, bundle = noise(4000, 2), make_bundle(gain=0.5)
        np.testing.assert_array_equal(
            Processor(bundle, 2).separate(samples), Processor(bundle, 2).process(samples)[np.newaxis]
        )

    def test_only_one_microphone_can_be_separated(self, make_bundle):
        with pytest.raises(BundleError, match=r"2 channel\(s\) in and 2 out"):
            Processor(make_bundle(channels=2, masks=adding_up(2)), 2)


class TestGains:
    def test_a_source_that_is_muted_fades_within_20_ms_without_a_click(self, make_bundle):
        """A 200 Hz tone never steps by more between samples than a slightly louder tone would."""
        made = Processor(make_bundle(masks=constant(0.75, 0.25)), source_gains_db=(0, 0))
        tone = (0.5 * np.sin(2 * np.pi * 200 * np.arange(16000) / 16000)).astype(np.float32)
        parts, at = [], 0
        for end, gains in ((6001, (0, 0)), (9003, (MUTED_DB, 0)), (12007, (6, -20)), (16000, (-6, MUTED_DB))):
            made.controls.source_gains_db = gains
            parts.append(made.process(tone[at:end]))
            at = end
        out = np.concatenate(parts)
        steepest = 0.5 * 2 * np.pi * 200 / 16000
        expected_peak = 0.5 * (0.75 * 10 ** (6 / 20) + 0.25)
        assert np.abs(np.diff(out[1000:])).max() < 1.1 * steepest * expected_peak / 0.5
        for end, gain in ((6000, 1.0), (9000, 0.25), (12000, 0.75 * 1.9953 + 0.025), (16000, 0.75 * 0.5012)):
            part = out[end - 2400 : end]  # from about 40 ms after the change
            assert np.abs(part).max() == pytest.approx(0.5 * gain, rel=0.01)

    def test_the_gain_moves_sample_by_sample(self, make_bundle):
        """Of a constant, which is what the model hears, every step down is the same until silence."""
        made = Processor(make_bundle(masks=constant(1, 0)))
        made.process(np.full(4000, 0.5, np.float32))
        made.controls.source_gains_db = (MUTED_DB, 0)
        steps = -np.diff(made.process(np.full(400, 0.5, np.float32)))
        np.testing.assert_allclose(steps[:319], 0.5 / 320, atol=1e-5)
        np.testing.assert_allclose(steps[320:], 0, atol=1e-6)

    @pytest.mark.parametrize("gain_db", [20, -40])
    def test_a_loud_source_is_muted_as_fast_as_a_soft_one(self, make_bundle, gain_db):
        made = Processor(make_bundle(masks=constant(1, 0)), source_gains_db=(gain_db, 0))
        made.process(np.full(4000, 0.01, np.float32))
        made.controls.source_gains_db = (MUTED_DB, 0)
        found = made.process(np.full(400, 0.01, np.float32))
        gain = 10 ** (gain_db / 20)
        np.testing.assert_allclose(found[:319], 0.01 * gain * (1 - np.arange(1, 320) / 320), atol=1e-4 * gain)
        np.testing.assert_allclose(found[320:], 0, atol=1e-6)

    @pytest.mark.parametrize("channels", [1, 2])
    def test_gains_hold_from_the_first_sample_on(self, make_bundle, channels):
        made = Processor(make_bundle(masks=constant(1, 0)), channels, source_gains_db=(MUTED_DB, 0))
        assert np.abs(made.process(noise(4000, channels))).max() < 1e-6

    @pytest.mark.parametrize(
        ("gains", "told"),
        [
            ((0,), r"1 gain\(s\).*gives 2 sources; expected 2"),
            ((0, 0, 0), r"3 gain\(s\).*expected 2"),
            ((0, 21), "is 21; expected a number from -inf to 20"),
            ((0, np.nan), "nan"),
            ("ab", "'a'; expected a number"),
            (-12, "-12; expected a number for each source"),
        ],
    )
    def test_wrong_gains_are_told(self, make_bundle, gains, told):
        with pytest.raises(HearloopError, match=told):
            Processor(make_bundle(masks=adding_up(2)), source_gains_db=gains)

    def test_gains_of_a_model_of_one_source_are_told(self, make_bundle):
        with pytest.raises(HearloopError, match=r"2 gain.*'passthrough' does not separate"):
            Processor(make_bundle(), source_gains_db=(0, -12))
        with pytest.raises(HearloopError, match=r"1 gain\(s\); expected 0"):
            Processor(make_bundle()).controls.source_gains_db = (-6,)

    @pytest.mark.parametrize("gains", [np.array([0, -12]), np.array([0.0, -12.0]), [np.int16(0), -12]])
    def test_gains_may_be_numbers_of_numpy(self, make_bundle, gains):
        made = Processor(make_bundle(masks=adding_up(2)), source_gains_db=gains)
        assert made.controls.source_gains_db == (0, -12)

    def test_a_refused_change_changes_nothing(self, make_bundle):
        controls = Processor(make_bundle(masks=adding_up(2)), source_gains_db=(-6, 0)).controls
        for wrong in ((0,), (0, 30), (0, 0, 0), 0, np.array(0), np.zeros((2, 1))):
            with pytest.raises(HearloopError):
                controls.source_gains_db = wrong
        assert controls.source_gains_db == (-6, 0)
        np.testing.assert_allclose(controls.source_targets, [10 ** (-6 / 20), 1], rtol=1e-6)

    def test_controls_that_know_no_model_yet_keep_their_gains_for_it(self):
        controls = Controls(source_gains_db=(-6, MUTED_DB))
        controls.expect_sources(2, "any")
        np.testing.assert_allclose(controls.source_targets, [10 ** (-6 / 20), 0], rtol=1e-6)

    def test_controls_may_go_from_model_to_model(self):
        controls = Controls(source_gains_db=(-6, -3))
        controls.expect_sources(2, "any")
        targets = controls.source_targets
        controls.expect_sources(2, "another")
        assert controls.source_targets is targets
        assert controls.source_gains_db == (-6, -3)
        for sources, gains in ((1, ()), (3, (0, 0, 0)), (2, (0, 0))):
            controls.expect_sources(sources, "any")
            assert controls.source_gains_db == gains
            np.testing.assert_array_equal(controls.source_targets, np.ones(sources))


class TestOtherControls:
    def test_bypass_is_the_input_bit_for_bit_in_the_remix_and_in_every_source(self, make_bundle):
        bundle, samples = make_bundle(masks=adding_up(2)), noise(8000, 2)
        settings = {"bypass": True, "source_gains_db": (-20, MUTED_DB)}
        made = Processor(bundle, 2, 48000, **settings)
        latency = round(made.latency.total)
        np.testing.assert_array_equal(made.process(samples)[:, latency:], samples[:, :-latency])
        for source in Processor(bundle, 2, 48000, **settings).separate(samples):
            np.testing.assert_array_equal(source[:, latency:], samples[:, :-latency])

    @pytest.mark.parametrize(("control", "floor"), [({"attenuation_limit_db": 20.0}, 0.1), ({"mix": 0.7}, 0.3)])
    def test_the_dry_signal_is_mixed_to_the_remix(self, make_bundle, control, floor):
        """Both sources are muted: what is left is what no control takes away."""
        gains = (MUTED_DB, MUTED_DB)
        made = Processor(make_bundle(masks=adding_up(2)), sample_rate=48000, source_gains_db=gains, **control)
        samples, latency = noise(24000), round(made.latency.total)
        out = made.process(samples)[:, latency:]
        np.testing.assert_allclose(out, floor * samples[:, :-latency], atol=1e-6)

    @settings(max_examples=20)
    @given(seed=st.integers(0, 10**6), level=st.floats(0.01, 1e5), ceiling=st.floats(-40, 0), apart=st.booleans())
    def test_no_gain_passes_the_ceiling(self, make_bundle, seed, level, ceiling, apart):
        made = Processor(make_bundle(masks=adding_up(2)), 2, ceiling_dbfs=ceiling, source_gains_db=(20, 20))
        samples = level * noise(3000, 2, seed)
        samples[0, ::97] = np.inf
        out = (made.separate if apart else made.process)(samples)
        assert np.isfinite(out).all()
        assert np.abs(out).max() <= np.float32(10 ** (ceiling / 20))


class TestFaults:
    @pytest.mark.parametrize("rate", [16000, 48000])
    @pytest.mark.parametrize("channels", [1, 2])
    def test_a_failed_frame_is_shared_equally_so_that_nothing_is_lost(self, make_bundle, rate, channels):
        """The model fails in its 30th frame; the sum never shows it."""
        made = Processor(make_bundle(masks=constant(1, 0), fails_from=30), channels, rate)
        samples = noise(rate // 3, channels)
        apart, latency = made.separate(samples), round(made.latency.total)
        assert made.events["failed_frames"] == 1
        np.testing.assert_allclose(apart.sum(0)[:, latency:], samples[:, :-latency], atol=1e-5)
        if rate == 16000:
            failed = slice(30 * 128, 30 * 128 + 64)  # inside the flat part of the failed frame
            for source in apart[..., latency:]:
                np.testing.assert_allclose(source[:, failed], samples[:, failed] / 2, atol=1e-5)

    @pytest.mark.parametrize("gains", [(0, 0), (0, MUTED_DB), (-12, 6)])
    def test_a_failing_model_does_not_click(self, make_bundle, gains):
        made = Processor(make_bundle(masks=constant(0.75, 0.25), fails_from=20), source_gains_db=gains)
        tone = (0.3 * np.sin(2 * np.pi * 100 * np.arange(128 * 70) / 16000)).astype(np.float32)
        out = made.process(tone)[1000:]
        assert made.events["failed_frames"] == 3
        assert np.abs(np.diff(out)).max() < 0.3 * 2 * np.pi * 100 / 16000 * 1.2

    def test_silence_and_one_talker_make_no_second_one(self, make_bundle):
        """Silence gives exact silence, and what the model gives to one source alone is not heard in the other."""
        made = Processor(make_bundle(masks=constant(1, 0)), 2, 48000)
        assert not made.separate(np.zeros((2, 20000), np.float32)).any()
        first, second = made.separate(noise(48000, 2))[..., 15000:]
        assert level_db(second) < level_db(first) - 60
