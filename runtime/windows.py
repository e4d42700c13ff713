"""Pairs of analysis and synthesis windows for low-latency overlap-add.

The latency of an overlap-add chain is set by the *synthesis* window alone: a sample is complete when the last frame
whose synthesis window covers it has been added. With a hop of 128 and a synthesis window of 192 samples, that is
one frame plus 64 samples: 12 ms at 16 kHz. The analysis window may reach further into the past at no cost in latency,
which buys frequency resolution: 31 Hz for 512 samples instead of 83 Hz for 192.

       analysis   _____----------------\\          rises for 448 samples, falls for 64
       synthesis                /------\\          ramps of 64 samples around a flat of 64
                                ^ hop ^

The product of the two is the overlap-add window: sin^2 ramp, ones, cos^2 ramp; shifted by 128 it adds up to one.

Mauler and Martin, "A low delay, variable resolution, perfect reconstruction spectral analysis-synthesis system for
speech enhancement", EUSIPCO 2007.
"""

from dataclasses import dataclass

import numpy as np

from .errors import HearloopError

HOP_LENGTH = 128
LOOKAHEAD = 64


@dataclass(frozen=True)
class WindowPair:
    """Analysis and synthesis window of a perfect-reconstruction overlap-add chain.

    Both windows end at the newest sample of a frame.

    Attributes
    ----------
    name : str
        Name by which a bundle refers to the pair.
    analysis : ndarray, float64, shape (n_fft,)
    synthesis : ndarray, float64, shape (hop_length + lookahead,)
    hop_length, lookahead : int
        In samples. An input sample comes out `lookahead` samples later.
    """

    name: str
    analysis: np.ndarray
    synthesis: np.ndarray
    hop_length: int = HOP_LENGTH
    lookahead: int = LOOKAHEAD

    @property
    def n_fft(self) -> int:
        return len(self.analysis)

    @property
    def bins(self) -> int:
        return self.n_fft // 2 + 1


def _rise(length: int) -> np.ndarray:
    """First half of a square-root Hann window: sin from 0 to pi/2, sampled between the end points."""
    return np.sin(np.pi / 2 * (np.arange(length) + 0.5) / length)


def _overlap_add_window(hop: int = HOP_LENGTH) -> np.ndarray:
    rise = _rise(LOOKAHEAD)
    return np.concatenate([rise**2, np.ones(hop - LOOKAHEAD), rise[::-1] ** 2])


def _symmetric() -> WindowPair:
    window = np.sqrt(_overlap_add_window())
    return WindowPair("symmetric-192", window, window)


def _asymmetric(n_fft: int, hop: int = HOP_LENGTH) -> WindowPair:
    analysis = np.concatenate([_rise(n_fft - LOOKAHEAD), _rise(LOOKAHEAD)[::-1]])
    overlap_add = _overlap_add_window(hop)
    synthesis = overlap_add / analysis[-len(overlap_add) :]
    return WindowPair(f"asymmetric-{n_fft}-{hop + LOOKAHEAD}", analysis, synthesis, hop)


def _root_hann(n_fft: int) -> WindowPair:
    """The pair of most published systems: half a window of hop, and so a whole window of latency."""
    window = np.sin(np.pi * np.arange(n_fft) / n_fft)
    return WindowPair(f"symmetric-{n_fft}", window, window, n_fft // 2, n_fft // 2)


# The one with a hop of 256 is 20 ms late; it is there to learn what a longer hop would give.
WINDOW_PAIRS = {pair.name: pair for pair in (_symmetric(), _asymmetric(512), _asymmetric(512, 256), _root_hann(512))}


def window_pair(name: str) -> WindowPair:
    """Look up a window pair by name; raises HearloopError for a name that is not offered."""
    if name not in WINDOW_PAIRS:
        raise HearloopError(f"window pair {name!r} is unknown; offered are {', '.join(WINDOW_PAIRS)}")
    return WINDOW_PAIRS[name]
