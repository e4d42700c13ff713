import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearloop.runtime.errors import HearloopError
from hearloop.runtime.frontend import Analysis, Synthesis
from hearloop.runtime.windows import WINDOW_PAIRS, window_pair

PAIRS = list(WINDOW_PAIRS.values())


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_windows_overlap_and_add_to_one(pair):
    product, hop = pair.synthesis * pair.analysis[-len(pair.synthesis) :], pair.hop_length
    total = np.zeros(10 * hop + len(product))
    for frame in range(10):
        total[frame * hop : frame * hop + len(product)] += product
    np.testing.assert_allclose(total[pair.lookahead : 10 * hop], 1, atol=1e-12)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
@given(seed=st.integers(0, 1000), channels=st.integers(1, 3), frames=st.integers(1, 12), level=st.floats(1e-4, 1))
def test_analysis_and_synthesis_reconstruct_perfectly_after_the_lookahead(pair, seed, channels, frames, level):
    hop = pair.hop_length
    audio = np.random.default_rng(seed).uniform(-level, level, (channels, frames * hop)).astype(np.float32)
    analysis, synthesis = Analysis(pair, channels), Synthesis(pair, channels)
    spectrum, frame = np.zeros((channels, pair.bins), np.complex64), np.zeros((channels, hop), np.float32)
    out = []
    for start in range(0, audio.shape[1], hop):
        analysis.step(audio[:, start : start + hop], spectrum)
        synthesis.step(spectrum, frame)
        out.append(frame.copy())
    delayed = np.concatenate(out, axis=1)
    np.testing.assert_allclose(delayed[:, pair.lookahead :], audio[:, : -pair.lookahead], atol=1e-6 * level)
    np.testing.assert_allclose(delayed[:, : pair.lookahead], 0, atol=1e-6 * level)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_a_spectrum_is_the_windowed_transform_of_the_newest_samples(pair, rng):
    hop = pair.hop_length
    audio = rng.standard_normal((1, 8 * hop)).astype(np.float32)
    analysis, spectrum = Analysis(pair, 1), np.zeros((1, pair.bins), np.complex64)
    padded = np.concatenate([np.zeros(pair.n_fft), audio[0]])
    for frame in range(8):
        analysis.step(audio[:, frame * hop : (frame + 1) * hop], spectrum)
        newest = padded[(frame + 1) * hop :][: pair.n_fft]
        np.testing.assert_allclose(spectrum[0], np.fft.rfft(pair.analysis * newest), atol=2e-5)


def test_an_unknown_window_pair_is_named_with_what_is_offered():
    with pytest.raises(HearloopError, match=r"'hann'.*symmetric-192, asymmetric-512-192"):
        window_pair("hann")
