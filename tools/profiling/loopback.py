"""The round trip through a device: what it really takes, beside what is declared.

    sequence --> live loop (bypassed) --> device output --> cable --> device input --> recorded
                 all delays of the ledger but the two of the device    the other two

The live loop hears the sequence in the place of the microphone. Bypassed, it plays the unprocessed signal, which is as
late as the processed one. So the round trip is the sum of the ledger, and what remains is what nobody has declared:
filters inside the converters, a buffer that the device does not tell, the air between headphones and microphone.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ...runtime.controls import Controls
from ...runtime.devices import AudioCallback, Device, python_callback
from ...runtime.errors import DeviceError, HearloopError
from ...runtime.ledger import Ledger
from ...runtime.live import LiveLoop
from .delay import CERTAIN, find_delay, sequence
from .measure import ledger_json

ORDER = 15  # 0.68 s at 48 kHz: longer than any delay that one can work with
SETTLING_S = 1.0
LEVEL = 0.1  # -20 dBFS
PATIENCE_S = 5.0


class ProbedDevice:
    """A device whose microphones are a known sequence, and which keeps what really came in. See `devices.Device`.

    Parameters
    ----------
    device : Device
    probe : ndarray, float32, shape (n,)
        Repeated for ever, on all channels.
    periods : int
        What comes in is kept for so many periods.
    """

    def __init__(self, device: Device, probe: np.ndarray, periods: int):
        self._device, self._probe = device, probe
        self.recorded = np.zeros(periods * len(probe), np.float32)
        self.position = 0
        self.first: int | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)

    def record(self) -> None:
        """Keep what comes in, from the next period of the sequence on."""
        self.first = -(-(self.position + 1) // len(self._probe)) * len(self._probe)

    @property
    def complete(self) -> bool:
        return self.first is not None and self.position >= self.first + len(self.recorded)

    def start(self, callback: AudioCallback) -> None:
        self._device.start(lambda indata, outdata, frames: self._exchange(callback, indata, outdata, frames))

    def start_native(self, callback: int, data: int) -> None:
        self.start(python_callback(callback, data))

    def stop(self) -> None:
        self._device.stop()

    def _exchange(self, callback: AudioCallback, indata: np.ndarray, outdata: np.ndarray, frames: int) -> None:
        at = self.position
        if self.first is not None:
            start, end = max(at, self.first), min(at + frames, self.first + len(self.recorded))
            if start < end:
                self.recorded[start - self.first : end - self.first] = indata[start - at : end - at, 0]
        sent = self._probe[np.arange(at, at + frames) % len(self._probe)]
        callback(np.repeat(sent[:, np.newaxis], indata.shape[1], axis=1), outdata, frames)
        self.position += frames


def measure_loopback(
    device: Device,
    model: str | None = None,
    engine: str = "auto",
    path: str = "auto",
    periods: int = 8,
    connect: Callable[[], None] = lambda: None,
    settling_s: float = SETTLING_S,
) -> dict[str, Any]:
    """Play a sequence through the device, and through the live loop with a model if there is one.

    Parameters
    ----------
    connect : callable
        Called when the device runs: closes the loop, where software can do that.

    Returns
    -------
    dict
        The measurement (see `delay.Delay`), `ledger`, what it declares, and what remains unexplained.

    Raises
    ------
    DeviceError
        If the device does not call back.
    """
    probed = ProbedDevice(device, sequence(ORDER), periods)
    if model is None:
        ledger = _bare(probed, connect, settling_s)
    else:
        with LiveLoop(model, probed, engine, Controls(bypass=True, output_gain_db=_level_db()), path=path) as loop:
            connect()
            _wait(probed, settling_s, loop.check)
            ledger = loop.latency
    delay = find_delay(sequence(ORDER), probed.recorded)
    remainder = delay.samples - ledger.total
    return {
        "delay": {
            "samples": round(delay.samples, 4),
            "ms": round(1000 * delay.samples / ledger.sample_rate, 5),
            "spread_samples": round(delay.spread_samples, 4),
            "confidence": round(delay.confidence, 4),
            "certain": delay.certain,
            "inverted": delay.inverted,
            "gain_db": round(20 * float(np.log10(max(delay.gain, 1e-9) / LEVEL)), 2),
            "periods": delay.periods,
        },
        "ledger": ledger_json(ledger),
        "unexplained_samples": round(remainder, 4),
        "unexplained_ms": round(1000 * remainder / ledger.sample_rate, 5),
        "model": model,
    }


def _level_db() -> float:
    return 20 * float(np.log10(LEVEL))


def _bare(probed: ProbedDevice, connect: Callable[[], None], settling_s: float) -> Ledger:
    """The device alone."""

    def play(indata: np.ndarray, outdata: np.ndarray, frames: int) -> None:
        outdata[:] = LEVEL * indata[:, :1]

    probed.start(play)
    try:
        connect()
        _wait(probed, settling_s, lambda: None)
    finally:
        probed.stop()
    return Ledger(
        probed.sample_rate,
        {"device input": probed.input_latency_samples, "device output": probed.output_latency_samples},
    )


def _wait(probed: ProbedDevice, settling_s: float, check: Callable[[], None]) -> None:
    """Until the recording is complete."""
    time.sleep(settling_s)
    probed.record()
    deadline = time.monotonic() + len(probed.recorded) / probed.sample_rate + PATIENCE_S
    while not probed.complete:
        check()
        if probed.fault or time.monotonic() > deadline:
            raise DeviceError(
                f"device {probed.name!r}: {probed.position} samples came in, and then no more "
                f"({probed.fault or 'no fault reported'})"
            )
        time.sleep(0.05)


def connect_jack() -> None:
    """Lead what this program plays back into what it hears, on the JACK server that it uses.

    Raises
    ------
    HearloopError
        If the JACK client library is missing, or there are no such ports.
    """
    try:
        import jack
    except (ImportError, OSError) as error:
        raise HearloopError(
            f"--jack-loopback needs `pip install JACK-Client` and the JACK library ({error})"
        ) from error
    try:
        client = jack.Client("hearloop-connector", no_start_server=True)
    except jack.JackError as error:
        raise HearloopError(f"--jack-loopback: no JACK server answers ({error})") from error
    try:
        heard, played = (client.get_ports(f"PortAudio:{name}_0")[:1] for name in ("in", "out"))
        if not (heard and played):
            raise HearloopError("--jack-loopback: there are no ports PortAudio:in_0 and PortAudio:out_0")
        for other in client.get_all_connections(heard[0]):
            client.disconnect(other, heard[0])
        client.connect(played[0], heard[0])
    finally:
        client.close()


def loopback_table(report: dict[str, Any]) -> str:
    """Measured, declared, unexplained."""
    found, ledger = report["loopback"], report["loopback"]["ledger"]
    delay = found["delay"]
    lines = [f"round trip through {report['settings']['device']}, {ledger['sample_rate']} Hz"]
    if not delay["certain"]:
        lines.append(
            f"  ?? nothing came back that is like what was sent (confidence "
            f"{delay['confidence']:.2f} of {CERTAIN:g});\n"
            "  connect an output with an input, by a cable or with --jack-loopback"
        )
        return "\n".join(lines)
    lines += [
        f"  {each['name']:<20} {each['samples']:>9.2f} samples {each['ms']:>8.3f} ms" for each in ledger["delays"]
    ]
    for name, samples, ms in (
        ("declared", ledger["total_samples"], ledger["total_ms"]),
        ("measured", delay["samples"], delay["ms"]),
        ("unexplained", found["unexplained_samples"], found["unexplained_ms"]),
    ):
        lines.append(f"  {name:<20} {samples:>9.2f} samples {ms:>8.3f} ms")
    lines.append(
        f"  confidence {delay['confidence']:.3f}, gain {delay['gain_db']:+.1f} dB, polarity "
        f"{'INVERTED' if delay['inverted'] else 'kept'};\n"
        f"  single periods are {delay['spread_samples']:.3f} samples apart, of {delay['periods']}"
    )
    return "\n".join(lines)
