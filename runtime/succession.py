"""The sessions of a live loop, one after another: another one whenever the host takes up another block size."""

import gc
from collections import Counter
from collections.abc import Callable

from .devices import Device
from .ledger import Ledger
from .live_paths import LivePath
from .rings import Ring
from .session import Session, Telemetry


class Succession:
    """Begins a session, follows it by another one, and ends the last.

    Parameters
    ----------
    path : LivePath
    device : Device
    telemetry : Telemetry

    Attributes
    ----------
    current : Session or None
        The one that is played.
    latency : Ledger
        From microphone to headphones, in samples of the device's rate; known once a session is played.
    """

    def __init__(self, path: LivePath, device: Device, telemetry: Telemetry):
        self._path, self._device, self._telemetry = path, device, telemetry
        self._tap: Ring | None = None
        self._past_events: Counter[str] = Counter()
        self.current: Session | None = None
        self.latency = Ledger(device.sample_rate, {})

    @property
    def events(self) -> Counter[str]:
        """What has happened in the wet paths of all sessions."""
        current = self.current
        return self._past_events + (current.events if current and not current.retired else Counter())

    def begin(self, smallest: int, largest: int, tap: Ring | None) -> None:
        """Let the first session be heard, made for these block sizes; `tap` receives what is heard, of all of them."""
        self._tap = tap
        self._play(smallest, largest)

    def follow(self) -> None:
        """Plan anew if the host has called for a block of a size that nothing is prepared for."""
        session, traffic = self.current, self._path.traffic
        if session is None or not (
            0 < traffic.recent_smallest < session.smallest or traffic.recent_largest > session.largest
        ):
            return
        traffic.forget_sizes()
        session.fade_out(gone=lambda: self._device.fault is not None)  # and the host shows what it now does
        smallest, largest = traffic.recent_smallest, traffic.recent_largest
        if not (smallest > session.largest or 0 < largest < session.smallest):
            # It has come back to the old sizes, as hosts do whose blocks vary, so every size must be provided for.
            smallest, largest = min(traffic.smallest, session.smallest), max(traffic.largest, session.largest)
        session.release_model()
        self._play(smallest, largest)
        self._retire(session)

    def end(self, gone: Callable[[], bool]) -> None:
        """Close the output with a ramp, unless the device is `gone`, and end the session that is played."""
        if self.current is not None:
            self.current.fade_out(gone)
            self._retire(self.current)

    def _play(self, smallest: int, largest: int) -> None:
        session, device = self._path.play(smallest, largest, self._telemetry, self._tap), self._device
        self.current = session
        self.latency = Ledger(
            device.sample_rate,
            {
                "device input": device.input_latency_samples,
                **session.latency,
                "device output": device.output_latency_samples,
            },
        )
        gc.freeze()

    def _retire(self, session: Session) -> None:
        """End a session; its numbers are kept."""
        session.retire()
        self._past_events.update(session.events)
