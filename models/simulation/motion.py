"""How a head turns and how talkers walk: smooth courses of an angle."""

import numpy as np

from .corpus import SAMPLE_RATE

FINE_HOP = 512  # 32 ms: at 60 degrees a second the direct sound moves by 2 degrees from knot to knot
COARSE_HOP = 8192  # half a second: the ear does not follow a single reflection


def course(rng: np.random.Generator, length: int, fastest_deg_per_s: float) -> np.ndarray:
    """An angle in degrees every `FINE_HOP` samples that starts at zero, rests and turns, float [knots].

    It never moves faster than `fastest_deg_per_s`.
    """
    time_s = np.arange(0, length + FINE_HOP, FINE_HOP) / SAMPLE_RATE
    points_s, angles_deg = [0.0], [0.0]
    while points_s[-1] < time_s[-1]:
        lasts_s = rng.uniform(0.5, 2.5)
        # A turn along half a cosine is pi / 2 times as fast in its middle as in the mean.
        largest_deg = fastest_deg_per_s * lasts_s * 2 / np.pi
        points_s.append(points_s[-1] + lasts_s)
        angles_deg.append(angles_deg[-1] + rng.uniform(-1, 1) * largest_deg * (rng.random() < 0.7))
    segment = np.searchsorted(points_s, time_s, side="right") - 1
    segment = np.minimum(segment, len(points_s) - 2)
    starts, ends = np.array(points_s)[segment], np.array(points_s)[segment + 1]
    progress = 0.5 - 0.5 * np.cos(np.pi * (time_s - starts) / (ends - starts))
    return np.array(angles_deg)[segment] * (1 - progress) + np.array(angles_deg)[segment + 1] * progress
