"""What the sessions of both paths have in common: all of the live loop that depends on the host's block size.

It is built, rehearsed and ended as one: for the worker path in worker_session.py, for the native path in
native_session.py.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Protocol

from .callback import Tally
from .controls import Controls
from .ledger import Ledger
from .outputstage import OutputStage
from .telemetry import Times
from .worker import WetPathLike

REHEARSED_FRAMES = 16
FADE_PATIENCE_S = 0.5
FADE_POLL_S = 0.01

# Makes a wet path that is fed with so many samples at a time; None for any number.
WetPathMaker = Callable[[int | None], WetPathLike]


@dataclass(frozen=True)
class Setting:
    """What stays the same whatever the block size is. Rates in Hz, `frame` in samples at `model_rate`."""

    channels: int
    sample_rate: int
    model_rate: int
    frame: int
    make_wet_path: WetPathMaker
    controls: Controls
    ceiling_dbfs: float


@dataclass
class Telemetry:
    """What is counted over all sessions of a loop: blocks, the duration of a call, and what it left of its block."""

    tally: Tally = field(default_factory=Tally)
    callback: Times = field(default_factory=Times)
    slack: Times = field(default_factory=Times)


class Session(Protocol):
    """What the live loop runs between two changes of the block size.

    Attributes
    ----------
    smallest, largest : int
        Block sizes that it is made for.
    chunk : int
        Samples that the wet path is given at a time.
    latency : Ledger
        From the callback's input to its output.
    retired : bool
        It is over, and its numbers stay.
    events : Counter
        Those of the wet path.
    idle : bool
        There is nothing to do: all that has come in is processed.
    callback_errors : int
    message : str
        What has last gone wrong.
    semaphore : str or None
        What wakes the worker.
    """

    smallest: int
    largest: int
    chunk: int
    latency: Ledger
    retired: bool

    @property
    def events(self) -> Counter[str]: ...

    @property
    def idle(self) -> bool: ...

    @property
    def callback_errors(self) -> int: ...

    @property
    def message(self) -> str: ...

    @property
    def semaphore(self) -> str | None: ...

    def start(self) -> None:
        """Begin, and open the output with a ramp."""

    def rehearse(self, output_channels: int) -> None:
        """Do everything once in this thread, so that a stream does nothing for the first time; instead of `start`."""

    def fade_out(self, gone: Callable[[], bool]) -> None:
        """Close the output with a ramp, and wait for its end, unless the device is `gone`."""

    def release_model(self) -> None:
        """Leave the model to the session that follows. What is faded out stays silent, and is recorded as such."""

    def retire(self) -> None:
        """End. The callback does not touch the session any more when this returns."""


def fade_out(stage: OutputStage, gone: Callable[[], bool]) -> None:
    """Close the output with a ramp, and wait for its end, unless the device is `gone`."""
    stage.stop()
    deadline_ns = perf_counter_ns() + 1e9 * FADE_PATIENCE_S
    while not (stage.silent or gone()) and perf_counter_ns() < deadline_ns:
        time.sleep(FADE_POLL_S)
