"""The output stage: the last thing before the ears, in every mode.

It owns the dry signal, delayed like the wet one, and decides per sample how the two are mixed:

    heard = c wet + (1 - c) substitute            c falls to 0 where wet samples are missing, and fades back in
    out   = limit(ramp * gain * (d dry + (1 - d) heard))      d follows the controls

The substitute for missing wet samples is the dry signal at the level that the wet one had, which is let go within
50 ms; what is left of the step between the two decays within milliseconds. So a lost frame neither clicks nor lets
a burst of noise through, and a long stall turns into the plain dry signal.

All of it is one kernel without allocation, for the audio callback.
"""

from typing import NamedTuple

import numpy as np

from .controls import Controls
from .errors import HearloopError
from .glide import glide, glide_rate, new_glides, settle
from .kernels import kernel
from .records import Counts, Matrix, Vector
from .safety import LARGEST_INPUT, LARGEST_OUTPUT, LIMITER_RELEASE_MS, limit

START_RAMP_MS = 50.0
FADE_IN_MS = 5.0
STEP_DECAY_MS = 2.0
LEVEL_MEMORY_MS = 10.0
LEVEL_RELEASE_MS = 50.0

# Places in the per-stage state vector. The ramp is negative until the delay line is full: what comes out of the line,
# and out of the wet path, is silence until then, and a ramp over silence would be open when the sound sets in.
RAMP, RAMP_TARGET, WET_WEIGHT, LIMITER, WET_POWER, DRY_POWER, MATCH = range(7)
# Rows of the controls.
DRY_WEIGHT, GAIN = range(2)
# Places in the vector of rates: per sample, how far a value moves, or what is left of it.
GLIDE_RATE, RAMP_RATE, FADE_IN_RATE, STEP_DECAY, LEVEL_MEMORY, LEVEL_RELEASE, LIMITER_RELEASE = range(7)


class StageRecord(NamedTuple):
    line: Matrix  # delays the dry signal
    at: Counts
    state: Vector
    bridge: Matrix  # step left to decay, last sample heard, and of the dry signal
    rates: Vector
    controls: Matrix
    targets: Vector  # of the controls
    ceiling: np.float32


class OutputStage:
    """Mixes dry and wet, conceals, limits.

    Parameters
    ----------
    channels : int
    sample_rate : int
        In Hz.
    latency_samples : int
        Delay of the wet signal, by which the dry one is delayed too.
    controls : Controls
    ceiling_dbfs : float
        No output sample ever exceeds this.
    """

    def __init__(
        self, channels: int, sample_rate: int, latency_samples: int, controls: Controls, ceiling_dbfs: float = -1.0
    ):
        if not -60 <= ceiling_dbfs <= 0:
            raise HearloopError(f"ceiling_dbfs is {ceiling_dbfs!r}; expected a number from -60 to 0")
        per_ms = sample_rate / 1000
        rates = np.array(
            [
                glide_rate(sample_rate),
                1 / (START_RAMP_MS * per_ms),
                1 / (FADE_IN_MS * per_ms),
                np.exp(-1 / (STEP_DECAY_MS * per_ms)),
                np.exp(-1 / (LEVEL_MEMORY_MS * per_ms)),
                1 - np.exp(-1 / (LEVEL_RELEASE_MS * per_ms)),
                1 - np.exp(-1 / (LIMITER_RELEASE_MS * per_ms)),
            ],
            np.float32,
        )
        self.record = StageRecord(
            line=np.zeros((channels, latency_samples + 1), np.float32),
            at=np.zeros(1, np.int64),
            state=np.zeros(7, np.float32),
            bridge=np.zeros((3, channels), np.float32),
            rates=rates,
            controls=new_glides(controls.targets),
            targets=controls.targets,
            ceiling=np.float32(10 ** (ceiling_dbfs / 20)),
        )
        self.record.state[RAMP] = -latency_samples * rates[RAMP_RATE]
        self.reset()

    def process(self, samples: np.ndarray, wet: np.ndarray, wet_valid: bool, out: np.ndarray) -> None:
        """Take the input and the wet signal, float32 (channels, n) each; write (channels, n).

        Where `wet_valid` is false, `wet` is not looked at.
        """
        output_stage(samples, wet, wet_valid, out, *self.record)

    def start(self, ramp: bool = True) -> None:
        """Open the output, by default with a ramp from silence, which begins when sound has come through the delay."""
        self.record.state[RAMP_TARGET] = 1
        if not ramp:
            self.record.state[RAMP] = 1

    def stop(self) -> None:
        """Close the output with a ramp; `silent` tells when it has ended."""
        self.record.state[RAMP_TARGET] = 0

    @property
    def silent(self) -> bool:
        state = self.record.state
        return bool(state[RAMP] <= 0 and state[RAMP_TARGET] == 0)

    def reset(self) -> None:
        """Forget all signal; the ramp stays where it is."""
        record, state = self.record, self.record.state
        for past in (record.line, record.at, record.bridge):
            past[:] = 0
        settle(record.controls, record.targets)
        state[:] = (state[RAMP], state[RAMP_TARGET], 1, 1, 0, 0, 1)


@kernel("float32(float32, float32, float32)")
def approach(value, target, step):
    """Move in a straight line, and arrive exactly."""
    return min(value + step, target) if value < target else max(value - step, target)


@kernel(
    "void(float32[:, :], float32[:, :], boolean, float32[:, :], float32[:, ::1], int64[::1], float32[::1], "
    "float32[:, ::1], float32[::1], float32[:, ::1], float32[::1], float32)"
)
def output_stage(samples, wet, wet_valid, out, line, at, state, bridge, rates, controls, targets, ceiling):
    """Fill `out`: mix the delayed dry signal and the wet one, conceal what is missing, and limit."""
    channels, count = samples.shape
    length = line.shape[1]
    one = np.float32(1)
    if not wet_valid and state[WET_WEIGHT] > 0:
        # The wet signal ends here: keep its level against the dry one, and bridge the step.
        state[MATCH] = min(np.sqrt((state[WET_POWER] + 1e-12) / (state[DRY_POWER] + 1e-12)), 1.0)
    lost = not wet_valid and state[WET_WEIGHT] > 0
    for n in range(count):
        write = at[0]
        read = write + 1 if write + 1 < length else 0
        at[0] = read
        d = glide(controls[DRY_WEIGHT], targets[DRY_WEIGHT], rates[GLIDE_RATE])
        gain = glide(controls[GAIN], targets[GAIN], rates[GLIDE_RATE])
        state[RAMP] = approach(state[RAMP], state[RAMP_TARGET], rates[RAMP_RATE])
        state[WET_WEIGHT] = min(state[WET_WEIGHT] + rates[FADE_IN_RATE], one) if wet_valid else np.float32(0)
        state[MATCH] += rates[LEVEL_RELEASE] * (one - state[MATCH])
        c = state[WET_WEIGHT]
        # A smooth ramp: it starts and ends without a corner.
        ramp = max(state[RAMP], np.float32(0))
        ramp = ramp * ramp * (3 - 2 * ramp)
        wet_power, dry_power = np.float32(0), np.float32(0)
        for channel in range(channels):
            value = samples[channel, n]
            if not np.isfinite(value):
                value = np.float32(0)
            line[channel, write] = min(max(value, -LARGEST_INPUT), LARGEST_INPUT)
            dry = line[channel, read]
            substitute = state[MATCH] * dry
            if lost and n == 0:
                bridge[0, channel] = bridge[1, channel] - state[MATCH] * bridge[2, channel]
            substitute += bridge[0, channel]
            bridge[0, channel] *= rates[STEP_DECAY]
            heard = substitute
            if wet_valid and abs(wet[channel, n]) <= LARGEST_OUTPUT:  # false for NaN
                heard = c * wet[channel, n] + (one - c) * substitute if c < one else wet[channel, n]
                wet_power += wet[channel, n] * wet[channel, n]
                dry_power += dry * dry
            bridge[1, channel] = heard
            bridge[2, channel] = dry
            mixed = dry if d == one else heard if d == 0 else d * dry + (one - d) * heard
            out[channel, n] = ramp * gain * mixed
        if wet_valid:
            state[WET_POWER] = rates[LEVEL_MEMORY] * state[WET_POWER] + (one - rates[LEVEL_MEMORY]) * wet_power
            state[DRY_POWER] = rates[LEVEL_MEMORY] * state[DRY_POWER] + (one - rates[LEVEL_MEMORY]) * dry_power
        state[LIMITER] = limit(out, n, state[LIMITER], rates[LIMITER_RELEASE], ceiling)
