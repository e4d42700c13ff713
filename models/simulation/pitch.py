"""The pitch of a voice: what two talkers are told apart by most easily."""

import numpy as np

from .corpus import SAMPLE_RATE

LOWEST_HZ, HIGHEST_HZ = 70.0, 400.0  # of grown-ups and children
FRAME, HOP = 1024, 512  # samples; several periods of the lowest pitch
VOICED = 0.5  # of the energy, from which on the autocorrelation at one period says that there is one
FAINT = 0.1  # of the mean power, below which nobody speaks
FINER = 4  # parts of a sample in which a period is measured: whole ones miss the high partials of a high voice


def median_pitch_hz(voice: np.ndarray) -> float:
    """The median pitch of the voiced frames of a voice, float32 [samples], in Hz; not a number if there are none.

    By the largest peak of the autocorrelation. Two periods are as good a period as one; that the window fades, and with
    it the correlation the further parts are apart, is what prefers one.
    """
    if len(voice) < FRAME:
        return float("nan")
    frames = np.lib.stride_tricks.sliding_window_view(voice, FRAME)[::HOP]
    frames = frames[np.square(frames).mean(1) > FAINT * np.square(voice).mean()]
    frames = (frames - frames.mean(1, keepdims=True)) * np.hanning(FRAME)
    correlation = np.fft.irfft(np.square(np.abs(np.fft.rfft(frames, 2 * FRAME))), FINER * 2 * FRAME)
    rate_hz = FINER * SAMPLE_RATE
    shortest, longest = int(rate_hz / HIGHEST_HZ), int(rate_hz / LOWEST_HZ)
    periodic = correlation[:, shortest : longest + 1] / np.maximum(correlation[:, :1], 1e-12)
    periods = (periodic.argmax(1) + shortest)[periodic.max(1, initial=0) > VOICED]
    return float(rate_hz / np.median(periods)) if len(periods) else float("nan")
