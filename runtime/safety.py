"""What protects the ears, in this order, after everything else: finite numbers, a limiter, a hard ceiling."""

import numpy as np

from .kernels import kernel

# Full scale is 1. Nothing that a converter delivers exceeds it by much; this leaves room for files in float formats.
LARGEST_INPUT = 8.0
# No model makes more of that, be it a sample or a bin of a spectrum, which sums up a window of them: 120 dB above full
# scale. A recurrent model that diverges comes by here long before its numbers overflow, or their squares and sums do.
LARGEST_OUTPUT = np.float32(1e6)
LIMITER_RELEASE_MS = 60.0


@kernel("int64(float32[:, :], float32[:, :])")
def sanitise(samples, out):
    """Copy; numbers that are not finite become 0, larger ones than +18 dBFS are clamped. Returns how many."""
    replaced = 0
    for channel in range(samples.shape[0]):
        for n in range(samples.shape[1]):
            value = samples[channel, n]
            if not np.isfinite(value):
                value = np.float32(0)
                replaced += 1
            elif abs(value) > LARGEST_INPUT:
                value = np.float32(LARGEST_INPUT) if value > 0 else np.float32(-LARGEST_INPUT)
                replaced += 1
            out[channel, n] = value
    return replaced


@kernel("float32(float32[:, :], int64, float32, float32, float32)")
def limit(out, n, gain, release, ceiling):
    """Bring sample n of all channels under the ceiling by one common gain; returns the gain for the next sample.

    The attack is immediate, so that there is no lookahead and no overshoot; the gain recovers exponentially. Both ears
    share it, so that a sound does not change its place. The last clamp guarantees the ceiling, rounding and all.
    """
    peak = np.float32(0)
    for channel in range(out.shape[0]):
        if not np.isfinite(out[channel, n]):
            out[channel, n] = 0
        peak = max(peak, abs(out[channel, n]))
    gain = gain + release * (1 - gain)
    if peak * gain > ceiling:
        gain = ceiling / peak
    for channel in range(out.shape[0]):
        out[channel, n] = min(max(gain * out[channel, n], -ceiling), ceiling)
    return gain
