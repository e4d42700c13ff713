"""The audio callback of the live loop on the worker path.

It hands the input to the worker, takes what the worker has finished, and lets the output stage make of it what is
heard. It never waits, takes no lock, and keeps nothing that it allocates. Every loop over samples is a compiled kernel.
"""

from time import perf_counter_ns

import numpy as np

from .denormals import flush_denormals
from .exchange import Exchange
from .kernels import kernel
from .outputstage import OutputStage
from .realtime import AUDIO_PRIORITY, raise_priority
from .rings import Ring
from .telemetry import Times

MISSES_TO_BYPASS = 4
BLOCKS_TO_RETURN = 50
LONGEST_PIECE = 1024

BLOCKS, MISSES, CONCEALED, BYPASSES, LONGEST_RUN, RUN, RUN_SAMPLES, KEPT_UP_SAMPLES, BYPASSED = range(9)


class Tally:
    """What became of the blocks of a stream.

    A *miss* is a block whose wet samples were not there in time. A *concealed* block was given the dry signal, because
    of a miss or because the worker has not yet kept up for long enough after several misses in a row.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(9, np.int64)
        self.levels = np.zeros(2, np.float32)  # largest mean square of a block, in and out, since last taken

    @property
    def blocks(self) -> int:
        return int(self.counts[BLOCKS])

    @property
    def misses(self) -> int:
        return int(self.counts[MISSES])

    @property
    def concealed(self) -> int:
        return int(self.counts[CONCEALED])

    @property
    def bypasses(self) -> int:
        """How often misses in a row have switched the wet signal off."""
        return int(self.counts[BYPASSES])

    @property
    def longest_miss_run(self) -> int:
        return int(self.counts[LONGEST_RUN])

    @property
    def bypassed(self) -> bool:
        return bool(self.counts[BYPASSED])

    def take_levels_dbfs(self) -> tuple[float, float]:
        """Levels of the loudest block, in and out, since the last call; a full-scale square wave has 0 dBFS."""
        level_in, level_out = 10 * np.log10(self.levels + 1e-12)
        self.levels[:] = 0
        return float(level_in), float(level_out)


class Callback:
    """What the device calls, once everything is set up.

    Parameters
    ----------
    exchange : Exchange
    stage : OutputStage
        Its dry delay is that of the wet path and the hand-over together.
    channels : int
    sample_rate : int
        In Hz.
    tally : Tally
    times, slack : Times
        Receive the duration of every call, and how much of the block's time it left.
    tap : Ring, optional
        Receives what is heard, for a recording.

    Attributes
    ----------
    position : int
        Samples since the start.
    scheduling : str
        Scheduling class of the audio thread.
    errors : int
        Calls in which something failed; `error` is the last of them.
    """

    def __init__(
        self,
        exchange: Exchange,
        stage: OutputStage,
        channels: int,
        sample_rate: int,
        tally: Tally,
        times: Times,
        slack: Times,
        tap: Ring | None = None,
    ):
        self.exchange, self.stage, self.tally, self.tap = exchange, stage, tally, tap
        self.times, self.slack, self._sample_rate = times, slack, sample_rate
        self.position = 0
        self.scheduling = "not started"
        self.errors, self.error = 0, ""
        self._ceiling = stage.record.ceiling  # for where the output stage itself fails
        self._input = np.zeros((channels, LONGEST_PIECE), np.float32)
        self._wet = np.zeros_like(self._input)
        self._output = np.zeros_like(self._input)
        self._chunk = exchange.hand_over.chunk
        self._delay = exchange.hand_over.delay
        self._frame = exchange.hand_over.budget
        self._first = True

    def __call__(self, indata: np.ndarray, outdata: np.ndarray, frames: int) -> None:
        started = perf_counter_ns()
        try:
            if self._first:
                self._first = False
                self.scheduling = raise_priority(AUDIO_PRIORITY)
                flush_denormals()
            self.play(indata, outdata, frames)
        except Exception as error:  # the sound must go on, whatever it is
            self.errors += 1
            self.error = f"{type(error).__name__}: {error}"
            outdata[:] = np.clip(np.nan_to_num(indata), -self._ceiling, self._ceiling)
        elapsed = perf_counter_ns() - started
        self.times.add(elapsed)
        self.slack.add(1_000_000_000 * frames // self._sample_rate - elapsed)

    def play(self, indata: np.ndarray, outdata: np.ndarray, frames: int) -> None:
        """The work of a call, without its safety net."""
        exchange, counts = self.exchange, self.tally.counts
        completes = complete(exchange.completed_ns, self.position, frames, self._chunk, perf_counter_ns())
        first = self.position - self._delay
        exchange.asked[0] = first + frames
        if exchange.failed:
            counts[BLOCKS] += 1
            counts[CONCEALED] += 1
            heard = False
        else:
            arrived = exchange.wet.start <= first and first + frames <= exchange.wet.end
            heard = judge(counts, arrived, frames, self._frame)
        try:
            for start in range(0, frames, LONGEST_PIECE):
                self._piece(indata[start : start + LONGEST_PIECE], outdata[start : start + LONGEST_PIECE], heard)
        finally:
            if completes:
                exchange.bell.post()

    def _piece(self, indata: np.ndarray, outdata: np.ndarray, wet_heard: bool) -> None:
        count = len(indata)
        samples, wet, heard = self._input[:, :count], self._wet[:, :count], self._output[:, :count]
        exchange, position = self.exchange, self.position
        self.position += count
        np.copyto(samples, indata.T)
        exchange.input.write(position, samples)
        valid = wet_heard and exchange.wet.read(position - self._delay, wet)
        self.stage.process(samples, wet, valid, heard)
        np.copyto(outdata, heard.T)  # one channel is played on all
        meter(samples, heard, self.tally.levels)
        if self.tap is not None:
            self.tap.write(self.tap.end, heard)


@kernel("boolean(int64[::1], boolean, int64, int64)")
def judge(counts, arrived, samples, frame):
    """Count a block; returns whether its wet samples shall be heard.

    Runs are measured in blocks, or in frames where blocks are shorter: a late frame is one miss in this respect.
    """
    unit = max(samples, frame)
    counts[BLOCKS] += 1
    if arrived:
        counts[RUN] = counts[RUN_SAMPLES] = 0
        counts[KEPT_UP_SAMPLES] += samples
        if counts[BYPASSED] and counts[KEPT_UP_SAMPLES] >= BLOCKS_TO_RETURN * unit:
            counts[BYPASSED] = 0
    else:
        counts[MISSES] += 1
        counts[RUN] += 1
        counts[RUN_SAMPLES] += samples
        counts[LONGEST_RUN] = max(counts[LONGEST_RUN], counts[RUN])
        counts[KEPT_UP_SAMPLES] = 0
        if not counts[BYPASSED] and counts[RUN_SAMPLES] >= MISSES_TO_BYPASS * unit:
            counts[BYPASSED] = 1
            counts[BYPASSES] += 1
    heard = arrived and not counts[BYPASSED]
    if not heard:
        counts[CONCEALED] += 1
    return heard


@kernel("boolean(int64[::1], int64, int64, int64, int64)")
def complete(completed_ns, position, samples, chunk, now):
    """Note the time for each chunk that a block completes; returns whether there is one."""
    first, last = position // chunk, (position + samples) // chunk
    for index in range(first, last):
        completed_ns[index % completed_ns.shape[0]] = now
    return last > first


@kernel("void(float32[:, :], float32[:, :], float32[::1])")
def meter(samples, heard, levels):
    for side in range(2):
        signal = samples if side == 0 else heard
        total = np.float32(0)
        for channel in range(signal.shape[0]):
            for n in range(signal.shape[1]):
                total += signal[channel, n] * signal[channel, n]
        mean = total / np.float32(signal.size)
        if mean > levels[side]:  # false for NaN
            levels[side] = mean
