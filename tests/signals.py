"""Sounds to test with."""

import numpy as np


def noise(samples: int, channels: int = 1, seed: int = 1) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal((channels, samples))).astype(np.float32)


def voice(seed: int, seconds: float = 2.0) -> np.ndarray:
    """Syllables of harmonics: enough of an utterance for every measure."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(int(16000 * seconds)) / 16000
    sound = sum(np.sin(2 * np.pi * k * rng.uniform(100, 200) * time_s) / k for k in range(1, 15))
    return (0.1 * sound * (1 + np.sin(2 * np.pi * 4 * time_s)) / 2).astype(np.float32)


def clipped_share(audio: np.ndarray) -> float:
    """How many of the samples [..., samples] lie at the largest magnitude."""
    return float(np.mean(np.abs(audio) >= 0.9999 * np.abs(audio).max()))
