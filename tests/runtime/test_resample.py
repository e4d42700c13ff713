from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearloop.runtime.errors import AudioError
from hearloop.runtime.resample import LONGEST_CHUNK, Resampler, produced, ratio

RATES = [(48000, 16000), (16000, 48000), (44100, 16000), (16000, 44100), (8000, 16000), (22050, 16000), (96000, 16000)]


def convert(resampler: Resampler, samples: np.ndarray, cuts=()) -> np.ndarray:
    out, parts = np.zeros((len(samples), resampler.longest_output()), np.float32), []
    edges = [0, *sorted(cuts), samples.shape[1]]
    for start, stop in pairwise(edges):
        for chunk in range(start, stop, LONGEST_CHUNK):
            count = resampler.process(samples[:, chunk : min(chunk + LONGEST_CHUNK, stop)], out)
            parts.append(out[:, :count].copy())
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize("rates", RATES)
@given(cuts=st.lists(st.integers(0, 3000), max_size=12), seed=st.integers(0, 100))
def test_any_split_of_the_input_gives_the_same_output(rates, cuts, seed):
    samples = np.random.default_rng(seed).standard_normal((2, 3000)).astype(np.float32)
    whole = convert(Resampler(2, *rates), samples)
    split = convert(Resampler(2, *rates), samples, cuts)
    np.testing.assert_array_equal(split, whole)
    assert whole.shape[1] == produced(3000, *ratio(*rates))


@pytest.mark.parametrize("rates", RATES)
@pytest.mark.parametrize("frequency_hz", [0, 100, 1000, 3000])
def test_a_tone_comes_out_with_its_level_and_exactly_the_stated_delay(rates, frequency_hz):
    rate_in, rate_out = rates
    resampler = Resampler(1, rate_in, rate_out)
    phase = 2 * np.pi * frequency_hz
    samples = np.cos(phase * np.arange(rate_in // 4) / rate_in).astype(np.float32)[np.newaxis]
    out = convert(resampler, samples)[0]
    time = np.arange(len(out)) / rate_out - resampler.delay_in / rate_in
    settled = slice(rate_out // 50, None)
    # -60 dB: images and ripple of a filter kept short for the sake of delay
    np.testing.assert_allclose(out[settled], np.cos(phase * time)[settled], atol=2e-3)


def test_what_the_lower_rate_cannot_hold_is_rejected():
    samples = np.sin(2 * np.pi * 12000 * np.arange(24000) / 48000).astype(np.float32)[np.newaxis]
    out = convert(Resampler(1, 48000, 16000), samples)
    assert 20 * np.log10(np.abs(out[:, 1000:]).max()) < -55


@pytest.mark.parametrize("rates", RATES)
def test_chunks_may_be_as_long_as_was_said(rates, rng):
    samples = rng.standard_normal((3, 5000)).astype(np.float32)
    resampler = Resampler(3, *rates, longest=5000)
    out = np.zeros((3, resampler.longest_output()), np.float32)
    count = resampler.process(samples, out)
    np.testing.assert_array_equal(out[:, :count], convert(Resampler(3, *rates), samples))


@pytest.mark.parametrize("rate", [0, -16000, 191_999, 2_822_400, 2_000_000_011])
def test_nonsense_rates_are_refused(rate):
    with pytest.raises(AudioError, match=f"{rate} and 16000 Hz"):
        Resampler(1, rate, 16000)


def test_no_rate_that_sound_has_is_refused():
    for rate in [*range(1, 100_001), *range(100_000, 1_000_001, 25)]:
        assert max(ratio(rate, 16000)) <= 100_000
