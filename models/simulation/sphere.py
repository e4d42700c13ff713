"""Heads made by formula: a rigid sphere with two ears.

Duda and Martens, "Range dependence of the response of a spherical head model", JASA 104 (1998), for a source far away:
interaural time and level differences are those of a person, up to the pinna. Enough to try things, and to test.
"""

import numpy as np
from scipy import fft
from scipy.special import eval_legendre, spherical_jn, spherical_yn

from .corpus import SAMPLE_RATE
from .directions import evenly_spread, unit_vectors
from .heads import Head
from .rooms import SPEED_OF_SOUND

EAR_AZIMUTH_DEG = 100.0  # ears sit a little behind the middle
POSITIONS = 600
SPHERE_TAPS = 96
ARRIVAL_SAMPLES = 24
TERMS = 40


def spherical_head(radius_m: float = 0.0875, positions: int = POSITIONS) -> Head:
    """A head of a radius, responses to directions all around; named by its radius."""
    vectors = np.concatenate([unit_vectors(np.arange(0, 360, 5)), evenly_spread(positions)])
    ears = unit_vectors(np.array([EAR_AZIMUTH_DEG, -EAR_AZIMUTH_DEG]))
    size = 2 * SPHERE_TAPS
    frequency_hz = fft.rfftfreq(size, 1 / SAMPLE_RATE)
    spectra = _pressure(vectors @ ears.T, frequency_hz, radius_m)
    spectra *= np.exp(-2j * np.pi * frequency_hz * ARRIVAL_SAMPLES / SAMPLE_RATE)
    responses = fft.irfft(spectra, size)[..., :SPHERE_TAPS]
    azimuth_deg = np.degrees(np.arctan2(vectors[:, 1], vectors[:, 0])) % 360
    elevation_deg = np.degrees(np.arcsin(np.clip(vectors[:, 2], -1, 1)))
    return Head(f"sphere-{1000 * radius_m:.1f}mm", azimuth_deg, elevation_deg, responses.astype(np.float32))


def _pressure(cosine: np.ndarray, frequency_hz: np.ndarray, radius_m: float) -> np.ndarray:
    """Pressure on the sphere over that of the free field at its centre, [..., frequencies]; cosine of the incidence."""
    wave = np.maximum(2 * np.pi * frequency_hz * radius_m / SPEED_OF_SOUND, 1e-3)
    total = np.zeros((*cosine.shape, len(wave)), complex)
    for order in range(TERMS):
        slope = spherical_jn(order, wave, derivative=True) - 1j * spherical_yn(order, wave, derivative=True)
        total += (1j**order * (2 * order + 1)) * eval_legendre(order, cosine)[..., None] / slope
    return -1j * total / wave**2
