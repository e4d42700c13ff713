"""Real FFT of a fixed length as Numba kernels, for lengths whose factors are 2, 3 and 4.

A real transform of length n is a complex one of length n/2 on the even and odd samples, taken apart afterwards. The
complex transform is Stockham's: every pass reads one buffer and writes the other in order, so that no bit reversal is
needed. NumPy's FFT allocates and cannot be called from machine code; these can run inside an audio callback.

Van Loan, "Computational Frameworks for the Fast Fourier Transform", SIAM 1992, sections 1.7 and 4.3.
"""

import numpy as np

from .errors import HearloopError
from .kernels import kernel


class RealFft:
    """Plan for real transforms of one length: radices, roots of unity, and work buffers.

    Parameters
    ----------
    length : int
        Number of real samples; an even number whose half has no prime factor above 3.
    """

    def __init__(self, length: int):
        self.length = length
        half = length // 2
        self.radices = _radices(half, length)
        self.roots = np.exp(-2j * np.pi * np.arange(length) / length).astype(np.complex64)
        self.work = np.zeros((2, half), np.complex64)

    def forward(self, samples: np.ndarray, spectrum: np.ndarray) -> None:
        """float32 (length,) -> complex64 (length // 2 + 1,), as numpy.fft.rfft."""
        rfft(samples, spectrum, self.radices, self.roots, self.work)

    def inverse(self, spectrum: np.ndarray, samples: np.ndarray) -> None:
        """complex64 (length // 2 + 1,) -> float32 (length,), as numpy.fft.irfft."""
        irfft(spectrum, samples, self.radices, self.roots, self.work)


def _radices(half: int, length: int) -> np.ndarray:
    radices, rest = [], half
    for radix in (4, 3, 2):
        while rest % radix == 0 and rest > 1:
            radices.append(radix)
            rest //= radix
    if length % 2 or rest != 1:
        raise HearloopError(f"FFT length is {length}; expected an even number whose half has factors 2 and 3 only")
    return np.array(radices, np.int64)


@kernel("int64(int64[::1], complex64[::1], complex64[:, ::1])")
def _complex_fft(radices, roots, work):
    """Forward transform of work[0]; returns the row of `work` that holds the result."""
    total = work.shape[1]
    length, stride, source = total, 1, 0
    for radix in radices:
        x, y = work[source], work[1 - source]
        part = length // radix
        # `roots` holds the roots of unity of order 2 * total, the step picks those of order `length`.
        step = 2 * total // length
        for j in range(part):
            w1, w2, w3 = roots[j * step], roots[2 * j * step], roots[(3 * j * step) % (2 * total)]
            for q in range(stride):
                i, o = q + stride * j, q + stride * radix * j
                a, b = x[i], x[i + stride * part]
                if radix == 2:
                    y[o] = a + b
                    y[o + stride] = (a - b) * w1
                elif radix == 3:
                    c = x[i + 2 * stride * part]
                    mean, turn = a - np.float32(0.5) * (b + c), np.complex64(0.8660254037844386j) * (b - c)
                    y[o] = a + b + c
                    y[o + stride] = (mean - turn) * w1
                    y[o + 2 * stride] = (mean + turn) * w2
                else:
                    c, d = x[i + 2 * stride * part], x[i + 3 * stride * part]
                    even, odd, back, turn = a + c, b + d, a - c, np.complex64(1j) * (b - d)
                    y[o] = even + odd
                    y[o + stride] = (back - turn) * w1
                    y[o + 2 * stride] = (even - odd) * w2
                    y[o + 3 * stride] = (back + turn) * w3
        length, stride, source = part, stride * radix, 1 - source
    return source


@kernel("void(float32[::1], complex64[::1], int64[::1], complex64[::1], complex64[:, ::1])")
def rfft(samples, spectrum, radices, roots, work):
    """numpy.fft.rfft with the plan of `RealFft`."""
    half = work.shape[1]
    for n in range(half):
        work[0, n] = complex(samples[2 * n], samples[2 * n + 1])
    packed = work[_complex_fft(radices, roots, work)]
    first = packed[0]
    spectrum[0] = complex(first.real + first.imag, np.float32(0))
    spectrum[half] = complex(first.real - first.imag, np.float32(0))
    for k in range(1, half):
        a, b = packed[k], np.conj(packed[half - k])
        spectrum[k] = np.float32(0.5) * ((a + b) - np.complex64(1j) * roots[k] * (a - b))


@kernel("void(complex64[::1], float32[::1], int64[::1], complex64[::1], complex64[:, ::1])")
def irfft(spectrum, samples, radices, roots, work):
    """numpy.fft.irfft with the plan of `RealFft`; the imaginary parts at zero and half the rate are ignored."""
    half = work.shape[1]
    low, high = spectrum[0].real, spectrum[half].real
    # The inverse transform is the conjugate of the forward transform of the conjugate.
    work[0, 0] = complex(low + high, -(low - high))
    for k in range(1, half):
        a, b = spectrum[k], np.conj(spectrum[half - k])
        work[0, k] = np.conj((a + b) + np.complex64(1j) * np.conj(roots[k]) * (a - b))
    packed = work[_complex_fft(radices, roots, work)]
    scale = np.float32(0.5) / np.float32(half)
    for n in range(half):
        samples[2 * n] = scale * packed[n].real
        samples[2 * n + 1] = -scale * packed[n].imag
