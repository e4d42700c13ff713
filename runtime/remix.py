"""The remix: sources that were separated, added up again, each with its gain.

The gains glide after the controls, so that a source that is muted fades.
"""

from .glide import glide
from .kernels import kernel


@kernel("void(float32[:, :], float32[:, ::1], float32[::1], float32, float32[:, :])")
def remix(sources, gains, targets, rate, out):
    """Add up (sources * channels, n), sorted by source, to (channels, n); `gains` glide to `targets`."""
    channels, count = out.shape
    for n in range(count):
        for channel in range(channels):
            out[channel, n] = 0
        for source in range(gains.shape[0]):
            gain = glide(gains[source], targets[source], rate)
            for channel in range(channels):
                out[channel, n] += gain * sources[source * channels + channel, n]
