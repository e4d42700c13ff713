"""One frame through a model: analysis, engine, synthesis, and what to do when the model fails."""

from typing import NamedTuple, Protocol

import numpy as np

from .bundle import BundleInfo
from .engine import Engine
from .errors import BundleError, EngineError
from .frontend import Analysis, AnalysisRecord, Synthesis, SynthesisRecord, analyse, synthesise
from .kernels import kernel
from .records import Counts, Image, Spectrum, fetch_from
from .stages import ANALYSIS, MODEL, SYNTHESIS, lap, new_laps


class FrameModel(Protocol):
    """Turns frames of audio at the model's rate into frames that come `lookahead` samples later."""

    def step(self, frame: np.ndarray, wet: np.ndarray) -> bool:
        """float32 (channels, frame) in and out; False if the model failed and `wet` is the unprocessed signal."""

    def reset(self) -> None: ...


class SpectralRecord(NamedTuple):
    analysis: AnalysisRecord
    synthesis: SynthesisRecord
    dry: Spectrum
    wet: Spectrum
    late: Spectrum  # dry spectra that wait until the model has looked ahead of them, frame after frame
    oldest: Counts
    streams: int
    laps: Counts


class SpectralFrames:
    """Frames through a model that works on spectra.

    A model with one channel gets a stream of its own for every channel, and then all channels are given one common
    complex mask, the least-squares fit of what the model did to each:

        M = sum_c Y_c conj(X_c) / sum_c |X_c|^2

    so that level and time differences between the ears, and with them the direction of every sound, stay as they were.

    A step that fails (an exception, or anything that is not finite) lets the input spectrum through instead, and
    starts the model afresh. Overlap-add cross-fades between the two over 4 ms, so a failure never clicks.

    `laps` is a watch that is told of every stage; see stages.py.
    """

    def __init__(self, engine: Engine, channels: int, laps: np.ndarray | None = None):
        info = engine.info
        self.engines = [engine] + [engine.another() for _ in range(streams(info, channels) - 1)]
        self.analysis = Analysis(info.windows, channels)
        self.synthesis = Synthesis(info.windows, channels)
        frames_late = (info.lookahead - info.windows.lookahead) // info.frame
        self.record = SpectralRecord(
            self.analysis.record,
            self.synthesis.record,
            dry=np.zeros((channels, info.windows.bins), np.complex64),
            wet=np.zeros((channels, info.windows.bins), np.complex64),
            late=np.zeros((frames_late * channels, info.windows.bins), np.complex64),
            oldest=np.zeros(1, np.int64),
            streams=len(self.engines),
            laps=new_laps() if laps is None else laps,
        )
        self.image = Image(self.record)
        name_in, name_out = info.port("spectrum", "inputs").name, info.port("spectrum", "outputs").name
        self.inputs = [_complex_view(each.inputs[name_in]) for each in self.engines]
        self.outputs = [_complex_view(each.outputs[name_out]) for each in self.engines]

    def step(self, frame: np.ndarray, wet: np.ndarray) -> bool:
        dry, made = self.record.dry, self.record.wet
        begin(self.image.address, frame)
        per_stream = len(dry) // len(self.engines)
        fine = True
        for index, engine in enumerate(self.engines):
            rows = slice(index * per_stream, (index + 1) * per_stream)
            self.inputs[index][:] = dry[rows]
            try:
                engine.step()
            except EngineError:
                fine = False
                break
            made[rows] = self.outputs[index]
        fine = finish(self.image.address, fine, wet)
        if not fine:
            for engine in self.engines:
                engine.reset()
        return fine

    def reset(self) -> None:
        self.analysis.reset()
        self.synthesis.reset()
        self.record.late[:] = 0
        for engine in self.engines:
            engine.reset()


def streams(info: BundleInfo, channels: int) -> int:
    """How many streams of the model it takes for so many channels; raises BundleError if it cannot be done."""
    if info.channels_in == info.channels_out == channels:
        return 1
    if info.channels_in == info.channels_out == 1:
        return channels
    raise BundleError(
        f"model {info.name!r} has {info.channels_in} channel(s) in and {info.channels_out} out; it cannot process "
        f"{channels} channel(s)"
    )


def _complex_view(array: np.ndarray) -> np.ndarray:
    """(1, channels, 1, bins, 2) float32 seen as (channels, bins) complex64, in the same memory."""
    return array.view(np.complex64).reshape(array.shape[1], array.shape[3])


@kernel("void(complex64[:, ::1], complex64[:, ::1])")
def link_masks(dry, wet):
    """Replace the masks wet / dry of all channels by their common least-squares fit."""
    channels, bins = dry.shape
    for k in range(bins):
        cross = np.complex64(0)
        power = np.float32(1e-20)
        for channel in range(channels):
            x = dry[channel, k]
            cross += wet[channel, k] * np.conj(x)
            power += x.real * x.real + x.imag * x.imag
        mask = cross / power
        for channel in range(channels):
            wet[channel, k] = mask * dry[channel, k]


@kernel("boolean(complex64[:, ::1])")
def all_finite(spectrum):
    total = np.float32(0)  # stays zero unless something is infinite or not a number: 0 * inf is not a number
    for channel in range(spectrum.shape[0]):
        for k in range(spectrum.shape[1]):
            total += np.float32(0) * spectrum[channel, k].real + np.float32(0) * spectrum[channel, k].imag
    return total == 0


# A loop of our own: NumPy's assignment brings broadcasting, and with it code that can raise and allocate.
@kernel("void(complex64[:, ::1], complex64[:, ::1])")
def copy_spectrum(source, target):
    for channel in range(source.shape[0]):
        for k in range(source.shape[1]):
            target[channel, k] = source[channel, k]


@kernel("void(complex64[:, ::1], complex64[:, ::1], int64[::1])")
def exchange(dry, late, oldest):
    """Put the present spectrum to those that wait, and take out the oldest: the one that the model answers now."""
    channels, bins = dry.shape
    if late.shape[0] == 0:
        return
    for channel in range(channels):
        for k in range(bins):
            value = dry[channel, k]
            dry[channel, k] = late[oldest[0] + channel, k]
            late[oldest[0] + channel, k] = value
    oldest[0] = (oldest[0] + channels) % late.shape[0]


fetch_frames = fetch_from(SpectralRecord)


@kernel("void(int64, float32[:, :])")
def begin(address, frame):
    """Analyse a frame into the `dry` spectrum."""
    frames = fetch_frames(address)
    analyse(frame, frames.dry, *frames.analysis)
    lap(frames.laps, ANALYSIS)


@kernel("boolean(int64, boolean, float32[:, :])")
def finish(address, fine, wet):
    """Make a frame of the `wet` spectrum, or of the dry one if the model has failed; returns whether it has not."""
    frames = fetch_frames(address)
    lap(frames.laps, MODEL)
    exchange(frames.dry, frames.late, frames.oldest)
    if fine and frames.streams > 1:
        link_masks(frames.dry, frames.wet)
    fine = fine and all_finite(frames.wet)
    if not fine:
        copy_spectrum(frames.dry, frames.wet)
    synthesise(frames.wet, wet, *frames.synthesis)
    lap(frames.laps, SYNTHESIS)
    return fine
