"""What comes through a device, counted block by block, by Python or by machine code in the same place."""

import numpy as np

from .kernels import kernel

# Places in `Traffic.numbers`. From THREAD on, they are used by the native callback only.
BLOCKS, SAMPLES, HEARD_NS, SMALLEST, LARGEST, RECENT_SMALLEST, RECENT_LARGEST, XRUNS, INPUTS, OUTPUTS = range(10)
THREAD, STREAM, ENTERED, LEFT = range(10, 14)
PLACES = 14


class Traffic:
    """The blocks that a device has called for so far.

    Parameters
    ----------
    inputs, outputs : int
        Channels of the device.
    """

    def __init__(self, inputs: int, outputs: int):
        self.numbers = np.zeros(PLACES, np.int64)
        self.numbers[INPUTS], self.numbers[OUTPUTS] = inputs, outputs

    def note(self, frames: int, now_ns: int) -> None:
        note_block(self.numbers, frames, now_ns)

    def forget_sizes(self) -> None:
        """Let `recent_smallest` and `recent_largest` begin anew with the next block."""
        self.numbers[RECENT_SMALLEST] = self.numbers[RECENT_LARGEST] = 0

    @property
    def blocks(self) -> int:
        return int(self.numbers[BLOCKS])

    @property
    def samples(self) -> int:
        return int(self.numbers[SAMPLES])

    @property
    def heard_ns(self) -> int:
        """When the last block began, by `time.perf_counter_ns`; 0 before the first one."""
        return int(self.numbers[HEARD_NS])

    @property
    def smallest(self) -> int:
        """Samples of the smallest block; 0 before the first one."""
        return int(self.numbers[SMALLEST])

    @property
    def largest(self) -> int:
        return int(self.numbers[LARGEST])

    @property
    def recent_smallest(self) -> int:
        """Samples of the smallest block since `forget_sizes`; 0 before the first one."""
        return int(self.numbers[RECENT_SMALLEST])

    @property
    def recent_largest(self) -> int:
        return int(self.numbers[RECENT_LARGEST])

    @property
    def xruns(self) -> int:
        """Gaps that the host has reported to the native callback."""
        return int(self.numbers[XRUNS])

    @property
    def thread(self) -> int:
        """The system's number of the thread that calls the native callback; 0 if it is not known."""
        return int(self.numbers[THREAD])


@kernel("void(int64[::1], int64, int64)")
def note_block(traffic, frames, now_ns):
    if traffic[BLOCKS] == 0:
        traffic[SMALLEST] = frames
    traffic[SMALLEST] = min(traffic[SMALLEST], frames)
    traffic[LARGEST] = max(traffic[LARGEST], frames)
    if traffic[RECENT_SMALLEST] == 0:
        traffic[RECENT_SMALLEST] = frames
    traffic[RECENT_SMALLEST] = min(traffic[RECENT_SMALLEST], frames)
    traffic[RECENT_LARGEST] = max(traffic[RECENT_LARGEST], frames)
    traffic[SAMPLES] += frames
    traffic[HEARD_NS] = now_ns
    traffic[BLOCKS] += 1
