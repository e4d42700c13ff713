"""One frame through a model that works on samples and has whatever transform it needs inside."""

from typing import NamedTuple

import numpy as np

from .delay import delay_frame
from .engine import Engine
from .errors import BundleError
from .kernels import kernel
from .model_frames import ModelStreams, all_plausible
from .records import Counts, Image, Matrix, Vector, fetch_from
from .stages import ANALYSIS, MODEL, SYNTHESIS, lap, new_laps

FADE_MS = 4.0  # back to the model, once it works again
STEP_DECAY_MS = 2.0


class SampleRecord(NamedTuple):
    delay: Matrix
    dry: Matrix  # the input, as late as what the model makes
    given: Matrix  # to the model
    made: Matrix  # every source at every channel, sorted by source
    weight: Vector  # of the model in the last sample; below zero for as long as the fade waits
    lowest: np.float32  # of the weight
    gap: Vector  # by how much the last sample of each row differs from its share of the dry signal
    bridge: Vector  # what is left of such a gap
    fade: np.float32  # a sample
    decay: np.float32
    laps: Counts


class SampleFrames:
    """Frames through a model that takes and gives samples; see `model_frames.FrameModel`.

    The model has as many channels as the sound. One with a single channel is not run once for each ear, because what
    it does to the one would not be what it does to the other, and directions would be lost; samples have no mask that
    the ears could share, as spectra have.

    A step that fails gives the input instead, in equal shares to all sources, and starts the model afresh. The step
    between the two sounds decays within milliseconds. The way back is a fade, after as many samples as the model looks
    ahead: of those it makes, afresh, without having heard what came before.
    """

    def __init__(
        self, engine: Engine, channels: int, laps: np.ndarray | None = None, voice_target: np.ndarray | None = None
    ):
        info = engine.info
        if channels != info.channels_in or info.channels_in * info.sources != info.channels_out:
            raise BundleError(
                f"model {info.name!r} works on samples, of {info.channels_in} channel(s) in and {info.channels_out} "
                f"out; it cannot process {channels} channel(s)"
            )
        rate, rows = info.sample_rate, info.channels_out
        given = np.zeros((channels, info.frame), np.float32)
        made = np.zeros((rows, info.frame), np.float32)
        self.streams = ModelStreams([engine], "audio", given, made, voice_target)
        self.record = SampleRecord(
            delay=np.zeros((channels, info.lookahead), np.float32),
            dry=np.zeros((channels, info.frame), np.float32),
            given=given,
            made=made,
            weight=np.ones(1, np.float32),
            lowest=np.float32(-1000 / FADE_MS / rate * info.lookahead),
            gap=np.zeros(rows, np.float32),
            bridge=np.zeros(rows, np.float32),
            fade=np.float32(1000 / FADE_MS / rate),
            decay=np.float32(np.exp(-1000 / STEP_DECAY_MS / rate)),
            laps=new_laps() if laps is None else laps,
        )
        self.image = Image(self.record)

    def step(self, frame: np.ndarray, wet: np.ndarray) -> bool:
        begin_samples(self.image.address, frame)
        fine = finish_samples(self.image.address, self.streams.step(), wet)
        if not fine:
            self.streams.restart()
        return fine

    def reset(self) -> None:
        record = self.record
        for past in (record.delay, record.gap, record.bridge):
            past[:] = 0
        record.weight[:] = 1
        self.streams.reset()


fetch_samples = fetch_from(SampleRecord)


@kernel("void(int64, float32[:, ::1])")
def begin_samples(address, frame):
    """Give the frame to the model, and keep it for as long as the model looks ahead."""
    frames = fetch_samples(address)
    for channel in range(frame.shape[0]):
        for n in range(frame.shape[1]):
            frames.given[channel, n] = frame[channel, n]
    delay_frame(frame, frames.delay, frames.dry)
    lap(frames.laps, ANALYSIS)


@kernel("boolean(int64, boolean, float32[:, ::1])")
def finish_samples(address, fine, wet):
    """Write what the model has `made`, or the dry signal if it failed; returns whether it has not."""
    frames = fetch_samples(address)
    if fine:  # a model that rested has taken no time
        lap(frames.laps, MODEL)
    fine = fine and all_plausible(frames.made)
    (rows, length), channels = wet.shape, frames.dry.shape[0]
    share = np.float32(channels) / np.float32(rows)
    before = frames.weight[0]
    for row in range(rows):
        weight = before if fine else frames.lowest
        bridge = frames.gap[row] if before > 0 and not fine else frames.bridge[row]
        dry = np.float32(0)
        for n in range(length):
            bridge *= frames.decay
            dry = share * frames.dry[row % channels, n]
            wet[row, n] = dry + bridge
            if fine:
                weight = min(weight + frames.fade, np.float32(1))
                heard, made = max(weight, np.float32(0)), frames.made[row, n]
                wet[row, n] = made if heard == 1 else heard * made + (1 - heard) * wet[row, n]
        frames.bridge[row] = bridge
        frames.gap[row] = wet[row, length - 1] - dry
        frames.weight[0] = weight
    lap(frames.laps, SYNTHESIS)
    return fine
