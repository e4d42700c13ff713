"""How late a signal comes back: by a maximum-length sequence, to a fraction of a sample.

A maximum-length sequence repeats itself after 2^n - 1 samples and is correlated with itself at no other shift, so that
the circular correlation of what is heard with what was sent is the impulse response of the way between (Rife and
Vanderkooy, "Transfer-function measurement with maximum-length sequences", JAES 37, 1989). Its highest peak, in either
direction, is the delay; around it the correlation is interpolated as the band-limited signal that it is.
"""

from dataclasses import dataclass

import numpy as np
from scipy.signal import max_len_seq

OVERSAMPLING = 64
CERTAIN = 0.5  # below this correlation nothing is said about the delay


@dataclass(frozen=True)
class Delay:
    """What was measured.

    Attributes
    ----------
    samples : float
        The median over the periods; less than one period.
    spread_samples : float
        Median of the distances of single periods from it.
    confidence : float
        Correlation of what came back with what was sent, 0 to 1: its delayed copy and nothing else is 1.
    inverted : bool
        What comes back has the opposite polarity.
    gain : float
        Of what comes back against what was sent.
    periods : int
    """

    samples: float
    spread_samples: float
    confidence: float
    inverted: bool
    gain: float
    periods: int

    @property
    def certain(self) -> bool:
        return self.confidence >= CERTAIN


def sequence(order: int) -> np.ndarray:
    """One period of a maximum-length sequence, float32, (2^order - 1,), of 1 and -1."""
    bits, _ = max_len_seq(order)
    return (2.0 * bits - 1).astype(np.float32)


def find_delay(sent: np.ndarray, heard: np.ndarray) -> Delay:
    """Find the delay.

    Parameters
    ----------
    sent : ndarray, shape (n,)
        One period.
    heard : ndarray, shape (periods * n,)
        What came back while it was repeated, on the same time line.
    """
    length = len(sent)
    periods = len(heard) // length
    parts = np.asarray(heard[: periods * length], np.float64).reshape(periods, length)
    spectrum = np.conj(np.fft.rfft(sent))
    found = [_one_period(spectrum, part, length) for part in parts]
    lags = np.array([lag for lag, _, _ in found])
    # On the circle: a delay near zero may be found at its other end.
    middle = float(np.median(lags))
    lags = middle + (lags - middle + length / 2) % length - length / 2
    middle = float(np.median(lags))
    peaks = np.array([peak for _, peak, _ in found])
    return Delay(
        samples=middle % length,
        spread_samples=float(np.median(np.abs(lags - middle))),
        confidence=float(np.median([confidence for _, _, confidence in found])),
        inverted=bool(np.median(peaks) < 0),
        gain=float(np.median(np.abs(peaks))) / float(np.dot(sent, sent)),
        periods=periods,
    )


def _one_period(spectrum: np.ndarray, heard: np.ndarray, length: int) -> tuple[float, float, float]:
    """Lag in samples, value of the correlation there, and how much of what was heard is explained by it."""
    energy_sent = float(np.mean(np.abs(spectrum[1:]) ** 2))  # a sequence of +-1 is white but for its mean
    heard = heard - heard.mean()
    transfer = np.fft.rfft(heard) * spectrum
    correlation = np.fft.irfft(transfer, length)
    coarse = int(np.argmax(np.abs(correlation)))
    # The band-limited correlation around the peak, summed directly from its spectrum on a finer grid.
    shifts = coarse + np.arange(-OVERSAMPLING, OVERSAMPLING + 1) / OVERSAMPLING
    phases = np.exp(2j * np.pi * np.outer(shifts, np.arange(len(transfer))) / length)
    weights = np.full(len(transfer), 2.0)
    weights[0] = 1.0
    fine = (phases @ (weights * transfer)).real / length
    best = int(np.argmax(np.abs(fine)))
    lag, peak = float(shifts[best]), float(fine[best])
    if 0 < best < len(fine) - 1:
        before, at, after = (abs(float(fine[best + step])) for step in (-1, 0, 1))
        curve = before - 2 * at + after
        if curve < 0:
            lag += 0.5 * (before - after) / curve / OVERSAMPLING
    norm = np.sqrt(energy_sent * float(np.dot(heard, heard)))
    return lag, peak, min(abs(peak) / norm, 1.0) if norm > 0 else 0.0
