"""One frame through a model of spectra: analysis, model, synthesis, and what to do when the model fails."""

from typing import NamedTuple

import numpy as np

from .bundle_info import BundleInfo
from .engine import Engine
from .errors import BundleError
from .frontend import Analysis, AnalysisRecord, Synthesis, SynthesisRecord, analyse, synthesise
from .kernels import kernel
from .model_frames import ModelStreams, all_plausible
from .records import Counts, Image, Matrix, Spectrum, fetch_from
from .stages import ANALYSIS, MODEL, SYNTHESIS, lap, new_laps

NEGLIGIBLE_POWER = np.float32(1e-10)  # of the mean of all channels, against the sum of their powers


class SpectralRecord(NamedTuple):
    analysis: AnalysisRecord
    synthesis: SynthesisRecord
    dry: Spectrum
    given: Spectrum  # to the model: `dry`, or the mean of its channels
    made: Spectrum  # by the model: `wet`, or what it gives for the mean
    wet: Spectrum  # every source at every channel, sorted by source
    wet_values: Matrix  # the same memory as `wet`
    late: Spectrum  # dry spectra that wait until the model has looked ahead of them, frame after frame
    oldest: Counts
    streams: int
    sources: int
    laps: Counts


class SpectralFrames:
    """Frames through a model that works on spectra; see `model_frames.FrameModel`.

    A model with one channel gets a stream of its own for every channel, and then all channels are given one common
    complex mask, the least-squares fit of what the model did to each:

        M = sum_c Y_c conj(X_c) / sum_c |X_c|^2

    so that level and time differences between the ears, and with them the direction of every sound, stay as they were.

    A model that separates gives several sources for one channel, in an order of its own. With a stream for each channel
    a talker might come first at the left ear and second at the right. So there is one stream, through which the mean of
    all channels goes, and for each source the mask that it applied to the mean is applied to every channel.

    A step that fails (an exception, or anything that is not finite or far beyond all sound) lets the input spectrum
    through instead, in equal shares to all sources, and starts the model afresh. Overlap-add cross-fades between the
    two over 4 ms, so a failure never clicks.

    `laps` is a watch that is told of every stage; see stages.py.
    """

    def __init__(
        self, engine: Engine, channels: int, laps: np.ndarray | None = None, voice_target: np.ndarray | None = None
    ):
        info = engine.info
        engines = [engine] + [engine.another() for _ in range(streams(info, channels) - 1)]
        self.analysis = Analysis(info.windows, channels)
        self.synthesis = Synthesis(info.windows, info.sources * channels)
        frames_late = (info.lookahead - info.windows.lookahead) // info.frame
        dry = np.zeros((channels, info.windows.bins), np.complex64)
        wet = np.zeros((info.sources * channels, info.windows.bins), np.complex64)
        one_for_all = info.sources > 1 and channels > 1
        given = np.zeros_like(dry[:1]) if one_for_all else dry
        made = np.zeros_like(wet[: info.sources]) if one_for_all else wet
        self.streams = ModelStreams(engines, "spectrum", given, made, voice_target)
        self.record = SpectralRecord(
            self.analysis.record,
            self.synthesis.record,
            dry=dry,
            given=given,
            made=made,
            wet=wet,
            wet_values=wet.view(np.float32),
            late=np.zeros((frames_late * channels, info.windows.bins), np.complex64),
            oldest=np.zeros(1, np.int64),
            streams=len(engines),
            sources=info.sources,
            laps=new_laps() if laps is None else laps,
        )
        self.image = Image(self.record)

    def step(self, frame: np.ndarray, wet: np.ndarray) -> bool:
        begin_spectra(self.image.address, frame)
        fine = finish_spectra(self.image.address, self.streams.step(), wet)
        if not fine:
            self.streams.restart()
        return fine

    def reset(self) -> None:
        self.analysis.reset()
        self.synthesis.reset()
        self.record.late[:] = 0
        self.streams.reset()


def streams(info: BundleInfo, channels: int) -> int:
    """How many streams of the model it takes for so many channels; raises BundleError if it cannot be done."""
    if info.sources > 1 and info.channels_in == 1:
        return 1
    if info.channels_in == info.channels_out == channels and info.sources == 1:
        return 1
    if info.channels_in == info.channels_out == 1:
        return channels
    raise BundleError(
        f"model {info.name!r} has {info.channels_in} channel(s) in and {info.channels_out} out; it cannot process "
        f"{channels} channel(s)"
    )


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


@kernel("void(complex64[:, ::1], complex64[:, ::1])")
def mix_down(dry, given):
    """Write the mean of all channels."""
    channels, bins = dry.shape
    for k in range(bins):
        total = np.complex64(0)
        for channel in range(channels):
            total += dry[channel, k]
        given[0, k] = total / np.float32(channels)


@kernel("void(complex64[:, ::1], complex64[:, ::1], complex64[:, ::1])")
def spread_masks(dry, made, wet):
    """Apply the mask made / mean of each source to all channels.

    Where the channels cancel one another the mean says nothing, and the sources are drawn to equal shares. Masks that
    add up to one still do.
    """
    channels, bins = dry.shape
    sources = made.shape[0]
    share = np.float32(1) / np.float32(sources)
    for k in range(bins):
        mean, power = np.complex64(0), np.float32(1e-20)
        for channel in range(channels):
            x = dry[channel, k]
            mean += x
            power += x.real * x.real + x.imag * x.imag
        mean /= np.float32(channels)
        doubt = NEGLIGIBLE_POWER * power
        certain = mean.real * mean.real + mean.imag * mean.imag
        for source in range(sources):
            mask = (made[source, k] * np.conj(mean) + doubt * share) / (certain + doubt)
            for channel in range(channels):
                wet[source * channels + channel, k] = mask * dry[channel, k]


@kernel("void(complex64[:, ::1], complex64[:, ::1])")
def share_equally(dry, wet):
    """Give every source the same part of the input, so that they add up to it."""
    channels, bins = dry.shape
    share = np.float32(channels) / np.float32(wet.shape[0])
    for row in range(wet.shape[0]):
        for k in range(bins):
            wet[row, k] = share * dry[row % channels, k]


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


fetch_spectra = fetch_from(SpectralRecord)


@kernel("void(int64, float32[:, :])")
def begin_spectra(address, frame):
    """Analyse a frame into the `dry` spectrum, and make of it what the model is `given`."""
    frames = fetch_spectra(address)
    analyse(frame, frames.dry, *frames.analysis)
    if frames.given.shape[0] < frames.dry.shape[0]:
        mix_down(frames.dry, frames.given)
    lap(frames.laps, ANALYSIS)


@kernel("boolean(int64, boolean, float32[:, :])")
def finish_spectra(address, fine, wet):
    """Make a frame of what the model has `made`, or of the dry spectrum if it failed; returns whether it has not."""
    frames = fetch_spectra(address)
    if fine:  # a model that rested has taken no time
        lap(frames.laps, MODEL)
    exchange(frames.dry, frames.late, frames.oldest)
    if fine and frames.streams > 1:
        link_masks(frames.dry, frames.wet)
    if fine and frames.made.shape[0] < frames.wet.shape[0]:
        spread_masks(frames.dry, frames.made, frames.wet)
    fine = fine and all_plausible(frames.wet_values)
    if not fine:
        share_equally(frames.dry, frames.wet)
    synthesise(frames.wet, wet, *frames.synthesis)
    lap(frames.laps, SYNTHESIS)
    return fine
