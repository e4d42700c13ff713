"""The torch front end against the definition of the streaming STFT."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hearloop.models.frontend import Stft, enhance, stft_on
from hearloop.runtime.errors import AudioError, HearloopError
from hearloop.runtime.windows import WINDOW_PAIRS


class PassThrough(nn.Module):
    """A model that changes nothing and remembers nothing."""

    def __init__(self, window: str):
        super().__init__()
        self.window = window

    def initial_state(self, batch: int) -> dict:
        return {}

    def forward(self, spectrum: torch.Tensor, state: dict) -> tuple[torch.Tensor, dict]:
        return spectrum, state


@pytest.fixture(scope="module", params=WINDOW_PAIRS)
def window(request) -> str:
    return request.param


def test_the_spectrum_is_that_of_the_samples_that_end_with_the_frame(window, tolerances):
    pair, hop = WINDOW_PAIRS[window], WINDOW_PAIRS[window].hop_length
    audio = np.random.default_rng(0).standard_normal((2, 3, 20 * hop)).astype(np.float32)
    spectrum, _ = Stft(window).analysis(torch.from_numpy(audio))
    padded = np.concatenate([np.zeros((2, 3, pair.n_fft), np.float32), audio], axis=-1)
    for frame in range(20):
        end = pair.n_fft + hop * (frame + 1)
        expected = np.fft.rfft(pair.analysis * padded[..., end - pair.n_fft : end])
        found = spectrum[:, :, frame].numpy()
        assert (
            np.abs(found[..., 0] + 1j * found[..., 1] - expected).max()
            <= tolerances["front end"] * np.abs(expected).max()
        )


def test_synthesis_is_windowed_overlap_add(window, tolerances):
    pair, hop = WINDOW_PAIRS[window], WINDOW_PAIRS[window].hop_length
    length = len(pair.synthesis)
    rng = np.random.default_rng(1)
    spectrum = rng.standard_normal((9, pair.bins, 2)).astype(np.float32)
    audio, _ = Stft(window).synthesis(torch.from_numpy(spectrum)[None, None])
    expected = np.zeros(8 * hop + length)
    for frame in range(9):
        segment = np.fft.irfft(spectrum[frame, :, 0] + 1j * spectrum[frame, :, 1], pair.n_fft)
        expected[frame * hop : frame * hop + length] += segment[-length:] * pair.synthesis
    error = np.abs(audio[0, 0].numpy() - expected[: 9 * hop]).max()
    assert error <= tolerances["front end"] * np.abs(expected).max()


def test_analysis_and_synthesis_only_delay(window, tolerances):
    stft = Stft(window)
    audio = torch.rand(2, 2, 50 * stft.hop_length) * 2 - 1
    delayed, _ = stft.synthesis(stft.analysis(audio)[0])
    assert (delayed[..., stft.lookahead :] - audio[..., : -stft.lookahead]).abs().max() <= tolerances["front end"]
    assert delayed[..., : stft.lookahead].abs().max() <= tolerances["front end"]


@settings(max_examples=25)
@given(frames=st.lists(st.integers(1, 9), min_size=1, max_size=8), seed=st.integers(0, 99))
def test_every_split_of_the_signal_gives_the_same_spectrum_and_sound(window, tolerances, frames, seed):
    stft = Stft(window)
    audio = torch.randn(2, 1, stft.hop_length * sum(frames), generator=torch.Generator().manual_seed(seed))
    whole, _ = stft.analysis(audio)
    sound, _ = stft.synthesis(whole)
    memory, ramp, spectra, sounds = None, None, [], []
    for chunk in audio.split([stft.hop_length * count for count in frames], dim=-1):
        spectrum, memory = stft.analysis(chunk, memory)
        part, ramp = stft.synthesis(spectrum, ramp)
        spectra.append(spectrum)
        sounds.append(part)
    assert (torch.cat(spectra, dim=2) - whole).abs().max() <= tolerances["front end"] * whole.abs().max()
    assert (torch.cat(sounds, dim=2) - sound).abs().max() <= tolerances["front end"] * sound.abs().max()


@pytest.mark.parametrize("samples", [1, 63, 64, 65, 127, 128, 129, 192, 1000, 4096])
def test_a_whole_signal_comes_back_aligned_and_of_equal_length(window, samples, tolerances):
    audio = torch.rand(2, 1, samples) * 2 - 1
    assert (enhance(PassThrough(window), audio) - audio).abs().max() <= tolerances["front end"]


def test_gradients_reach_the_input_through_the_whole_chain(window):
    audio = torch.randn(1, 1, 1000, requires_grad=True)
    enhance(PassThrough(window), audio).square().sum().backward()
    assert torch.allclose(audio.grad, 2 * audio.detach(), atol=1e-4)


def test_a_front_end_that_was_first_used_in_inference_mode_can_be_trained_through(window):
    stft_on.cache_clear()
    audio = torch.randn(1, 1, 400)
    with torch.inference_mode():
        enhance(PassThrough(window), audio)
    audio.requires_grad_()
    enhance(PassThrough(window), audio).square().sum().backward()
    assert audio.grad is not None
    stft_on.cache_clear()


def test_a_part_of_a_frame_is_refused():
    with pytest.raises(AudioError, match=r"200 samples.*128"):
        Stft("symmetric-192").analysis(torch.zeros(1, 1, 200))


def test_an_unknown_window_is_refused_by_name():
    with pytest.raises(HearloopError, match=r"'hann'.*symmetric-192"):
        Stft("hann")
