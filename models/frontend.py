"""The front end as a torch module: streaming STFT and overlap-add with explicit state, for training and export."""

from functools import cache

import torch
from torch import nn
from torch.nn import functional

from ..runtime.errors import AudioError
from ..runtime.windows import window_pair


class Stft(nn.Module):
    """Analysis and synthesis with a window pair of `hearloop.runtime.windows`.

    Frame t is the windowed real FFT of the n_fft samples that end with sample hop_length * (t + 1); before the start
    the signal is zero. Analysis followed by synthesis delays by `lookahead` samples and changes nothing else.

    Parameters
    ----------
    window : str
        Name of the pair, such as "asymmetric-512-192".
    """

    def __init__(self, window: str):
        super().__init__()
        pair = window_pair(window)
        self.n_fft, self.hop_length, self.lookahead, self.bins = pair.n_fft, pair.hop_length, pair.lookahead, pair.bins
        self.register_buffer("analysis_window", torch.from_numpy(pair.analysis).float(), persistent=False)
        self.register_buffer("synthesis_window", torch.from_numpy(pair.synthesis).float(), persistent=False)
        self.analysis_window: torch.Tensor
        self.synthesis_window: torch.Tensor

    def analysis(self, audio: torch.Tensor, state: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Audio [B, C, N] -> spectrum [B, C, N / hop_length, bins, 2], and the last n_fft - hop_length samples.

        Raises
        ------
        AudioError
            If N is not a whole number of frames.
        """
        batch, channels, samples = audio.shape
        if samples % self.hop_length:
            raise AudioError(f"audio has {samples} samples, expected a multiple of the hop of {self.hop_length}")
        if state is None:
            state = audio.new_zeros(batch, channels, self.n_fft - self.hop_length)
        audio = torch.cat([state, audio], dim=-1)
        segments = audio.unfold(-1, self.n_fft, self.hop_length) * self.analysis_window
        return torch.view_as_real(torch.fft.rfft(segments)), audio[..., samples:]

    def synthesis(self, spectrum: torch.Tensor, state: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Spectrum [B, C, T, bins, 2] -> audio [B, C, hop_length * T], and the ramp that waits for the next frame."""
        batch, channels, frames = spectrum.shape[:3]
        if state is None:
            state = spectrum.new_zeros(batch, channels, self.lookahead)
        segments = torch.fft.irfft(torch.view_as_complex(spectrum.contiguous()), self.n_fft)
        segments = segments[..., -len(self.synthesis_window) :] * self.synthesis_window
        body, tail = segments[..., : self.hop_length], segments[..., self.hop_length :]
        waiting = torch.cat([state.unsqueeze(2), tail], dim=2)
        audio = body + functional.pad(waiting[:, :, :-1], (0, self.hop_length - self.lookahead))
        return audio.reshape(batch, channels, frames * self.hop_length), waiting[:, :, -1]


@cache
def stft_on(device: torch.device, window: str) -> Stft:
    """The front end on a device, once and for all: a step of training that copies windows there cannot be recorded."""
    # It outlasts the call: made in inference mode, it could not be trained through later.
    with torch.inference_mode(False):
        return Stft(window).to(device)


def enhance(model: nn.Module, audio: torch.Tensor, *given: torch.Tensor) -> torch.Tensor:
    """Run a whole signal through an STFT model, without its delay.

    Parameters
    ----------
    model : nn.Module
        With `window`, `initial_state(batch)` and `forward(spectrum, *given, state)`.
    audio : Tensor, float32, shape (batch, channels, samples)
        Any number of samples, at the rate of the model.
    *given : Tensor
        What the model takes beside the spectrum, such as the map of a voice.

    Returns
    -------
    Tensor of the same number of samples: sample n of the output belongs to sample n of the input.
    """
    spectrum, late = spectrum_for(model, audio)
    enhanced, _ = model(spectrum, *given, model.initial_state(len(audio)))
    delayed, _ = stft_on(audio.device, str(model.window)).synthesis(enhanced)
    return delayed[..., late : late + audio.shape[-1]]


def spectrum_for(model: nn.Module, audio: torch.Tensor) -> tuple[torch.Tensor, int]:
    """What a model hears of a whole signal [B, C, N], [B, C, T, F, 2], and by how many samples its output is late."""
    stft = stft_on(audio.device, str(model.window))
    # The synthesis delays by the lookahead, and layers that look ahead do too: as many more samples must go in before
    # the last one comes out.
    late = stft.lookahead + stft.hop_length * int(getattr(model, "lookahead_frames", 0))
    spectrum, _ = stft.analysis(functional.pad(audio, (0, late + -(audio.shape[-1] + late) % stft.hop_length)))
    return spectrum, late
