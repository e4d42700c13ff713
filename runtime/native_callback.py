"""PortAudio's own callback, in machine code: the model and everything around it, without Python.

It is compiled once, for all models and sizes. What it works on it finds through the address that PortAudio hands over
(`userData`): the numbers of `Traffic`, and in them the address of a `StreamRecord`, or 0 for silence. The kernels are
those that Python uses elsewhere, on the same arrays, so that the sound is the same. No lock, no allocation, no GIL.
"""

import ctypes
from typing import NamedTuple

import numpy as np
from numba import carray, types

from .atomics import load, store
from .callback import meter
from .denormals import flush_denormals, restore_denormals
from .framelog import log_frame
from .kernels import c_function, kernel
from .model_frames import StreamsRecord, approach, copy_values
from .native_calls import call, pointer
from .native_clock import now_ns, thread_id, thread_ns
from .native_pace import DERAILED, MODE, judge_frame, keep_pace, model_is_heard, model_runs
from .outputstage import StageRecord, output_stage
from .records import Counts, Matrix, Table, Vector, fetch_from
from .rings import END, write
from .sample_frames import begin_samples, finish_samples
from .spectral_frames import begin_spectra, finish_spectra
from .stages import ON, OUT_QUEUE, SAFETY, begin_laps, lap
from .telemetry import TimesRecord, add
from .traffic import ENTERED, INPUTS, LEFT, OUTPUTS, PLACES, STREAM, THREAD, XRUNS, note_block
from .wetpath_kernels import FAILED_FRAMES, emit, fetch_path, give, next_frame, take

# Places in `StreamRecord.counts`, which goes on from one stream to the next.
FRAMES, LATE_BY_COMPUTE, LATE_BY_SCHEDULING, LATE_BY_HOST, FAILURES = range(5)
# Columns of `StreamRecord.places`, one row for each stream through the model.
MEMORY, CONSTANTS, SIGNAL_IN, SIGNAL_OUT, VOICE_IN = range(5)

SILENCE = 0  # address of no stream
CONTINUE = 0  # paContinue
GAPS = 0x0F  # of PaStreamCallbackFlags: under- and overflow of input and output
BILLION = 1_000_000_000

_ulong = types.uint32 if ctypes.sizeof(ctypes.c_ulong) == 4 else types.uint64


class StreamRecord(NamedTuple):
    path: int  # address of the image of a PathRecord
    frames: int  # of a SpectralRecord, or of a SampleRecord
    on_samples: bool  # which of the two
    step: int  # of the C function that is the model
    reset: int
    streams: StreamsRecord
    places: Table
    stage: StageRecord
    samples: Matrix
    wet: Matrix
    heard: Matrix
    chunk: int
    smallest: int
    largest: int
    sample_rate: int
    pace: Counts
    counts: Counts
    tally: Counts
    levels: Vector
    last_ns: Counts  # when the last block began
    duration: TimesRecord
    wake: TimesRecord
    slack: TimesRecord
    compute: TimesRecord
    tapped: bool
    tap: Matrix
    tap_span: Counts
    laps: Counts
    log: Table
    logged: Counts


fetch_stream = fetch_from(StreamRecord)


@kernel("void(int64)")
def reset_model(address):
    """Bring every stream through the model back to its initial state."""
    stream = fetch_stream(address)
    for index in range(stream.places.shape[0]):
        call(stream.reset, stream.places[index, MEMORY], stream.places[index, CONSTANTS])


@kernel("void(float32[:, ::1], float32[:, ::1], float32[::1], int64[:, ::1], int64)")
def run_streams(given, made, voice, places, step):
    """The same as `ModelStreams.step`, for a model that is a C function."""
    for index in range(places.shape[0]):
        memory = places[index]
        copy_values(given[index], carray(pointer(memory[SIGNAL_IN]), (given.shape[1],), np.float32))
        if voice.shape[0]:
            copy_values(voice, carray(pointer(memory[VOICE_IN]), (voice.shape[0],), np.float32))
        call(step, memory[MEMORY], memory[CONSTANTS])
        copy_values(carray(pointer(memory[SIGNAL_OUT]), (made.shape[1],), np.float32), made[index])


@kernel("boolean(int64, boolean)")
def step_model(address, runs):
    """Turn the frame that is complete into a wet one; False if the model has failed. If it rests, wet is dry."""
    stream = fetch_stream(address)
    path, (given, made, voice, voice_target) = fetch_path(stream.path), stream.streams
    if stream.on_samples:
        begin_samples(stream.frames, path.frame)
    else:
        begin_spectra(stream.frames, path.frame)
    approach(voice, voice_target)
    if runs:
        run_streams(given, made, voice, stream.places, stream.step)
    if stream.on_samples:
        fine = finish_samples(stream.frames, runs, path.wet)
    else:
        fine = finish_spectra(stream.frames, runs, path.wet)
    if runs and not fine:
        reset_model(address)
    return fine or not runs


@kernel("int64(int64, float32[:, :], float32[:, :])")
def run_wet_path(address, samples, wet):
    """The same as `WetPath.process`, for one chunk; returns how many frames were completed."""
    stream = fetch_stream(address)
    counts, stepped = stream.counts, 0
    take(stream.path, samples)
    while next_frame(stream.path):
        runs = model_runs(stream.pace)
        started_ns = now_ns()
        fine = step_model(address, runs)
        if runs:
            add(*stream.compute, now_ns() - started_ns)
            counts[FRAMES] += 1
            judge_frame(stream.pace, fine)
        if not fine:
            fetch_path(stream.path).counts[FAILED_FRAMES] += 1
            counts[FAILURES] += 1
        stepped += 1
        give(stream.path)
    emit(stream.path, wet)
    return stepped


@kernel("void(int64, float32[:, ::1], float32[:, ::1], int64)")
def play(address, indata, outdata, started_ns):
    """Play one block, (samples, channels) in and out."""
    stream = fetch_stream(address)
    frames, outputs = outdata.shape
    cpu_ns = thread_ns()
    begin_laps(stream.laps, started_ns)
    budget_ns = frames * BILLION // stream.sample_rate
    if not stream.smallest <= frames <= stream.largest:
        stream.pace[MODE] = DERAILED
    derailed = stream.pace[MODE] == DERAILED
    heard, stepped = model_is_heard(stream.pace), 0
    for start in range(0, frames, stream.chunk):
        count = min(stream.chunk, frames - start)
        samples, wet, out = stream.samples[:, :count], stream.wet[:, :count], stream.heard[:, :count]
        channels = samples.shape[0]
        for channel in range(channels):
            for n in range(count):
                samples[channel, n] = indata[start + n, channel]
        if not derailed:
            stepped += run_wet_path(address, samples, wet)
        output_stage(samples, wet, heard, out, *stream.stage)
        lap(stream.laps, SAFETY)
        for n in range(count):
            for channel in range(outputs):  # one channel is played on all
                outdata[start + n, channel] = out[min(channel, channels - 1), n]
        meter(samples, out, stream.levels)
        if stream.tapped:
            write(stream.tap, stream.tap_span, stream.tap_span[END], out)
        lap(stream.laps, OUT_QUEUE)
    elapsed_ns = now_ns() - started_ns
    late = elapsed_ns > budget_ns
    if late:
        computed = thread_ns() - cpu_ns > budget_ns
        stream.counts[LATE_BY_COMPUTE if computed else LATE_BY_SCHEDULING] += 1
    if derailed:
        stream.counts[LATE_BY_HOST] += 1
    if keep_pace(stream.pace, stream.tally, frames, heard, stepped > 0, late):
        reset_model(address)
    add(*stream.duration, elapsed_ns)
    add(*stream.slack, budget_ns - elapsed_ns)
    late_ns = started_ns - stream.last_ns[0] - budget_ns if stream.last_ns[0] > 0 else 0
    if stream.last_ns[0] > 0:
        add(*stream.wake, late_ns)
    if stream.laps[ON]:
        given_ns, left_ns = thread_ns() - cpu_ns, budget_ns - elapsed_ns
        log_frame(stream.log, stream.logged, started_ns, late_ns, elapsed_ns, left_ns, given_ns, stream.laps)
    stream.last_ns[0] = started_ns


@c_function(types.int32(types.uintp, types.uintp, _ulong, types.uintp, _ulong, types.uintp))
def callback(indata, outdata, frames, time, flags, data):
    """PaStreamCallback."""
    started_ns, control = now_ns(), flush_denormals()
    traffic = carray(pointer(types.int64(data)), (PLACES,), np.int64)
    count = types.int64(frames)
    store(traffic, ENTERED, traffic[ENTERED] + 1)
    note_block(traffic, count, started_ns)
    if traffic[THREAD] == 0:
        traffic[THREAD] = thread_id()
    if flags & GAPS:
        traffic[XRUNS] += 1
    samples = carray(pointer(types.int64(indata)), (count, traffic[INPUTS]), np.float32)
    heard = carray(pointer(types.int64(outdata)), (count, traffic[OUTPUTS]), np.float32)
    stream = load(traffic, STREAM)
    if stream == SILENCE or indata == 0:
        for n in range(count):
            for channel in range(traffic[OUTPUTS]):
                heard[n, channel] = 0
    else:
        play(stream, samples, heard, started_ns)
    store(traffic, LEFT, traffic[ENTERED])
    restore_denormals(control)
    return CONTINUE


@kernel("void(int64[::1], int64)")
def switch(traffic, stream):
    """Let the callback play another stream from its next block on; `inside` tells if it may still play the old one."""
    store(traffic, STREAM, stream)


@kernel("boolean(int64[::1])")
def inside(traffic):
    left = load(traffic, LEFT)
    return load(traffic, ENTERED) != left
