"""What training minimises."""

import torch

from ..frontend import Stft
from .metrics import si_sdr_db

COMPRESSION = 0.3
COMPLEX_WEIGHT, MAGNITUDE_WEIGHT, WAVEFORM_WEIGHT = 10.0, 25.0, 1.0
LARGEST_SI_SDR_DB = 30.0  # beyond this an item is solved and shall not pull any more
SILENT_ENERGY = 1e-9
LEAST_POWER = 1e-7  # of a bin, at unit RMS: where compression ends, so that its gradient stays finite


class EnhancementLoss(torch.nn.Module):
    """Compressed spectral distance plus negative SI-SDR, the mean over a batch.

    The spectra (of the window pair `window`) are compressed to the power of 0.3 and compared as complex numbers and as
    magnitudes (Braun and Tashev 2021). Each item is first scaled to a mixture of unit RMS, so that
    quiet items count as much as loud ones. Where the target is silent the SI-SDR part is replaced by what is left of
    the mixture in dB, which has no best scale to hide behind.
    """

    def __init__(self, window: str):
        super().__init__()
        self.stft = Stft(window)

    def forward(self, estimate: torch.Tensor, target: torch.Tensor, noisy: torch.Tensor) -> torch.Tensor:
        """All three float32 [batch, samples], aligned; returns a scalar."""
        level = noisy.square().mean(-1, keepdim=True).clamp_min(SILENT_ENERGY).rsqrt()
        estimate, target = estimate * level, target * level
        return self._spectral(estimate, target) + WAVEFORM_WEIGHT * self._waveform(estimate, target)

    def _spectral(self, estimate: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        estimate_magnitude, estimate_complex = self._compressed(estimate)
        target_magnitude, target_complex = self._compressed(target)
        complex_error = (estimate_complex - target_complex).square().mean()
        magnitude_error = (estimate_magnitude - target_magnitude).square().mean()
        return COMPLEX_WEIGHT * 2 * complex_error + MAGNITUDE_WEIGHT * magnitude_error

    def _compressed(self, audio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        spectrum, _ = self.stft.analysis(audio[:, None])
        power = spectrum.square().sum(-1) + LEAST_POWER
        return power ** (COMPRESSION / 2), spectrum * power[..., None] ** ((COMPRESSION - 1) / 2)

    def _waveform(self, estimate: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        silent = target.square().mean(-1) < SILENT_ENERGY
        remaining_db = 10 * torch.log10(estimate.square().mean(-1) + 1e-4)
        ratio_db = si_sdr_db(estimate, target)
        saturating_db = -10 * torch.log10(10 ** (-ratio_db / 10) + 10 ** (-LARGEST_SI_SDR_DB / 10))
        return torch.where(silent, remaining_db, -saturating_db).mean()
