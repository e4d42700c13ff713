"""Whether directions survive: errors of the level and time differences between the two ears."""

import numpy as np
from scipy.signal import zoom_fft

from ..simulation.corpus import SAMPLE_RATE

FRAME, HOP = 512, 256
LONGEST_ITD_S = 1e-3  # a head is not wider
FINENESS = 16  # times of a tenth of the finest that ears resolve
ACTIVE_DB = 30.0  # frames this far below the loudest say nothing about direction


def ild_error_db(estimate: np.ndarray, target: np.ndarray, rate: int = SAMPLE_RATE) -> float:
    """Mean absolute error of the interaural level difference in dB, over third-octave bands and active frames.

    Both float32 [2, samples], left and right. Not a number if the target has no active frame.
    """
    bands = _third_octaves(rate)
    levels = [np.log10(_power(audio) @ bands + 1e-12) * 10 for audio in (estimate, target)]
    loudest = levels[1].max(axis=0)
    active = loudest > max(loudest.max() - ACTIVE_DB, -90)
    if not active.any():
        return float("nan")
    found, expected = (level[0] - level[1] for level in levels)
    return float(np.mean(np.abs(found - expected)[active]))


def itd_error_us(estimate: np.ndarray, target: np.ndarray, rate: int = SAMPLE_RATE) -> float:
    """Absolute error of the interaural time difference in microseconds, [2, samples] each.

    The difference is the lag with the largest generalised cross-correlation (PHAT) within a millisecond, over the whole
    recording. Knapp and Carter 1976. Not a number if an ear of the target is silent; the largest error, 2000, if only
    one of the estimate is.
    """
    expected, found = interaural_delay_s(target, rate), interaural_delay_s(estimate, rate)
    if np.isnan(found) and not np.isnan(expected):
        return 2 * LONGEST_ITD_S * 1e6
    return float(abs(found - expected) * 1e6)


def interaural_delay_s(audio: np.ndarray, rate: int = SAMPLE_RATE) -> float:
    """How much later the right ear hears, in seconds; not a number if an ear is silent."""
    if np.square(audio).sum(axis=1).min() < 1e-10:
        return float("nan")
    size = 2 * audio.shape[1]
    left, right = np.fft.rfft(audio, size)
    cross = right * np.conj(left)
    # Bins without sound have a phase, but it means nothing.
    weight = np.abs(cross)
    cross = np.where(weight > 1e-6 * weight.max(), cross / np.maximum(weight, 1e-30), 0)
    cross[0] /= 2  # the other bins stand for their negative frequencies, too
    reach = int(LONGEST_ITD_S * rate * FINENESS)
    # The inverse transform, between the samples as well, but of the lags that a head can have alone.
    lags = np.array([-reach, reach]) / (size * FINENESS)
    near = zoom_fft(np.conj(cross), lags, 2 * reach + 1, fs=1, endpoint=True).real
    return (int(np.argmax(near)) - reach) / (rate * FINENESS)


def _power(audio: np.ndarray) -> np.ndarray:
    """Power spectra of Hann-windowed frames: [2, frames, bins]."""
    padded = np.pad(audio, ((0, 0), (0, max(FRAME - audio.shape[1], 0))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME, axis=1)[:, ::HOP]
    return np.abs(np.fft.rfft(frames * np.hanning(FRAME))) ** 2 / FRAME


def _third_octaves(rate: int) -> np.ndarray:
    """Which bin belongs to which band from 200 Hz up: [bins, bands]."""
    frequencies = np.fft.rfftfreq(FRAME, 1 / rate)
    edges = 200 * 2 ** (np.arange(int(3 * np.log2(rate / 2 / 200)) + 1) / 3)
    member = (frequencies[:, None] >= edges[:-1]) & (frequencies[:, None] < edges[1:])
    return member[:, member.any(axis=0)].astype(float)
