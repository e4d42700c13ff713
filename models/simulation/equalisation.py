"""Random tone colours: voices, noises and microphones never have the response of the training recordings."""

from collections.abc import Sequence

import numpy as np
from scipy.signal import sosfilt

from .corpus import SAMPLE_RATE

LOWEST_CUT_HZ, HIGHEST_CUT_HZ = 20.0, 180.0


def random_equaliser(rng: np.random.Generator, range_db: float) -> np.ndarray:
    """A low shelf, a high shelf, a peak and a high-pass in second-order sections, float32 [4, 6].

    The gains are uniform within +-range_db, the peak's within half of it; the high-pass stands for small microphones.
    """
    low_hz, high_hz = _log_uniform(rng, 100, 800), _log_uniform(rng, 1500, 6000)
    peak_hz, cut_hz = _log_uniform(rng, 200, 6000), _log_uniform(rng, LOWEST_CUT_HZ, HIGHEST_CUT_HZ)
    low_db, high_db, peak_db = rng.uniform(-range_db, range_db, 3)
    return np.array(
        [
            shelf(low_hz, low_db, high=False),
            shelf(high_hz, high_db, high=True),
            peak(peak_hz, peak_db / 2, quality=rng.uniform(0.5, 2)),
            pass_filter(cut_hz, high=True),
        ],
        np.float32,
    )


def random_band_limit(rng: np.random.Generator) -> np.ndarray:
    """A fourth-order low-pass between 3 and 7 kHz: telephones, cheap codecs, ears behind cloth; float32 [2, 6]."""
    cut_hz = rng.uniform(3000, 7000)
    return np.array([pass_filter(cut_hz, high=False, quality=q) for q in (0.541, 1.307)], np.float32)


def random_microphone(rng: np.random.Generator, range_db: float, band_limit_share: float) -> np.ndarray:
    """The response of a microphone: an equaliser, now and then with a band limit; float32 [sections, 6]."""
    response = random_equaliser(rng, range_db)
    return np.concatenate([response, random_band_limit(rng)]) if rng.random() < band_limit_share else response


def equalise(audio: np.ndarray, sections: np.ndarray) -> np.ndarray:
    """Filter audio [..., samples] by second-order sections [sections, 6], float32."""
    return sosfilt(sections.astype(audio.dtype), audio, axis=-1)


def shelf(corner_hz: float, gain_db: float, high: bool) -> list[float]:
    """Second-order shelf of slope 1 (Audio EQ Cookbook, W3C note 2021), [b0, b1, b2, 1, a1, a2]."""
    cosine, alpha = _cosine_alpha(corner_hz, np.sqrt(0.5))
    root = 10 ** (gain_db / 40)
    sign, rim = (-1 if high else 1), 2 * np.sqrt(root) * alpha
    sum_, difference = root + 1, (root - 1) * sign * cosine
    tilted = (root + 1) * sign * cosine
    return _normalised(
        [root * (sum_ - difference + rim), 2 * sign * root * (root - 1 - tilted), root * (sum_ - difference - rim)],
        [sum_ + difference + rim, -2 * sign * (root - 1 + tilted), sum_ + difference - rim],
    )


def peak(centre_hz: float, gain_db: float, quality: float) -> list[float]:
    """Peaking section (Audio EQ Cookbook), [b0, b1, b2, 1, a1, a2]."""
    cosine, alpha = _cosine_alpha(centre_hz, quality)
    root = 10 ** (gain_db / 40)
    return _normalised(
        [1 + alpha * root, -2 * cosine, 1 - alpha * root], [1 + alpha / root, -2 * cosine, 1 - alpha / root]
    )


def pass_filter(corner_hz: float, high: bool, quality: float = np.sqrt(0.5)) -> list[float]:
    """Second-order high-pass or low-pass (Audio EQ Cookbook), [b0, b1, b2, 1, a1, a2]."""
    cosine, alpha = _cosine_alpha(corner_hz, quality)
    sign = 1 if high else -1
    edge = (1 + sign * cosine) / 2
    return _normalised([edge, -2 * sign * edge, edge], [1 + alpha, -2 * cosine, 1 - alpha])


def _cosine_alpha(frequency_hz: float, quality: float) -> tuple[float, float]:
    angle = 2 * np.pi * frequency_hz / SAMPLE_RATE
    return float(np.cos(angle)), float(np.sin(angle) / (2 * quality))


def _normalised(numerator: Sequence[float], denominator: Sequence[float]) -> list[float]:
    return [value / denominator[0] for value in (*numerator, *denominator)]


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
