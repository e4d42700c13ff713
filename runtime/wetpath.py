"""The wet path: from the microphone's samples to the model's, at any rate and block size.

    x --+--> down to 16 kHz --> frames --> model --> (wet - g dry) --> up --> queue --+--> out
        |                         +--> delay --------> dry                            |
        +--> delay line of the whole path ---------------------------------> * g -----+

A 16 kHz model says nothing about what lies above 8 kHz, and dropping it makes speech dull. So only the *difference*
between the model's output and g times its input is resampled, and g times the original signal is added at the full
rate (`band.py`).

For that the delay of the whole path must be a whole number of samples. Lookahead and both filters are whole numbers of
samples of the resamplers' common rate, and the second filter is lengthened by less than one sample to round up the sum.

A model that separates gives several sources, and all of this is done for each: the queue holds every source at every
channel, and `emit` adds the sources up again with the gains of the controls, or `emit_apart` gives them one by one.
"""

from collections.abc import Callable
from math import gcd

import numpy as np

from .bundle_info import BundleInfo
from .controls import Controls
from .engine import Engine
from .errors import BundleError
from .glide import glide_rate, new_glides, settle
from .ledger import Ledger
from .model_frames import FrameModel
from .reblock import Queue, reblock_delay
from .records import Image
from .resample import LONGEST_CHUNK, Resampler, default_delay, ratio
from .sample_frames import SampleFrames
from .spectral_frames import SpectralFrames
from .stages import new_laps
from .wetpath_kernels import (
    AVAILABLE,
    BAD_SAMPLES,
    FAILED_FRAMES,
    FRAMES,
    PathRecord,
    emit,
    emit_apart,
    give,
    next_frame,
    take,
)

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
    controls : Controls, optional
        What it says of sources and of the voice is followed all the time. By default sources have a gain of one.

    Attributes
    ----------
    latency : Ledger
        In samples at `sample_rate`; the total, `latency_samples`, is a whole number.
    chunk : int
        Longer blocks are processed in pieces of so many samples.
    events : dict of str to int
        `failed_frames`: frames the model failed at, passed unprocessed. `bad_samples`: input samples that were not
        finite, or beyond +18 dBFS, and were replaced.
    laps : ndarray
        The watch that is told of every stage; off at first. See stages.py.
    """

    def __init__(
        self,
        engine: Engine,
        channels: int,
        sample_rate: int,
        block_size: int | None = None,
        frames: FrameModel | None = None,
        controls: Controls | None = None,
    ):
        info = expect_bundle(engine)
        self.laps = new_laps()
        self.frames = frames or _frames(engine, channels, self.laps, controls)
        self.channels, self.sample_rate, self.info = channels, sample_rate, info
        self.resampled = sample_rate != info.sample_rate
        p, q = ratio(sample_rate, info.sample_rate)
        delay_in = delay_out = 0
        if self.resampled:
            delay_in = delay_out = default_delay(sample_rate, info.sample_rate)
            delay_out += -(delay_in + delay_out + info.lookahead * q) % p
        delays = {"lookahead": info.lookahead * q / p}
        if self.resampled:
            delays |= {"resampler in": delay_in / p, "resampler out": delay_out / p}
        # Inside, blocks are cut at multiples of `chunk`, so that is where the queue must not run dry.
        self.chunk = LONGEST_CHUNK
        if block_size is not None and block_size <= LONGEST_CHUNK:
            self.chunk -= LONGEST_CHUNK % block_size
        ends = gcd(block_size, self.chunk) if block_size is not None else None
        block_delay = reblock_delay(info.frame, ends, sample_rate, info.sample_rate)
        self.latency = Ledger(sample_rate, {**delays, "re-blocking": block_delay})
        self.latency_samples = round(self.latency.total)

        sources = info.sources
        gain_targets = np.ones(sources, np.float32) if controls is None else controls.source_targets
        rows = sources * channels
        outer_frame = info.frame * q // p + 2
        if self.resampled:
            rows += sources  # band gains travel as further channels, so that they meet the signal they belong to
        down = Resampler(channels, sample_rate, info.sample_rate, delay_in)
        up = Resampler(rows, info.sample_rate, sample_rate, delay_out, longest=info.frame)
        self._queue = Queue(rows, block_delay + LONGEST_CHUNK + 2 * outer_frame, block_delay)
        self._line = Queue(channels, self.latency_samples + LONGEST_CHUNK, self.latency_samples)
        self._down, self._up = down, up
        clean = np.zeros((channels, LONGEST_CHUNK), np.float32)
        self.record = PathRecord(
            counts=np.zeros(6, np.int64),
            clean=clean,
            inner=np.zeros((channels, down.longest_output()), np.float32) if self.resampled else clean,
            frame=np.zeros((channels, info.frame), np.float32),
            wet=np.zeros((sources * channels, info.frame), np.float32),
            queue=self._queue.record,
            popped=np.zeros((rows, LONGEST_CHUNK), np.float32),
            resampled=self.resampled,
            down=down.record,
            up=up.record,
            difference=np.zeros((rows, info.frame), np.float32),
            outer=np.zeros((rows, outer_frame), np.float32),
            dry_delay=np.zeros((channels, info.lookahead), np.float32),
            dry=np.zeros((channels, info.frame), np.float32),
            band=np.full(sources, 1 / sources, np.float32),
            shares=np.zeros(sources, np.float32),
            smoothing=np.float32(np.exp(-1000 * info.frame / info.sample_rate / BAND_GAIN_SMOOTHING_MS)),
            line=self._line.record,
            delayed=np.zeros((channels, LONGEST_CHUNK), np.float32),
            apart=np.zeros((sources * channels, LONGEST_CHUNK), np.float32),
            gains=new_glides(gain_targets),
            gain_targets=gain_targets,
            gain_rate=glide_rate(sample_rate),
            laps=self.laps,
        )
        self.image = Image(self.record)
        self._settle()

    @property
    def events(self) -> dict[str, int]:
        counts = self.record.counts
        return {"failed_frames": int(counts[FAILED_FRAMES]), "bad_samples": int(counts[BAD_SAMPLES])}

    @property
    def frame_count(self) -> int:
        """Frames that have been completed, failed ones included."""
        return int(self.record.counts[FRAMES])

    def process(self, samples: np.ndarray, out: np.ndarray) -> None:
        """Take float32 (channels, n), write float32 (channels, n). Allocates nothing that outlives a frame."""
        self._run(samples, out, emit)

    def separate(self, samples: np.ndarray, out: np.ndarray) -> None:
        """The same, but write the sources without their gains: (sources * channels, n), sorted by source."""
        self._run(samples, out, emit_apart)

    def _run(self, samples: np.ndarray, out: np.ndarray, emit: Callable[[int, np.ndarray], None]) -> None:
        record, address = self.record, self.image.address
        for start in range(0, samples.shape[1], self.chunk):
            take(address, samples[:, start : start + self.chunk])
            while next_frame(address):
                if not self.frames.step(record.frame, record.wet):
                    record.counts[FAILED_FRAMES] += 1
                give(address)
            emit(address, out[:, start : start + self.chunk])

    def reset(self) -> None:
        """Forget everything: as after construction, but for the counts of events and frames."""
        for part in (self.frames, self._queue, self._down, self._up, self._line):
            part.reset()
        self.record.counts[AVAILABLE:] = 0
        self.record.frame[:] = 0
        self.record.dry_delay[:] = 0
        self._settle()

    def _settle(self) -> None:
        """Gains as they are before any sound."""
        self.record.band[:] = 1 / len(self.record.band)
        settle(self.record.gains, self.record.gain_targets)


def expect_bundle(engine: Engine) -> BundleInfo:
    """What the bundle says of its model.

    Raises BundleError if the engine has opened any other ONNX file, or the model needs more than the microphones hear.
    """
    if not isinstance(engine.info, BundleInfo):
        raise BundleError(f"model {engine.info.name!r} is no bundle: nothing says how audio becomes its input")
    if any(port.role == "reference" for port in engine.info.inputs):
        raise BundleError(
            f"model {engine.info.name!r} needs a reference (what the loudspeaker plays); the runtime has no input for "
            "it"
        )
    return engine.info


def _frames(engine: Engine, channels: int, laps: np.ndarray, controls: Controls | None) -> FrameModel:
    kind = SpectralFrames if engine.info.front_end == "stft" else SampleFrames
    return kind(engine, channels, laps, None if controls is None else controls.voice_target)
