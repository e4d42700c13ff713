"""A live loop in lockstep: a wet path that is easily told from the dry one, and a clock that waits for the worker."""

import time

import numpy as np

from hearloop.runtime.ledger import Ledger
from hearloop.runtime.live import LiveLoop
from hearloop.runtime.software_device import SoftwareDevice

LOOKAHEAD = 64
RAMP_S = 0.06  # of the output stage, and a little more


class Turned:
    """A wet path that can be told from the dry one: the input times a gain, after 64 samples.

    `action(chunk index)` is called before each chunk and may do whatever a bad model does.
    """

    def __init__(self, channels: int = 1, gain: float = -1.0, action=lambda index: None):
        self.gain, self.action, self.index = gain, action, 0
        self.latency, self.latency_samples = Ledger(16000, {"lookahead": LOOKAHEAD}), LOOKAHEAD
        self.events = {"failed_frames": 0}
        self.frame_count = 0
        self.channels = channels
        self.reset()

    def process(self, samples, out):
        held = np.concatenate([self.tail, samples], axis=1)
        self.tail = held[:, samples.shape[1] :]
        self.index += 1
        self.action(self.index - 1)
        self.frame_count += 1
        out[:] = self.gain * held[:, : samples.shape[1]]

    def reset(self):
        self.tail = np.zeros((self.channels, LOOKAHEAD), np.float32)


class Lockstep:
    """A clock that goes on as soon as the worker has done what there is to do, so that nothing depends on timing.

    `action(block index)` is called before each block; it may release the worker, or end the stream by an exception.
    While `holding`, the clock does not wait for the worker.
    """

    def __init__(self, action=lambda index: None):
        self.action, self.index, self.holding, self.loop = action, 0, False, None

    def wait(self, seconds):
        self.action(self.index)
        self.index += 1
        deadline = time.monotonic() + 20
        while not (self.holding or self.loop.settled):
            if time.monotonic() > deadline:
                raise TimeoutError("the worker does not come back")
            time.sleep(3e-4)
        return 0.0

    def postpone(self, seconds): ...


def run(audio, path, clock, rate=16000, block=128, controls=None, **settings):
    """Run the whole of `audio` in lockstep; returns the device and the loop."""
    device = SoftwareDevice(audio, rate, block, clock=clock)
    paths = [path, Turned(path.channels)]  # the rehearsal takes the last one
    loop = clock.loop = LiveLoop("none", device, controls=controls, wet_path=lambda chunk: paths.pop(), **settings)
    with loop:
        loop.wait()
    return device, loop
