"""How long a run has learnt: its budget is made of this, and so is the course of its learning rate."""

import math
import signal
import time
from typing import Any


class TrainingClock:
    """Seconds of training, over all parts of a run, without those in which the process was halted.

    A step during which the process was halted (SIGSTOP, Ctrl-Z) and continued counts nothing: nobody tells for how
    long it was.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._last = time.monotonic()
        self._continued_at = -math.inf

    def listen(self) -> None:
        """Notice that the process is continued; processes forked afterwards do as well."""
        if hasattr(signal, "SIGCONT"):  # Windows halts no processes
            signal.signal(signal.SIGCONT, self._continued)

    def start(self) -> None:
        """Go on counting from now."""
        self._last = time.monotonic()

    def tick(self) -> None:
        """Count what has passed since the last tick."""
        now = time.monotonic()
        if self._continued_at < self._last:  # a halt while the clock was read belongs to this step or to the next one
            self.seconds += now - self._last
        self._last = now

    def _continued(self, *_: Any) -> None:
        self._continued_at = time.monotonic()
