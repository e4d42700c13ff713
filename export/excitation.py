"""A test signal that moves a model through what it meets in use: voice, noise, silence, and jumps in level."""

import numpy as np


def excitation(samples: int, sample_rate: int = 16000, seed: int = 0) -> np.ndarray:
    """Speech-like sound: harmonics that glide and pulse at the rate of syllables, noise, levels that jump.

    Returns
    -------
    ndarray, float32, shape (samples,), within full scale.
    """
    rng = np.random.default_rng(seed)
    time_s = np.arange(samples) / sample_rate
    pitch_hz = 140 + 40 * np.sin(2 * np.pi * 0.7 * time_s)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / sample_rate
    voice = sum(np.sin(k * phase + rng.uniform(0, 6)) / k for k in range(1, 20))
    syllables = np.clip(np.sin(2 * np.pi * 4 * time_s + 0.3), 0, None)
    sound = 0.1 * voice * syllables + 0.02 * rng.standard_normal(samples)
    # Sections of 24 ms, so that the first frames already meet jumps of 30 dB; three silent ones outlast any window.
    pattern = np.array([1.0, 0.1, 3.0, 1.0, 0.0, 0.0, 0.0, 0.3])
    level = pattern[np.arange(samples) // int(0.024 * sample_rate) % len(pattern)]
    return np.clip(sound * level, -1, 1).astype(np.float32)
