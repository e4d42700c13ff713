"""The remix: sources that were separated, added up again, each with its gain.

The gains follow the controls sample by sample in straight lines of 20 ms, so that a source that is muted fades.
"""

import numpy as np

from .kernels import kernel
from .outputstage import approach


@kernel("void(float32[:, :], float32[::1], float32[::1], float32, float32[:, :])")
def remix(sources, gains, targets, step, out):
    """Add up (sources * channels, n), sorted by source, to (channels, n); `gains` move towards `targets`."""
    channels, count = out.shape
    one = np.float32(1)
    for n in range(count):
        for channel in range(channels):
            out[channel, n] = 0
        for source in range(gains.shape[0]):
            gains[source] = approach(gains[source], targets[source], step * max(targets[source], one))
            for channel in range(channels):
                out[channel, n] += gains[source] * sources[source * channels + channel, n]
