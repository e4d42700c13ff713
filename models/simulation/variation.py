"""Ways to make many noises of one: speed, direction of time, loudness over time, and limits of the equipment."""

import numpy as np
from scipy import fft

from .corpus import SAMPLE_RATE


def source_length(length: int, speed: float) -> int:
    """How many samples played at `speed` last `length` samples, rounded to a length that is fast to transform."""
    return fft.next_fast_len(max(round(length * speed), 16), real=True)


def change_speed(audio: np.ndarray, length: int) -> np.ndarray:
    """Play audio [n] faster or slower so that it lasts `length` samples; pitch moves along. Ends wrap around."""
    spectrum = fft.rfft(audio)
    return fft.irfft(spectrum[: length // 2 + 1], length) * np.float32(length / len(audio))


def random_loudness(rng: np.random.Generator, length: int, range_db: float) -> np.ndarray:
    """A smooth gain with a random course of 0.3 to 8 turns a second, float32 [length]."""
    points = 2 + int(np.exp(rng.uniform(np.log(0.3), np.log(8))) * length / SAMPLE_RATE)
    course_db = rng.uniform(-range_db, 0, points)
    fine_db = np.interp(np.linspace(0, points - 1, length // 64 + 2), np.arange(points), course_db)
    gain = 10 ** (fine_db / 20)
    return np.interp(np.arange(length), np.arange(len(gain)) * 64, gain).astype(np.float32)


def pause(rng: np.random.Generator, length: int) -> np.ndarray:
    """A gain that is one, but zero for 0.3 to 1.2 s somewhere, with ramps of 8 ms, float32 [length]."""
    ramp = 128
    size = min(int(rng.uniform(0.3, 1.2) * SAMPLE_RATE), length - 2 * ramp)
    gain = np.ones(length, np.float32)
    if size > 0:
        start = int(rng.integers(length - size - 2 * ramp + 1))
        fall = np.linspace(1, 0, ramp, dtype=np.float32)
        gain[start : start + size + 2 * ramp] = np.concatenate([fall, np.zeros(size, np.float32), fall[::-1]])
    return gain


def stretch(rng: np.random.Generator, length: int, lasts_s: tuple[float, float]) -> np.ndarray:
    """A gain that is one, but zero for a while of a random length somewhere, perhaps at an end, float32 [length]."""
    size = int(rng.uniform(*lasts_s) * SAMPLE_RATE)
    start = int(rng.integers(-size // 2, max(length - size // 2, 1 - size // 2)))
    return faded_gate(length, start, start + size)


def faded_gate(length: int, start: int, end: int, ramp: int = 128) -> np.ndarray:
    """A gain that is zero from `start` to `end` and one elsewhere, with ramps of 8 ms outside, float32 [length]."""
    time = np.arange(length, dtype=np.float32)
    return np.clip(np.maximum((start - time) / ramp, (time - end) / ramp), 0, 1).astype(np.float32)


def clip(audio: np.ndarray, share: float) -> np.ndarray:
    """Cut off the peaks that the loudest `share` of the samples reach, as an overloaded converter does.

    Float32 [..., samples]; all channels have one ceiling.
    """
    ceiling = np.quantile(np.abs(audio[..., ::16]), 1 - share)
    return np.clip(audio, -ceiling, ceiling) if ceiling > 0 else audio
