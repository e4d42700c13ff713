"""What a wearer notices beside ratios of whole items: sound where nobody should be heard, and shifted directions."""

import math

import torch
from torch.nn import functional

from ..frontend import stft_on
from ..whereabouts import SAMPLE_RATE
from .loss import SILENT_ENERGY

FRAME_SAMPLES = 128
SILENT = 1e-6  # of the power of the loudest frame of the target, -60 dB: nothing is said there
SETTLING_FRAMES = 12  # a tenth of a second, in which a model may still be closing
LEAST_LEAKAGE = 1e-3  # of the power, -30 dB: quiet enough
LOWEST_HZ = 200.0
ACTIVE = 1e-3  # of the power of the loudest band and frame, -30 dB: below it there is no direction to keep
SPECK = 1e-4  # of what is active: levels end there, so that silence has no gradient
TO_DB = 10 / math.log(10)


def pause_leakage_db(estimate: torch.Tensor, target: torch.Tensor, mixture: torch.Tensor) -> torch.Tensor:
    """What is left of the mixture while the target is silent, in dB, zero where it always speaks: [B, ears, N] -> [B].

    Not below -30 dB. A ratio of whole items hardly sees it: whatever leaks in a pause is small beside the errors in
    speech.
    """
    frames = target.shape[-1] // FRAME_SAMPLES

    def power(audio: torch.Tensor) -> torch.Tensor:
        cut = audio[..., : frames * FRAME_SAMPLES].unflatten(-1, (frames, FRAME_SAMPLES))
        return cut.square().mean((1, 3))

    said, heard = power(target), power(mixture)
    spoken = (said > SILENT * said.amax(-1, keepdim=True) + SILENT_ENERGY).to(said.dtype)
    lately = functional.max_pool1d(functional.pad(spoken, (SETTLING_FRAMES, 0)), SETTLING_FRAMES + 1, 1)
    silent = 1 - lately
    leaked, before = ((each * silent).mean(-1) for each in (power(estimate), heard))
    ratio = (leaked + LEAST_LEAKAGE * before + SILENT_ENERGY) / (before + SILENT_ENERGY)
    return TO_DB * ratio.log()


def interaural_errors(estimate: torch.Tensor, target: torch.Tensor, window: str) -> tuple[torch.Tensor, torch.Tensor]:
    """How far the differences between the ears are from those of the target: [B, 2, N] -> levels [B] and phases [B].

    Levels are the mean absolute error in dB over third-octave bands in frames where the target sounds there, whether
    they carry much of its energy or not: what is left of others, with their direction, is what is wrong there. Phases
    are those of the product of both ears in every bin, summed over the item: one minus the cosine of the error, 0 to 2,
    the mean over bins. Both are zero where the target says nothing.
    """
    stft = stft_on(target.device, window)
    whole = target.shape[-1] // stft.hop_length * stft.hop_length
    found, wanted = (stft.analysis(sound[..., :whole])[0] for sound in (estimate, target))
    bands = _third_octaves(stft.bins, SAMPLE_RATE / stft.n_fft, target.device)
    levels = [each.square().sum(-1) @ bands for each in (found, wanted)]  # [B, 2, T, bands]
    loudest = levels[1].amax(1)
    least = ACTIVE * loudest.amax((1, 2), keepdim=True)
    active = ((loudest > least) & (least > SILENT_ENERGY)).to(target.dtype)
    speck = (SPECK * least + SILENT_ENERGY)[:, None]
    differences = [(each + speck).log() for each in levels]
    off = TO_DB * (differences[0][:, 0] - differences[0][:, 1] - differences[1][:, 0] + differences[1][:, 1]).abs()
    level_db = (off * active).sum((1, 2)) / active.sum((1, 2)).clamp(min=1)
    products = [_product(each) for each in (found, wanted)]
    sizes = [each.square().sum(-1) + SILENT_ENERGY for each in products]
    agreement = (products[0] * products[1]).sum(-1) * (sizes[0] * sizes[1]).rsqrt()
    speaks = (active.sum((1, 2)) > 0).to(target.dtype)
    return level_db, (1 - agreement[:, 1:]).mean(-1) * speaks


def _product(spectrum: torch.Tensor) -> torch.Tensor:
    """The left ear times the conjugate of the right one, summed over time: [B, 2, T, bins, 2] -> [B, bins, 2]."""
    (a, b), (c, d) = (spectrum[:, ear].unbind(-1) for ear in (0, 1))
    return torch.stack([a * c + b * d, b * c - a * d], dim=-1).sum(1)


def _third_octaves(bins: int, bin_hz: float, device: torch.device) -> torch.Tensor:
    """Which bin belongs to which third of an octave from 200 Hz up: [bins, bands]; low bands may have no bin."""
    bands = int(3 * math.log2(bin_hz * (bins - 1) / LOWEST_HZ))
    frequencies = bin_hz * torch.arange(bins, device=device)[:, None]
    edges = LOWEST_HZ * 2 ** (torch.arange(bands + 1, device=device) / 3)
    return ((frequencies >= edges[:-1]) & (frequencies < edges[1:])).float()
