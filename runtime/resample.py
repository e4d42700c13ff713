"""Stateful polyphase resampling with an exactly known delay.

Converting by p/q is filtering at the common rate `rate_in * p = rate_out * q`, of which only every q-th sample is
computed. The filter is a Kaiser-windowed sinc, symmetric about tap `delay`, so its delay is exact and the same for all
frequencies: `delay / p` input samples. Output j belongs to the input time j * q / p and is ready as soon as the last
input sample at or before that time has come, so that after n inputs exactly ceil(n * p / q) outputs exist.

Crochiere and Rabiner, "Multirate Digital Signal Processing", Prentice-Hall 1983, chapter 3.
"""

from math import gcd
from typing import NamedTuple

import numpy as np

from .errors import AudioError
from .kernels import kernel
from .records import Counts, Matrix

# Half the filter's length, in samples of the lower of the two rates: 0.75 ms at 16 kHz. A longer filter would be
# steeper, but what it loses near 8 kHz comes back with the band above (see wetpath.py), and delay does not.
HALF_LENGTH = 12
KAISER_BETA = 6.0
CUTOFF = 0.46  # of the lower rate: 7.4 kHz at 16 kHz
LONGEST_CHUNK = 1024
HIGHEST_RATE_HZ = 1_000_000
# Of p and q: the filter's table holds 24 taps for each step of the larger one, 10 MB here.
LARGEST_TERM = 100_000


def ratio(rate_in: int, rate_out: int) -> tuple[int, int]:
    """Reduced p/q = rate_out / rate_in.

    Raises
    ------
    AudioError
        If a rate is not positive or above 1 MHz, or the two have so little in common that the filter would be huge.
    """
    if not (0 < rate_in <= HIGHEST_RATE_HZ and 0 < rate_out <= HIGHEST_RATE_HZ):
        raise AudioError(
            f"sample rates are {rate_in} and {rate_out} Hz; expected positive whole numbers up to {HIGHEST_RATE_HZ}"
        )
    divisor = gcd(rate_in, rate_out)
    p, q = int(rate_out) // divisor, int(rate_in) // divisor
    if max(p, q) > LARGEST_TERM:
        raise AudioError(
            f"sample rates are {rate_in} and {rate_out} Hz, reduced {q} : {p}; expected a ratio of whole numbers up to "
            f"{LARGEST_TERM}, as multiples of 25 Hz have"
        )
    return p, q


def produced(samples_in: "int | np.ndarray", p: int, q: int) -> "int | np.ndarray":
    """Number of outputs that exist after `samples_in` inputs."""
    return -(-samples_in * p // q)


def default_delay(rate_in: int, rate_out: int) -> int:
    """Delay of the filter in samples of the common rate."""
    return HALF_LENGTH * max(ratio(rate_in, rate_out))


class ResamplerRecord(NamedTuple):
    phases: Matrix
    buffer: Matrix  # keeps the last taps - 1 inputs of each channel in front
    position: Counts  # of the next output, in common-rate samples after the last input
    p: int
    q: int


class Resampler:
    """Converts a stream of any chunk sizes from one rate to another.

    Parameters
    ----------
    channels : int
    rate_in, rate_out : int
        In Hz.
    delay : int, optional
        Delay in samples of the common rate `rate_in * p`; the filter is 2 * delay + 1 long.
    longest : int
        The most samples that it is given at a time.

    Attributes
    ----------
    delay_in : float
        Delay in input samples.

    Raises
    ------
    AudioError
        If the rates are not ones that `ratio` takes.
    """

    def __init__(
        self, channels: int, rate_in: int, rate_out: int, delay: int | None = None, longest: int = LONGEST_CHUNK
    ):
        self.p, self.q = ratio(rate_in, rate_out)
        self.delay = default_delay(rate_in, rate_out) if delay is None else delay
        self.delay_in = self.delay / self.p
        self.longest = longest
        # The common rate is max(p, q) times the lower of the two.
        phases = _polyphase(self.delay, self.p, CUTOFF / max(self.p, self.q))
        buffer = np.zeros((channels, phases.shape[1] - 1 + longest), np.float32)
        self.record = ResamplerRecord(phases, buffer, np.zeros(1, np.int64), self.p, self.q)

    def longest_output(self) -> int:
        """The most outputs that `longest` inputs can give."""
        return self.longest * self.p // self.q + 1

    def process(self, samples: np.ndarray, out: np.ndarray) -> int:
        """Take float32 (channels, n <= longest); write to `out` and return how many outputs there are."""
        return resample(samples, out, *self.record)

    def reset(self) -> None:
        self.record.buffer[:] = 0
        self.record.position[:] = 0


def _polyphase(delay: int, p: int, cutoff: float) -> np.ndarray:
    """Filter taps sorted by phase, float32 (p, taps), each phase in the order of the buffer (oldest input first)."""
    time = np.arange(2 * delay + 1) - delay
    taps = np.sinc(2 * cutoff * time) * np.kaiser(2 * delay + 1, KAISER_BETA)
    taps = np.pad(taps, (0, -len(taps) % p))
    phases = taps.reshape(-1, p).T[:, ::-1]
    # Each phase sums to one, so that a constant comes out as the same constant and not with a ripple.
    return np.ascontiguousarray(phases / phases.sum(axis=1, keepdims=True), np.float32)


@kernel("int64(float32[:, :], float32[:, :], float32[:, ::1], float32[:, ::1], int64[::1], int64, int64)")
def resample(samples, out, phases, buffer, position, p, q):
    """The loop of `Resampler.process`."""
    channels, count = samples.shape
    taps = phases.shape[1]
    for channel in range(channels):
        for n in range(count):
            buffer[channel, taps - 1 + n] = samples[channel, n]
    written = 0
    while position[0] < count * p:
        newest = position[0] // p
        phase = phases[position[0] % p]
        for channel in range(channels):
            window = buffer[channel, newest : newest + taps]
            total = np.float32(0)
            for k in range(taps):
                total += phase[k] * window[k]
            out[channel, written] = total
        written += 1
        position[0] += q
    position[0] -= count * p
    for channel in range(channels):
        for n in range(taps - 1):
            buffer[channel, n] = buffer[channel, n + count]
    return written
