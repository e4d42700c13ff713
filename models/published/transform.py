"""The centred transform of systems that hear a whole recording, as convolutions: real numbers and any length."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class CentredTransform(nn.Module):
    """What `torch.stft` and `torch.istft` compute with a periodic Hann window and mirrored ends.

    In ONNX an inverse transform does not exist and complex numbers hardly do; convolutions with cosines and sines are
    the same, and beside the networks their cost does not count.

    Parameters
    ----------
    n_fft, hop_length : int
        In samples.
    """

    def __init__(self, n_fft: int, hop_length: int):
        super().__init__()
        self.n_fft, self.hop_length = n_fft, hop_length
        time, bins = np.arange(n_fft), n_fft // 2 + 1
        window = 0.5 - 0.5 * np.cos(2 * np.pi * time / n_fft)
        waves = np.exp(-2j * np.pi * np.arange(bins)[:, None] * time / n_fft)
        # The lowest and the highest bin are real: exactly, so that their phase is 0 or pi and never -pi.
        waves[[0, -1]] = waves[[0, -1]].real
        # Every bin between them stands for two, itself and its mirror image.
        share = np.where(np.arange(bins) % (bins - 1) == 0, 1, 2)[:, None] / n_fft
        for name, filters in (("to_bins", waves), ("from_bins", share * waves)):
            parts = window * np.concatenate([filters.real, filters.imag])
            self.register_buffer(name, torch.from_numpy(parts).float().unsqueeze(1), persistent=False)
        self.register_buffer("power", torch.from_numpy(window**2).float()[None, None], persistent=False)
        self.to_bins: torch.Tensor
        self.from_bins: torch.Tensor
        self.power: torch.Tensor

    def analysis(self, audio: torch.Tensor) -> torch.Tensor:
        """Audio [B, samples] -> real and imaginary parts [B, 2, bins, T]; T = samples // hop_length + 1."""
        half = self.n_fft // 2
        mirrored = functional.pad(audio.unsqueeze(1), (half, half), mode="reflect")
        return functional.conv1d(mirrored, self.to_bins, stride=self.hop_length).unflatten(1, (2, -1))

    def synthesis(self, spectrum: torch.Tensor, samples: int) -> torch.Tensor:
        """Real and imaginary parts [B, 2, bins, T] -> audio [B, samples]."""
        kept = slice(self.n_fft // 2, self.n_fft // 2 + samples)
        added = functional.conv_transpose1d(spectrum.flatten(1, 2), self.from_bins, stride=self.hop_length)[..., kept]
        frames = torch.ones_like(spectrum[:1, :1, 0])
        weight = functional.conv_transpose1d(frames, self.power, stride=self.hop_length)[..., kept]
        return (added / weight).squeeze(1)
