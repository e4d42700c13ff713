"""Looks that are turned to the talker, wherever that is: what a network learns from that listens to every direction."""

import numpy as np

from ...runtime.facing import turned
from .corpus import SAMPLE_RATE

FRAME, HOP = 512, 256
LOW_HZ, HIGH_HZ = 200.0, 1500.0  # above, a phase has several meanings
LOUDNESS = 0.3  # of the power: loud bins count more
DELAYS_S = np.linspace(-8e-4, 8e-4, 129)  # around a large head
FUZZY_S = 65e-6  # a little more than half of a step between the directions of `target-around`


def turned_to_the_talker(rng: np.random.Generator, look: np.ndarray, alone: np.ndarray) -> tuple[np.ndarray, ...]:
    """A look and the talker alone in it, both float32 [2, samples], as if the face were turned there, about."""
    delay_s = later_at_the_right_s(alone) + rng.uniform(-FUZZY_S, FUZZY_S)
    return tuple(turned(each, SAMPLE_RATE, delay_s, 0.0) for each in (look, alone))


def later_at_the_right_s(alone: np.ndarray) -> float:
    """How much later the right ear hears a talker, float32 [2, samples]: the delay with which most phases agree."""
    frames = np.lib.stride_tricks.sliding_window_view(alone, FRAME, axis=1)[:, ::HOP]
    left, right = np.fft.rfft(frames * np.hanning(FRAME).astype(np.float32))
    frequency_hz = np.fft.rfftfreq(FRAME, 1 / SAMPLE_RATE)
    inside = (frequency_hz > LOW_HZ) & (frequency_hz < HIGH_HZ)
    product = (left * right.conj())[:, inside]
    product = (product * (np.abs(product) + 1e-20) ** (LOUDNESS - 1)).sum(axis=0)
    agrees = np.exp(-2j * np.pi * frequency_hz[inside] * DELAYS_S[:, None]) @ product
    return float(DELAYS_S[np.argmax(agrees.real)])
