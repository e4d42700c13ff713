"""Streaming short-time Fourier transform and overlap-add, one frame at a time.

    frame of 128 samples --> history of n_fft samples --> analysis window --> real FFT --> spectrum
    spectrum --> inverse FFT --> last 192 samples --> synthesis window --> overlap-add --> frame of 128 samples

What goes in comes out `lookahead` (64) samples later, bit for bit but for rounding, for every pair of windows.
"""

from typing import NamedTuple

import numpy as np

from .fft import RealFft, irfft, rfft
from .kernels import kernel
from .records import Counts, Matrix, Roots, Spectrum, Vector
from .windows import WindowPair


class AnalysisRecord(NamedTuple):
    history: Matrix
    window: Vector
    windowed: Vector
    radices: Counts
    roots: Roots
    work: Spectrum


class SynthesisRecord(NamedTuple):
    overlap: Matrix
    window: Vector
    segment: Vector
    radices: Counts
    roots: Roots
    work: Spectrum


class Analysis:
    """Windowed spectrum of the last n_fft samples of each channel.

    Parameters
    ----------
    windows : WindowPair
    channels : int
    """

    def __init__(self, windows: WindowPair, channels: int):
        plan = RealFft(windows.n_fft)
        self.record = AnalysisRecord(
            history=np.zeros((channels, windows.n_fft), np.float32),
            window=windows.analysis.astype(np.float32),
            windowed=np.zeros(windows.n_fft, np.float32),
            radices=plan.radices,
            roots=plan.roots,
            work=plan.work,
        )

    def step(self, frame: np.ndarray, spectrum: np.ndarray) -> None:
        """Take one frame, float32 (channels, hop_length); write its spectrum, complex64 (channels, bins)."""
        analyse(frame, spectrum, *self.record)

    def reset(self) -> None:
        self.record.history[:] = 0


class Synthesis:
    """Overlap-add of spectra back into a waveform.

    Parameters
    ----------
    windows : WindowPair
    channels : int
    """

    def __init__(self, windows: WindowPair, channels: int):
        plan = RealFft(windows.n_fft)
        self.record = SynthesisRecord(
            overlap=np.zeros((channels, windows.lookahead), np.float32),
            window=windows.synthesis.astype(np.float32),
            segment=np.zeros(windows.n_fft, np.float32),
            radices=plan.radices,
            roots=plan.roots,
            work=plan.work,
        )

    def step(self, spectrum: np.ndarray, frame: np.ndarray) -> None:
        """Take one spectrum, complex64 (channels, bins); write one finished frame, float32 (channels, hop_length)."""
        synthesise(spectrum, frame, *self.record)

    def reset(self) -> None:
        self.record.overlap[:] = 0


@kernel(
    "void(float32[:, :], complex64[:, ::1], float32[:, ::1], float32[::1], float32[::1], "
    "int64[::1], complex64[::1], complex64[:, ::1])"
)
def analyse(frame, spectrum, history, window, windowed, radices, roots, work):
    channels, hop_length = frame.shape
    n_fft = history.shape[1]
    for channel in range(channels):
        past = history[channel]
        for n in range(n_fft - hop_length):
            past[n] = past[n + hop_length]
        for n in range(hop_length):
            past[n_fft - hop_length + n] = frame[channel, n]
        for n in range(n_fft):
            windowed[n] = window[n] * past[n]
        rfft(windowed, spectrum[channel], radices, roots, work)


@kernel(
    "void(complex64[:, ::1], float32[:, :], float32[:, ::1], float32[::1], float32[::1], "
    "int64[::1], complex64[::1], complex64[:, ::1])"
)
def synthesise(spectrum, frame, overlap, window, segment, radices, roots, work):
    channels, hop_length = frame.shape
    lookahead = overlap.shape[1]
    start = segment.shape[0] - window.shape[0]
    for channel in range(channels):
        irfft(spectrum[channel], segment, radices, roots, work)
        for n in range(hop_length):
            frame[channel, n] = window[n] * segment[start + n]
        for n in range(lookahead):
            frame[channel, n] += overlap[channel, n]
            overlap[channel, n] = window[hop_length + n] * segment[start + hop_length + n]
