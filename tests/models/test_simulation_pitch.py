"""The pitch of a voice: that of harmonic sounds, in noise as well, and none where there is none."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hearloop.models.simulation.corpus import SAMPLE_RATE
from hearloop.models.simulation.pitch import HIGHEST_HZ, LOWEST_HZ, median_pitch_hz

TIME_S = np.arange(SAMPLE_RATE) / SAMPLE_RATE


@settings(max_examples=30, deadline=None)
@given(
    pitch_hz=st.floats(LOWEST_HZ + 2, HIGHEST_HZ - 10),
    slope=st.floats(0.5, 1.5),
    seed=st.integers(0, 99),
    snr_db=st.floats(10, 40),
    gain=st.floats(1e-3, 1),
)
@example(pitch_hz=359.0, slope=0.5, seed=0, snr_db=10.0, gain=1.0)  # 44.6 samples, and 89.1 twice
def test_it_is_that_of_a_harmonic_sound(pitch_hz, slope, seed, snr_db, gain):
    rng = np.random.default_rng(seed)
    partials = np.arange(1, int(7000 / pitch_hz))
    phases = rng.uniform(0, 2 * np.pi, len(partials))
    sound = (np.cos(2 * np.pi * pitch_hz * partials * TIME_S[:, None] + phases) / partials**slope).sum(1)
    noise = rng.standard_normal(len(sound)) * sound.std() * 10 ** (-snr_db / 20)
    sound[4000:8000] = 0  # a pause, of noise alone
    assert median_pitch_hz((gain * (sound + noise)).astype(np.float32)) == pytest.approx(pitch_hz, rel=0.03)


@pytest.mark.parametrize("voice", [np.zeros(SAMPLE_RATE), np.zeros(3), np.random.default_rng(1).standard_normal(9000)])
def test_there_is_none_in_silence_in_noise_and_in_too_little(voice):
    assert np.isnan(median_pitch_hz(voice.astype(np.float32)))
