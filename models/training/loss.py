"""What training minimises: distances of spectra and ratios of waveforms, for one target or for several in any order."""

from dataclasses import dataclass
from itertools import permutations
from typing import ClassVar

import torch

from ...runtime.errors import HearloopError
from ..frontend import Stft
from .metrics import si_sdr_db

COMPRESSION = 0.3
COMPLEX_WEIGHT, MAGNITUDE_WEIGHT = 10.0, 25.0
LARGEST_RATIO_DB = 30.0  # beyond this an item is solved and shall not pull any more
SILENT_ENERGY = 1e-9
LEAST_POWER = 1e-7  # of a bin, at unit RMS: where compression ends, so that its gradient stays finite


@dataclass(frozen=True)
class LossWeights:
    """How much each term counts.

    spectral : distance of compressed spectra; si_sdr : negative SI-SDR; snr : negative SNR, which knows the level
    largest_snr_db : where the SNR saturates. The less error an item has left, the more it pulls for each bit of it: a
        voice alone, at 30 dB, a hundred times as much as one among others at 10 dB
    resolutions : lengths of the transforms, in samples, that the spectral term averages over, with a hop of a quarter;
        none: the window pair of the model alone
    """

    terms: ClassVar[tuple[str, ...]] = ("spectral", "si_sdr", "snr")  # of which one must count
    spectral: float = 1.0
    si_sdr: float = 1.0
    snr: float = 0.0
    largest_snr_db: float = LARGEST_RATIO_DB
    resolutions: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        weights = tuple(getattr(self, name) for name in self.terms)
        if min(weights) < 0 or max(weights) == 0:
            raise HearloopError(f"{', '.join(self.terms)} are {weights}; expected none below and one above zero")
        if self.largest_snr_db <= 0:
            raise HearloopError(f"largest_snr_db is {self.largest_snr_db}; expected more than 0")
        for length in self.resolutions:
            if length < 16 or length % 4:
                raise HearloopError(f"resolutions has {length}; expected a multiple of four samples, at least 16")


@dataclass(frozen=True)
class TargetLossWeights(LossWeights):
    """For target speech hearing, also terms of the embeddings of voices; see `voice_loss`.

    alignment : distance of the embedding of a noisy look from that of the same look without noise and others
    contrast, temperature : how badly a noisy look finds the clean look of its talker among those of the batch, and how
        much a difference in likeness counts there: the more, the lower
    whose : cross entropies of a network that looks for the direction of the voice: between directions in a scene, and
        between the voices of a batch, by what is heard from where each is
    told_share : of the items, in which it is told the true direction
    pauses : what is left of the mixture while the target is silent, in dB; see `ear_loss`
    level_difference, phase_difference : errors of the differences between the ears, in dB and from 0 to 2
    """

    alignment: float = 0.0
    contrast: float = 0.0
    temperature: float = 0.1
    whose: float = 0.0
    told_share: float = 0.0
    pauses: float = 0.0
    level_difference: float = 0.0
    phase_difference: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        ears = (self.pauses, self.level_difference, self.phase_difference)
        if min(ears) < 0:
            raise HearloopError(f"pauses, level_difference and phase_difference are {ears}; expected none below zero")
        if self.whose < 0 or not 0 <= self.told_share <= 1:
            raise HearloopError(
                f"whose is {self.whose}, told_share is {self.told_share}; expected zero or more, and at most one"
            )
        if self.alignment < 0 or self.contrast < 0 or self.temperature <= 0:
            found = (self.alignment, self.contrast, self.temperature)
            raise HearloopError(
                f"alignment, contrast and temperature are {found}; expected none below zero, and temperature above it"
            )


class Loss(torch.nn.Module):
    """The weighted sum of the terms, a mean over a batch.

    Each item is first scaled to a mixture of unit RMS, so that quiet items count as much as loud ones. Several targets
    may come out in any order: the loss is that of the best permutation of the whole item (Kolbaek et al. 2017).

    Parameters
    ----------
    weights : LossWeights
    window : str
        Window pair of the model.
    """

    def __init__(self, weights: LossWeights, window: str):
        super().__init__()
        self.weights = weights
        self.transforms = torch.nn.ModuleList(_Transform(length) for length in weights.resolutions)
        if not weights.resolutions:
            self.transforms.append(_Pair(window))

    def forward(self, estimate: torch.Tensor, target: torch.Tensor, mixture: torch.Tensor) -> torch.Tensor:
        """Estimate and target [batch, targets, samples], mixture [batch, samples], aligned; returns a scalar."""
        level = mixture.square().mean(-1, keepdim=True).clamp_min(SILENT_ENERGY).rsqrt()
        estimate, target, mixture = estimate * level[:, None], target * level[:, None], (mixture * level)[:, None]
        if target.shape[1] == 1:
            return self._each(estimate, target, mixture).mean()
        pairs = torch.broadcast_tensors(estimate[:, :, None], target[:, None], mixture[:, None])
        return permutation_invariant(self._each(*pairs)).mean()

    def _each(self, estimate: torch.Tensor, target: torch.Tensor, mixture: torch.Tensor) -> torch.Tensor:
        """[..., samples] -> [...]."""
        total = estimate.new_zeros(estimate.shape[:-1])
        if self.weights.spectral:
            distances = [spectral_distance(transform(estimate), transform(target)) for transform in self.transforms]
            total = total + self.weights.spectral * torch.stack(distances).mean(0)
        if self.weights.si_sdr:
            total = total + self.weights.si_sdr * negative_si_sdr_db(estimate, target)
        if self.weights.snr:
            total = total + self.weights.snr * negative_snr_db(estimate, target, mixture, self.weights.largest_snr_db)
        return total


def permutation_invariant(pairs: torch.Tensor) -> torch.Tensor:
    """Losses [batch, estimates, targets] -> [batch]: the mean over targets in the order for which it is smallest."""
    count = pairs.shape[-1]
    means = [
        torch.stack([pairs[:, row, column] for row, column in enumerate(order)]).mean(0)
        for order in permutations(range(count))
    ]
    return torch.stack(means).amin(0)


def spectral_distance(estimate: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Distance of spectra [..., T, F, 2] compressed to the power of 0.3, as complex numbers and as magnitudes: [...].

    Braun and Tashev, "A consolidated view of loss functions for supervised deep learning-based speech enhancement",
    2021.
    """
    estimate_magnitude, estimate_complex = _compressed(estimate)
    target_magnitude, target_complex = _compressed(target)
    complex_error = (estimate_complex - target_complex).square().mean((-3, -2, -1))
    magnitude_error = (estimate_magnitude - target_magnitude).square().mean((-2, -1))
    return COMPLEX_WEIGHT * 2 * complex_error + MAGNITUDE_WEIGHT * magnitude_error


def negative_si_sdr_db(estimate: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Negative SI-SDR, which saturates at 30 dB: [..., samples] -> [...].

    Where the target is silent it is what is left, in dB, at a mixture of unit RMS: there is no scale to hide behind.
    """
    silent = target.square().mean(-1) < SILENT_ENERGY
    remaining_db = 10 * torch.log10(estimate.square().mean(-1) + 1e-4)
    ratio_db = si_sdr_db(estimate, target)
    saturating_db = -10 * torch.log10(10 ** (-ratio_db / 10) + 10 ** (-LARGEST_RATIO_DB / 10))
    return torch.where(silent, remaining_db, -saturating_db)


def negative_snr_db(
    estimate: torch.Tensor, target: torch.Tensor, mixture: torch.Tensor, largest_db: float = LARGEST_RATIO_DB
) -> torch.Tensor:
    """Negative SNR, which saturates: [..., samples] -> [...].

    Where the target is absent it is the leakage, what is left of the mixture in dB, down to -largest_db. Wisdom et al.,
    "What's all the fuss about free universal sound separation data?", ICASSP 2021.
    """
    least = 10 ** (-largest_db / 10)
    error, energy = (target - estimate).square().mean(-1), target.square().mean(-1)
    whole = mixture.square().mean(-1) + SILENT_ENERGY
    absent = energy < SILENT_ENERGY
    leakage_db = 10 * torch.log10((estimate.square().mean(-1) + least * whole) / whole)
    # Both branches have a gradient: the one that is not taken must be finite as well.
    present = torch.where(absent, torch.ones_like(energy), energy)
    return torch.where(absent, leakage_db, 10 * torch.log10((error + least * present) / present))


def _compressed(spectrum: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    power = spectrum.square().sum(-1) + LEAST_POWER
    return power ** (COMPRESSION / 2), spectrum * power[..., None] ** ((COMPRESSION - 1) / 2)


class _Pair(torch.nn.Module):
    """The model's own analysis: [..., samples] -> [..., T, F, 2]."""

    def __init__(self, window: str):
        super().__init__()
        self.stft = Stft(window)

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        whole = audio.shape[-1] // self.stft.hop_length * self.stft.hop_length
        spectrum, _ = self.stft.analysis(audio[..., :whole].reshape(-1, 1, whole))
        return spectrum.reshape(*audio.shape[:-1], *spectrum.shape[2:])


class _Transform(torch.nn.Module):
    """A Hann-windowed transform of some length, at the level of the model's own: [..., samples] -> [..., T, F, 2]."""

    def __init__(self, length: int):
        super().__init__()
        self.length = length
        self.register_buffer("window", torch.hann_window(length), persistent=False)
        self.window: torch.Tensor

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        flat = audio.reshape(-1, audio.shape[-1])
        spectrum = torch.stft(flat, self.length, self.length // 4, window=self.window, return_complex=True)
        return torch.view_as_real(spectrum.transpose(1, 2)).reshape(*audio.shape[:-1], *spectrum.mT.shape[1:], 2)
