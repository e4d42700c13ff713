"""Noises that need no recording: coloured noise, mains and engine hum, clicks."""

import numpy as np
from scipy import fft

from .corpus import SAMPLE_RATE


def coloured_noise(rng: np.random.Generator, length: int) -> np.ndarray:
    """Gaussian noise whose power falls by 0 (white) to 9 dB per octave above 50 Hz, float32 [length]."""
    size = fft.next_fast_len(length, real=True)
    spectrum = fft.rfft(rng.standard_normal(size, np.float32))
    octaves = np.log2(np.maximum(np.arange(len(spectrum), dtype=np.float32) * SAMPLE_RATE / size, 50) / 50)
    spectrum *= np.exp2(-octaves * np.float32(rng.uniform(0, 9) / 6.02))
    return fft.irfft(spectrum, size)[:length]


def hum(rng: np.random.Generator, length: int) -> np.ndarray:
    """A fundamental of 45 to 400 Hz that wanders by up to 3 %, with up to 24 harmonics, float32 [length]."""
    fundamental_hz = np.exp(rng.uniform(np.log(45), np.log(400)))
    wander = 1 + rng.uniform(0, 0.03) * np.sin(2 * np.pi * (rng.uniform(0.1, 4) * _seconds(length) + rng.random()))
    phase = np.cumsum(2 * np.pi * fundamental_hz / SAMPLE_RATE * wander)
    harmonics = int(min(rng.integers(3, 25), 7600 // (1.03 * fundamental_hz)))
    decay = rng.uniform(0.3, 1.5)
    sound = np.zeros(length, np.float32)
    rotation = np.exp(1j * phase).astype(np.complex64)
    partial = np.ones(length, np.complex64)
    for order in range(1, harmonics + 1):
        partial = partial * rotation
        amplitude = np.complex64(order**-decay * rng.uniform(0.1, 1) * np.exp(2j * np.pi * rng.random()))
        sound += (partial * amplitude).real
    return sound


def clicks(rng: np.random.Generator, length: int) -> np.ndarray:
    """Impacts at random times: short decaying bursts, some of them ringing, float32 [length]."""
    sound = np.zeros(length, np.float32)
    for _ in range(1 + rng.poisson(rng.uniform(0.5, 8) * length / SAMPLE_RATE)):
        decay = SAMPLE_RATE * np.exp(rng.uniform(np.log(0.001), np.log(0.05)))
        size = min(int(6 * decay), length)
        time = np.arange(size, dtype=np.float32)
        burst = rng.standard_normal(size, np.float32) * np.float32(rng.random())
        burst += np.sin(np.float32(2 * np.pi * rng.uniform(150, 6000) / SAMPLE_RATE) * time) * np.float32(rng.random())
        start = int(rng.integers(length - size + 1))
        sound[start : start + size] += burst * np.exp(-time / np.float32(decay)) * np.float32(rng.uniform(0.1, 1))
    return sound


def _seconds(length: int) -> np.ndarray:
    return np.arange(length) / SAMPLE_RATE
