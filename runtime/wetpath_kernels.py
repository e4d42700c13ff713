"""A chunk's way through the wet path, as machine code: what Python and the native callback both call.

    take --> next_frame --> (the model, at every frame that is complete) --> give --> emit

For the path itself, and what is laid out in its record, see wetpath.py.
"""

from typing import NamedTuple

import numpy as np

from .band import add_band, split_band
from .kernels import kernel
from .reblock import QueueRecord, pop, push
from .records import Counts, Matrix, Vector, fetch_from
from .remix import remix
from .resample import ResamplerRecord, resample
from .safety import sanitise
from .stages import IN_QUEUE, OUT_QUEUE, RESAMPLE, lap

# Places in `PathRecord.counts`: events, frames, and how far the gathering of the next one has come.
BAD_SAMPLES, FAILED_FRAMES, FRAMES, AVAILABLE, TAKEN, FILLED = range(6)


class PathRecord(NamedTuple):
    counts: Counts
    clean: Matrix
    inner: Matrix  # at the model's rate; the same as `clean` if that is the rate of the audio
    frame: Matrix
    wet: Matrix  # every source at every channel, sorted by source, as everywhere below
    queue: QueueRecord
    popped: Matrix
    resampled: bool
    down: ResamplerRecord
    up: ResamplerRecord
    difference: Matrix
    outer: Matrix
    dry_delay: Matrix
    dry: Matrix
    band: Vector  # gain above the model's band, of each source
    shares: Vector
    smoothing: np.float32
    line: QueueRecord
    delayed: Matrix
    apart: Matrix
    gains: Matrix  # of the sources
    gain_targets: Vector
    gain_rate: np.float32
    laps: Counts


fetch_path = fetch_from(PathRecord)


@kernel("void(int64, float32[:, :])")
def take(address, samples):
    """Take a chunk of input, and resample it to the model's rate, mostly down; `next_frame` finds it there."""
    path = fetch_path(address)
    count = samples.shape[1]
    clean = path.clean[:, :count]
    path.counts[BAD_SAMPLES] += sanitise(samples, clean)
    path.counts[TAKEN] = 0
    path.counts[AVAILABLE] = count
    if path.resampled:
        push(*path.line, clean, count)
    lap(path.laps, IN_QUEUE)
    if path.resampled:
        path.counts[AVAILABLE] = resample(clean, path.inner, *path.down)
        lap(path.laps, RESAMPLE)


@kernel("boolean(int64)")
def next_frame(address):
    """Gather the next frame in `frame`; False if the input does not suffice, and the rest will come later."""
    path = fetch_path(address)
    counts = path.counts
    channels, length = path.frame.shape
    part = min(counts[AVAILABLE] - counts[TAKEN], length - counts[FILLED])
    for channel in range(channels):
        for n in range(part):
            path.frame[channel, counts[FILLED] + n] = path.inner[channel, counts[TAKEN] + n]
    counts[TAKEN] += part
    counts[FILLED] += part
    lap(path.laps, IN_QUEUE)
    if counts[FILLED] < length:
        return False
    counts[FILLED] = 0
    return True


@kernel("void(int64)")
def give(address):
    """Send `wet`, which the model has made of `frame`, on its way to the output."""
    path = fetch_path(address)
    path.counts[FRAMES] += 1
    if path.resampled:
        split_band(
            path.frame, path.wet, path.dry_delay, path.dry, path.band, path.shares, path.smoothing, path.difference
        )
        count = resample(path.difference, path.outer, *path.up)
        lap(path.laps, RESAMPLE)
        push(*path.queue, path.outer, count)
    else:
        push(*path.queue, path.wet, path.wet.shape[1])
    lap(path.laps, OUT_QUEUE)


@kernel("void(int64, float32[:, :])")
def emit_apart(address, out):
    """Write as much output as `take` took input: every source by itself."""
    path = fetch_path(address)
    count = out.shape[1]
    pop(*path.queue, path.popped, count)
    if path.resampled:
        pop(*path.line, path.delayed, count)
        add_band(path.popped, path.delayed[:, :count], out)
    else:
        for row in range(out.shape[0]):
            for n in range(count):
                out[row, n] = path.popped[row, n]
    lap(path.laps, OUT_QUEUE)


@kernel("void(int64, float32[:, :])")
def emit(address, out):
    """Write as much output as `take` took input: all sources, added up with their gains."""
    path = fetch_path(address)
    apart = path.apart[:, : out.shape[1]]
    emit_apart(address, apart)
    remix(apart, path.gains, path.gain_targets, path.gain_rate, out)
    lap(path.laps, OUT_QUEUE)
