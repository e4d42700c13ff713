"""Powers, levels and the gains between them."""

import numpy as np

HIGHEST_PEAK = 0.99
SILENT_POWER = 1e-10


def power(audio: np.ndarray) -> float:
    """Mean square over all samples and channels."""
    flat = audio.reshape(-1)
    return float(np.dot(flat, flat)) / len(flat)


def gain_to_level(audio: np.ndarray, level_dbfs: float, may_clip: bool = False) -> np.float32:
    """The gain that brings audio to an RMS level, less if its peaks would leave -1..1; one for silence."""
    found = power(audio)
    if found < SILENT_POWER:
        return np.float32(1)
    gain = 10 ** (level_dbfs / 20) / np.sqrt(found)
    return np.float32(gain if may_clip else min(gain, HIGHEST_PEAK / np.max(np.abs(audio))))


def gain_to_ratio(reference: np.ndarray, other: np.ndarray, ratio_db: float) -> np.float32:
    """The gain of `other` that puts `reference` `ratio_db` above it; one if either is silent."""
    powers = power(reference), power(other)
    if min(powers) < SILENT_POWER:
        return np.float32(1)
    return np.float32(np.sqrt(powers[0] / powers[1]) * 10 ** (-ratio_db / 20))
