"""Bands on the mel scale, as encoders of voices hear them."""

import numpy as np
import torch

# Slaney, "Auditory toolbox", 1998: linear below 1 kHz, then 27 steps for a factor of 6.4.
HZ_PER_MEL, KNEE_HZ, KNEE_MEL = 200 / 3, 1000.0, 15.0
LOG_STEP = np.log(6.4) / 27


def mel_filters(bins: int, bands: int, sample_rate: int) -> torch.Tensor:
    """Overlapping triangles of unit area in Hz, evenly spaced on Slaney's mel scale from zero to half the sample rate.

    Returns
    -------
    Tensor, float32, shape (bins, bands).
    """
    highest = KNEE_MEL + np.log(sample_rate / 2 / KNEE_HZ) / LOG_STEP
    mels = np.linspace(0, highest, bands + 2)
    edges_hz = np.where(mels < KNEE_MEL, mels * HZ_PER_MEL, KNEE_HZ * np.exp(LOG_STEP * (mels - KNEE_MEL)))
    low, centre, high = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    bins_hz = np.linspace(0, sample_rate / 2, bins)[:, None]
    triangles = np.minimum((bins_hz - low) / (centre - low), (high - bins_hz) / (high - centre)).clip(min=0)
    return torch.from_numpy(2 / (high - low) * triangles).float()
