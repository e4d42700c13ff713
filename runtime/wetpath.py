"""The wet path: from the microphone's samples to the model's, at any rate and block size.

    x --+--> down to 16 kHz --> frames --> model --> (wet - g dry) --> up --> queue --+--> out
        |                         +--> delay --------> dry                            |
        +--> delay line of the whole path ---------------------------------> * g -----+

A 16 kHz model says nothing about what lies above 8 kHz, and dropping it makes speech dull. So only the *difference*
between the model's output and g times its input is resampled, and g times the original signal is added at the full
rate. Below 8 kHz the two g cancel. Above, the original remains with gain g, which follows what the model did to the
upper part of its own band. If the model changes nothing, g is 1, the difference is 0, and the output is the input.

For that the delay of the whole path must be a whole number of samples. Lookahead and both filters are whole numbers of
samples of the resamplers' common rate, and the second filter is lengthened by less than one sample to round up the sum.
"""

from math import gcd

import numpy as np

from .bundle import BundleInfo
from .engine import Engine
from .errors import BundleError
from .kernels import kernel
from .ledger import Ledger
from .model_frames import FrameModel, SpectralFrames
from .reblock import Queue, reblock_delay
from .resample import LONGEST_CHUNK, Resampler, default_delay, ratio
from .safety import sanitise

BAND_GAIN_SMOOTHING_MS = 40.0


class WetPath:
    """Audio through a model, delayed by `latency`, as many samples out as in.

    Parameters
    ----------
    engine : Engine
        An opened model.
    channels : int
    sample_rate : int
        Rate of the audio in Hz; converted to the model's.
    block_size : int, optional
        Samples per call if all calls have that many: the re-blocking delay is then the smallest possible. By default
        calls may have any number of samples.
    frames : FrameModel, optional
        What processes the frames; by default the front end that the bundle names.

    Attributes
    ----------
    latency : Ledger
        In samples at `sample_rate`; the total, `latency_samples`, is a whole number.
    chunk : int
        Longer blocks are processed in pieces of so many samples.
    events : dict of str to int
        `failed_frames`: frames the model failed at, passed unprocessed. `bad_samples`: input samples that were not
        finite, or beyond +18 dBFS, and were replaced.
    """

    def __init__(
        self,
        engine: Engine,
        channels: int,
        sample_rate: int,
        block_size: int | None = None,
        frames: FrameModel | None = None,
    ):
        info = engine.info
        self.frames = frames or _frames(engine, channels)
        self.channels, self.sample_rate, self.info = channels, sample_rate, info
        self.resampled = sample_rate != info.sample_rate
        p, q = ratio(sample_rate, info.sample_rate)
        delay_in = delay_out = 0
        if self.resampled:
            delay_in = delay_out = default_delay(sample_rate, info.sample_rate)
            delay_out += -(delay_in + delay_out + info.lookahead * q) % p
        self.latency = Ledger(sample_rate, {"lookahead": info.lookahead * q / p})
        if self.resampled:
            self.latency = self.latency.extended(resampler_in=delay_in / p, resampler_out=delay_out / p)
        # Inside, blocks are cut at multiples of `chunk`, so that is where the queue must not run dry.
        self.chunk = LONGEST_CHUNK
        if block_size is not None and block_size <= LONGEST_CHUNK:
            self.chunk -= LONGEST_CHUNK % block_size
        ends = gcd(block_size, self.chunk) if block_size is not None else None
        block_delay = reblock_delay(info.frame, ends, sample_rate, info.sample_rate)
        self.latency = self.latency.extended(re_blocking=block_delay)
        self.latency_samples = round(self.latency.total)

        self._clean = np.zeros((channels, LONGEST_CHUNK), np.float32)
        self._frame = np.zeros((channels, info.frame), np.float32)
        self._filled = 0
        self._wet = np.zeros((channels, info.frame), np.float32)
        outer_frame = info.frame * q // p + 2
        self._queue = Queue(channels + 1, block_delay + LONGEST_CHUNK + 2 * outer_frame, block_delay)
        # The band gain travels as one more channel, so that it meets the signal it belongs to.
        self._popped = np.zeros((channels + 1, LONGEST_CHUNK), np.float32)
        if self.resampled:
            self._down = Resampler(channels, sample_rate, info.sample_rate, delay_in)
            self._up = Resampler(channels + 1, info.sample_rate, sample_rate, delay_out)
            self._inner = np.zeros((channels, self._down.longest_output()), np.float32)
            self._difference = np.zeros((channels + 1, info.frame), np.float32)
            self._outer = np.zeros((channels + 1, outer_frame), np.float32)
            self._dry_delay = np.zeros((channels, info.lookahead), np.float32)
            self._band = np.ones(1, np.float32)
            self._smoothing = np.float32(np.exp(-1000 * info.frame / info.sample_rate / BAND_GAIN_SMOOTHING_MS))
            self._line = Queue(channels, self.latency_samples + LONGEST_CHUNK, self.latency_samples)
            self._delayed = np.zeros((channels, LONGEST_CHUNK), np.float32)
        self.events = {"failed_frames": 0, "bad_samples": 0}

    def process(self, samples: np.ndarray, out: np.ndarray) -> None:
        """Take float32 (channels, n), write float32 (channels, n). Allocates nothing that outlives a frame."""
        for start in range(0, samples.shape[1], self.chunk):
            self._chunk(samples[:, start : start + self.chunk], out[:, start : start + self.chunk])

    def _chunk(self, samples: np.ndarray, out: np.ndarray) -> None:
        count = samples.shape[1]
        clean = self._clean[:, :count]
        self.events["bad_samples"] += sanitise(samples, clean)
        if self.resampled:
            self._line.push(clean, count)
            self._collect(self._inner, self._down.process(clean, self._inner))
        else:
            self._collect(clean, count)
        self._queue.pop(self._popped, count)
        if self.resampled:
            self._line.pop(self._delayed, count)
            add_band(self._popped, self._delayed, out)
        else:
            out[:] = self._popped[: self.channels, :count]

    def _collect(self, inner: np.ndarray, count: int) -> None:
        """Gather samples at the model's rate into frames and process each one that is complete."""
        taken = 0
        while taken < count:
            part = min(count - taken, self.info.frame - self._filled)
            self._frame[:, self._filled : self._filled + part] = inner[:, taken : taken + part]
            self._filled += part
            taken += part
            if self._filled == self.info.frame:
                self._filled = 0
                self._step()

    def _step(self) -> None:
        if not self.frames.step(self._frame, self._wet):
            self.events["failed_frames"] += 1
        if not self.resampled:
            self._queue.push(self._wet, self.info.frame)
            return
        split_band(self._frame, self._wet, self._dry_delay, self._band, self._smoothing, self._difference)
        self._queue.push(self._outer, self._up.process(self._difference, self._outer))

    def reset(self) -> None:
        """Forget everything: as after construction, but for the event counts."""
        self.frames.reset()
        self._frame[:] = 0
        self._filled = 0
        self._queue.reset()
        if self.resampled:
            for part in (self._down, self._up, self._line):
                part.reset()
            self._dry_delay[:] = 0
            self._band[:] = 1


def _frames(engine: Engine, channels: int) -> FrameModel:
    info: BundleInfo = engine.info
    if info.front_end == "stft":
        return SpectralFrames(engine, channels)
    raise BundleError(f"model {info.name!r}: front end {info.front_end!r} cannot be run yet; expected 'stft'")


@kernel("void(float32[:, ::1], float32[:, ::1], float32[:, ::1], float32[::1], float32, float32[:, ::1])")
def split_band(frame, wet, dry_delay, band, smoothing, difference):
    """Write wet - g dry per channel, and g in the last row; `frame` is not yet delayed by the lookahead, `wet` is.

    g is the model's gain in its upper band. The second difference weighs frequencies by f^4, so that this needs no
    spectrum and serves any kind of model.
    """
    channels, length = frame.shape
    lookahead = dry_delay.shape[1]
    dry_power, wet_power = np.float32(1e-12), np.float32(0)
    for channel in range(channels):
        for n in range(length):
            source = n - lookahead
            difference[channel, n] = frame[channel, source] if source >= 0 else dry_delay[channel, n]
        for n in range(lookahead):
            dry_delay[channel, n] = frame[channel, length - lookahead + n]
        dry = difference[channel]
        for n in range(2, length):
            dry_power += (dry[n] - 2 * dry[n - 1] + dry[n - 2]) ** 2
            wet_power += (wet[channel, n] - 2 * wet[channel, n - 1] + wet[channel, n - 2]) ** 2
    before = band[0]
    now = np.float32(min(np.sqrt(wet_power / dry_power), 1.0))
    after = smoothing * before + (1 - smoothing) * now
    for n in range(length):
        gain = before + (after - before) * np.float32(n + 1) / np.float32(length)
        difference[channels, n] = gain
        for channel in range(channels):
            difference[channel, n] = wet[channel, n] - gain * difference[channel, n]
    band[0] = after


@kernel("void(float32[:, :], float32[:, :], float32[:, :])")
def add_band(popped, delayed, out):
    channels, count = out.shape
    for channel in range(channels):
        for n in range(count):
            out[channel, n] = popped[channel, n] + popped[channels, n] * delayed[channel, n]
