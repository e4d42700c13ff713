"""A small loudspeaker at its limits."""

import numpy as np
from scipy.signal import sosfilt

from .equalisation import pass_filter, peak


def play(rng: np.random.Generator, signal: np.ndarray, drive: float) -> np.ndarray:
    """What a loudspeaker makes of a signal [n] of any level, float32 [n] at about the same level.

    A box that plays no bass and has a resonance; a cone that saturates, more on one side; and a resonance again
    (a Hammerstein-Wiener model: memory, curve, memory). `drive` is the RMS of the signal over the level at which the
    cone reaches its end; 0 is a linear loudspeaker.
    """
    box = [pass_filter(rng.uniform(80, 400), high=True), peak(rng.uniform(300, 3000), rng.uniform(0, 8), 1.5)]
    moved = sosfilt(np.array(box, np.float32), signal)
    level = float(np.sqrt(np.mean(moved**2)))
    if drive > 0 and level > 0:
        offset = rng.uniform(-0.3, 0.3)
        cone = moved * np.float32(drive / level) + np.float32(offset)
        hardness = np.float32(np.exp(rng.uniform(np.log(1), np.log(6))))
        # |x| / (1 + |x| ** p) ** (1 / p): p of 1 bends early, a large p is a hard stop.
        size = np.abs(cone)
        moved = cone / (1 + size**hardness) ** (1 / hardness)
        moved = (moved - moved.mean()) * np.float32(level / max(float(moved.std()), 1e-12))
    sections = [peak(rng.uniform(800, 5000), rng.uniform(-6, 6), 2.0), pass_filter(20.0, high=True)]
    return sosfilt(np.array(sections, np.float32), moved).astype(np.float32)
