"""What a sound device is to the live loop, and how one is found by what a person calls it."""

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .errors import DeviceError

# Called with the input and the output to be filled, float32 (frames, channels) each, and the number of frames.
AudioCallback = Callable[[np.ndarray, np.ndarray, int], None]


# PaStreamCallback: input, output, frames, time, flags, data.
C_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_ulong,
    ctypes.c_void_p,
    ctypes.c_ulong,
    ctypes.c_void_p,
)


def python_callback(callback: int, data: int) -> AudioCallback:
    """What calls the C function at this address, for a device that is no more than Python."""
    call = C_CALLBACK(callback)
    return lambda indata, outdata, frames: call(indata.ctypes.data, outdata.ctypes.data, frames, None, 0, data)


class Device(Protocol):
    """One duplex stream: microphones and headphones on one clock.

    Attributes
    ----------
    name : str
    sample_rate : int
        In Hz.
    input_channels, output_channels : int
    input_latency_samples, output_latency_samples : float
        From the microphone to the callback and from the callback to the headphones, as the device tells it.
    block_sizes : (int, int) or None
        Bounds of the number of frames per callback, where that is known before the start.
    xruns : int
        Gaps that the device has reported.
    fault : str or None
        Why the stream has ended by itself.
    finished : bool
        Nothing more will come in: the end of a recording.
    """

    name: str
    sample_rate: int
    input_channels: int
    output_channels: int
    input_latency_samples: float
    output_latency_samples: float
    block_sizes: tuple[int, int] | None
    xruns: int

    @property
    def fault(self) -> str | None: ...

    @property
    def finished(self) -> bool: ...

    def start(self, callback: AudioCallback) -> None:
        """Begin to call back, from a thread of the device; raises DeviceError if it cannot."""

    def start_native(self, callback: int, data: int) -> None:
        """The same with the address of a C function, PortAudio's PaStreamCallback, that is given `data`."""

    def stop(self) -> None:
        """Play what has been handed over, then end and close. Never raises."""


@dataclass(frozen=True)
class DeviceDescription:
    """A device as a list shows it."""

    index: int
    name: str
    host: str
    inputs: int
    outputs: int
    sample_rate: int
    default_input: bool = False
    default_output: bool = False

    def __str__(self) -> str:
        mark = (">" if self.default_input else " ") + ("<" if self.default_output else " ")
        return (
            f"{mark} {self.index:2d} {self.name} ({self.host}), {self.inputs} in, {self.outputs} out, "
            f"{self.sample_rate} Hz"
        )


def find_device(
    wanted: str | int | None, devices: Sequence[DeviceDescription], direction: str, channels: int = 1
) -> DeviceDescription:
    """Find a device by its index, a part of its name (any case), or None for the default.

    Parameters
    ----------
    direction : {"input", "output"}
    channels : int
        So many it must have.

    Raises
    ------
    DeviceError
        If there is none, more than one, or one without enough channels; the message lists what there is.
    """
    able = [device for device in devices if getattr(device, direction + "s") > 0]
    if not able:
        raise DeviceError(f"no {direction} device: the sound system offers{_listed(devices)}")
    if wanted is None:
        found = [device for device in able if getattr(device, f"default_{direction}")] or able[:1]
    elif isinstance(wanted, int) or wanted.strip().isdecimal():
        found = [device for device in able if device.index == int(wanted)]
    else:
        found = [device for device in able if wanted.lower() in f"{device.name}, {device.host}".lower()]
        exact = [device for device in found if device.name.lower() == wanted.lower()]
        found = exact or found
    if len(found) != 1:
        problem = f"fits {len(found)} devices" if found else "is unknown"
        raise DeviceError(
            f"{direction} device {wanted!r} {problem}; expected an index or a part of one name of:{_listed(able)}"
        )
    if getattr(found[0], direction + "s") < channels:
        raise DeviceError(
            f"{direction} device {found[0].name!r} has {getattr(found[0], direction + 's')} {direction} channel(s); "
            f"{channels} are needed"
        )
    return found[0]


def _listed(devices: Sequence[DeviceDescription]) -> str:
    return "".join(f"\n  {device}" for device in devices) or " nothing"
