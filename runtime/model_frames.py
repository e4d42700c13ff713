"""One frame through a model of spectra: analysis, engine, synthesis, and what to do when the model fails."""

from typing import NamedTuple, Protocol

import numpy as np

from .bundle import BundleInfo
from .engine import Engine
from .errors import BundleError, EngineError
from .frontend import Analysis, AnalysisRecord, Synthesis, SynthesisRecord, analyse, synthesise
from .kernels import kernel
from .records import Counts, Image, Spectrum, Vector, fetch_from
from .stages import ANALYSIS, MODEL, SYNTHESIS, lap, new_laps

VOICE_FADE = np.float32(0.33)  # of the way to another voice, each frame: 95 % after 60 ms
NEGLIGIBLE_POWER = np.float32(1e-10)  # of the mean of all channels, against the sum of their powers


class FrameModel(Protocol):
    """Turns frames of audio at the model's rate into frames that come `lookahead` samples later."""

    def step(self, frame: np.ndarray, wet: np.ndarray) -> bool:
        """float32 (channels, frame) in, (sources * channels, frame) out, sorted by source.

        Returns False if the model failed; each source is then its share of the unprocessed signal.
        """

    def reset(self) -> None: ...


class SpectralRecord(NamedTuple):
    analysis: AnalysisRecord
    synthesis: SynthesisRecord
    dry: Spectrum
    given: Spectrum  # to the model: `dry`, or the mean of its channels
    made: Spectrum  # by the model: `wet`, or what it gives for the mean
    wet: Spectrum  # every source at every channel, sorted by source
    late: Spectrum  # dry spectra that wait until the model has looked ahead of them, frame after frame
    oldest: Counts
    streams: int
    sources: int
    voice: Vector  # the map of the voice that is heard; nothing for models that are not steered
    voice_target: Vector  # of the voice that is to be heard
    laps: Counts


class SpectralFrames:
    """Frames through a model that works on spectra.

    A model with one channel gets a stream of its own for every channel, and then all channels are given one common
    complex mask, the least-squares fit of what the model did to each:

        M = sum_c Y_c conj(X_c) / sum_c |X_c|^2

    so that level and time differences between the ears, and with them the direction of every sound, stay as they were.

    A model that separates gives several sources for one channel, in an order of its own. With a stream for each channel
    a talker might come first at the left ear and second at the right. So there is one stream, through which the mean of
    all channels goes, and for each source the mask that it applied to the mean is applied to every channel.

    A step that fails (an exception, or anything that is not finite) lets the input spectrum through instead, in equal
    shares to all sources, and starts the model afresh. Overlap-add cross-fades between the two over 4 ms, so a failure
    never clicks.

    A model that hears one voice is steered by a map of it, `voice_target`, which may be exchanged at any time. From
    frame to frame the map that the model is given approaches it, so that one voice fades into the other within a tenth
    of a second.

    `laps` is a watch that is told of every stage; see stages.py.
    """

    def __init__(
        self, engine: Engine, channels: int, laps: np.ndarray | None = None, voice_target: np.ndarray | None = None
    ):
        info = engine.info
        self.engines = [engine] + [engine.another() for _ in range(streams(info, channels) - 1)]
        self.analysis = Analysis(info.windows, channels)
        self.synthesis = Synthesis(info.windows, info.sources * channels)
        frames_late = (info.lookahead - info.windows.lookahead) // info.frame
        dry = np.zeros((channels, info.windows.bins), np.complex64)
        wet = np.zeros((info.sources * channels, info.windows.bins), np.complex64)
        one_for_all = info.sources > 1 and channels > 1
        ports = [port for port in info.inputs if port.role == "embedding"]
        voice_target = voice_values(info, voice_target)
        self.record = SpectralRecord(
            self.analysis.record,
            self.synthesis.record,
            dry=dry,
            given=np.zeros_like(dry[:1]) if one_for_all else dry,
            made=np.zeros_like(wet[: info.sources]) if one_for_all else wet,
            wet=wet,
            late=np.zeros((frames_late * channels, info.windows.bins), np.complex64),
            oldest=np.zeros(1, np.int64),
            streams=len(self.engines),
            sources=info.sources,
            voice=voice_target.copy(),
            voice_target=voice_target,
            laps=new_laps() if laps is None else laps,
        )
        self.image = Image(self.record)
        # The parts that belong to each stream, here and in the memory of its engine.
        self.given = np.split(self.record.given, len(self.engines))
        self.made = np.split(self.record.made, len(self.engines))
        name_in, name_out = info.port("spectrum", "inputs").name, info.port("spectrum", "outputs").name
        self.inputs = [_complex_view(each.inputs[name_in]) for each in self.engines]
        self.outputs = [_complex_view(each.outputs[name_out]) for each in self.engines]
        self.voices = [each.inputs[port.name].reshape(-1) for each in self.engines for port in ports]

    def step(self, frame: np.ndarray, wet: np.ndarray) -> bool:
        begin(self.image.address, frame)
        for voice in self.voices:
            voice[:] = self.record.voice
        fine = True
        for index, engine in enumerate(self.engines):
            self.inputs[index][:] = self.given[index]
            try:
                engine.step()
            except EngineError:
                fine = False
                break
            self.made[index][:] = self.outputs[index]
        fine = finish(self.image.address, fine, wet)
        if not fine:
            for engine in self.engines:
                engine.reset()
        return fine

    def reset(self) -> None:
        self.analysis.reset()
        self.synthesis.reset()
        self.record.late[:] = 0
        self.record.voice[:] = self.record.voice_target
        for engine in self.engines:
            engine.reset()


def voice_values(info: BundleInfo, voice_target: np.ndarray | None) -> np.ndarray:
    """The map of the voice that a model is to hear: that of the controls, else zeros; empty if the model takes none.

    Raises BundleError if it has another size.
    """
    values = sum(int(np.prod(port.shape)) for port in info.inputs if port.role == "embedding")
    if voice_target is None or not len(voice_target):
        return np.zeros(values, np.float32)
    if len(voice_target) != values:
        raise BundleError(f"the map of the voice has {len(voice_target)} values; model {info.name!r} takes {values}")
    return voice_target


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


# A loop of our own: NumPy's assignment brings broadcasting, and with it code that can raise and allocate.
@kernel("void(complex64[:, ::1], complex64[:, ::1])")
def copy_spectrum(source, target):
    for channel in range(source.shape[0]):
        for k in range(source.shape[1]):
            target[channel, k] = source[channel, k]


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


@kernel("void(float32[::1], float32[::1])")
def fade_voice(voice, target):
    """Bring the map that the model is given nearer to that of the chosen voice."""
    for n in range(voice.shape[0]):
        voice[n] += VOICE_FADE * (target[n] - voice[n])


@kernel("void(float32[::1], float32[::1])")
def copy_values(source, target):
    for n in range(source.shape[0]):
        target[n] = source[n]


fetch_frames = fetch_from(SpectralRecord)


@kernel("void(int64, float32[:, :])")
def begin(address, frame):
    """Analyse a frame into the `dry` spectrum, and make of it what the model is `given`."""
    frames = fetch_frames(address)
    analyse(frame, frames.dry, *frames.analysis)
    if frames.given.shape[0] < frames.dry.shape[0]:
        mix_down(frames.dry, frames.given)
    fade_voice(frames.voice, frames.voice_target)
    lap(frames.laps, ANALYSIS)


@kernel("boolean(int64, boolean, float32[:, :])")
def finish(address, fine, wet):
    """Make a frame of what the model has `made`, or of the dry spectrum if it failed; returns whether it has not."""
    frames = fetch_frames(address)
    lap(frames.laps, MODEL)
    exchange(frames.dry, frames.late, frames.oldest)
    if fine and frames.streams > 1:
        link_masks(frames.dry, frames.wet)
    if fine and frames.made.shape[0] < frames.wet.shape[0]:
        spread_masks(frames.dry, frames.made, frames.wet)
    fine = fine and all_finite(frames.wet)
    if not fine:
        share_equally(frames.dry, frames.wet)
    synthesise(frames.wet, wet, *frames.synthesis)
    lap(frames.laps, SYNTHESIS)
    return fine
