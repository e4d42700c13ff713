"""What lies above the model's band, and passes with the gain that the model has in the upper part of it.

Of the model's output only the difference to g times its input is resampled, and g times the original signal is added at
the full rate. Below 8 kHz the two g cancel. Above, the original remains with gain g, which follows what the model did
to the upper part of its own band. If the model changes nothing, g is 1, the difference is 0, and the output is the
input.

The gain that several sources have together is as for any model, and each has the share of it that its waveform has in
the upper part of the band (its projection on the input). So sources that add up to the input below 8 kHz do so above.
"""

import numpy as np

from .delay import delay_frame
from .kernels import kernel


@kernel("boolean(float32[:, ::1], float32[:, ::1], float32[::1])")
def measure_band(dry, wet, gains):
    """Gain of each source in the upper part of the model's band; returns False if nothing can be said about it.

    That is so in silence, and where the powers overflow.

    The second difference weighs frequencies by f^4, so that this needs no spectrum and serves any kind of model. Shares
    below nothing, which only noise of the estimate gives, count as nothing.
    """
    channels, length = dry.shape
    dry_power, wet_power = np.float32(1e-12), np.float32(0)
    for source in range(gains.shape[0]):
        gains[source] = 0
    for channel in range(channels):
        for n in range(2, length):
            bend = dry[channel, n] - 2 * dry[channel, n - 1] + dry[channel, n - 2]
            together = np.float32(0)
            for source in range(gains.shape[0]):
                row = source * channels + channel
                part = wet[row, n] - 2 * wet[row, n - 1] + wet[row, n - 2]
                together += part
                gains[source] += part * bend
            dry_power += bend**2
            wet_power += together**2
    if dry_power <= np.float32(2e-12):
        return False
    total = np.float32(0)
    for source in range(gains.shape[0]):
        gains[source] = max(gains[source], np.float32(0))
        total += gains[source]
    if not wet_power + total < np.inf:  # isfinite takes sums for finite where the compiler may reorder them
        return False
    gain = min(np.sqrt(wet_power / dry_power), np.float32(1))
    for source in range(gains.shape[0]):
        share = gains[source] / total if total > 0 else np.float32(1) / np.float32(gains.shape[0])
        gains[source] = gain * share
    return True


@kernel(
    "void(float32[:, ::1], float32[:, ::1], float32[:, ::1], float32[:, ::1], float32[::1], float32[::1], float32, "
    "float32[:, ::1])"
)
def split_band(frame, wet, dry_delay, dry, band, now, smoothing, difference):
    """Write wet - g dry of each source and channel, and every g in the last rows.

    `frame` is not yet delayed by the lookahead, `wet` is.
    """
    channels, length = frame.shape
    sources = band.shape[0]
    delay_frame(frame, dry_delay, dry)
    heard = measure_band(dry, wet, now)
    for source in range(sources):
        before = band[source]
        after = smoothing * before + (1 - smoothing) * now[source] if heard else before
        for n in range(length):
            gain = before + (after - before) * np.float32(n + 1) / np.float32(length)
            difference[sources * channels + source, n] = gain
            for channel in range(channels):
                row = source * channels + channel
                difference[row, n] = wet[row, n] - gain * dry[channel, n]
        band[source] = after


@kernel("void(float32[:, :], float32[:, :], float32[:, :])")
def add_band(popped, delayed, out):
    """Of each source and channel, the difference and the gain that were resampled -> what is heard at the full rate."""
    channels, count = delayed.shape
    rows = out.shape[0]
    for row in range(rows):
        gain = rows + row // channels
        for n in range(count):
            out[row, n] = popped[row, n] + popped[gain, n] * delayed[row % channels, n]
