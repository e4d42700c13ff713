"""What a bundle says about itself, and how its metadata holds it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import BundleError
from .golden import Golden
from .windows import WindowPair, window_pair

SCHEMA = 1


@dataclass(frozen=True)
class Port:
    """One input or output of the step: its name in the graph, what it carries, and its static shape."""

    name: str
    role: str
    shape: tuple[int, ...]
    meaning: str = ""


@dataclass(frozen=True)
class State:
    """One tensor that the model remembers: graph input `name`, graph output `next`, and how it is carried over.

    `kind` is "carry": the next value replaces the old one; or "ring": the state holds past entries along `axis`, the
    step gives only the new one, and whoever holds the state writes it over the oldest. The model does not care in which
    order the entries lie.
    """

    name: str
    next: str
    shape: tuple[int, ...]
    kind: str = "carry"
    initial: float = 0.0
    axis: int | None = None

    @property
    def next_shape(self) -> tuple[int, ...]:
        """Shape of the graph's output: that of the state, or of one entry of a ring."""
        return tuple(1 if axis == self.axis else size for axis, size in enumerate(self.shape))


@dataclass(frozen=True)
class BundleInfo:
    """What a bundle says about itself. Lengths are in samples at `sample_rate`.

    A bundle of mode "file" has no states: its graph hears a piece of `frame` samples, seconds long, as a whole.
    """

    name: str
    task: str
    sample_rate: int
    frame: int
    lookahead: int
    channels_in: int
    channels_out: int
    front_end: str
    window: str | None
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    states: tuple[State, ...]
    parameters: int
    macs_per_frame: int
    license: str
    version: str = "1"
    comment: str = ""
    level_reference: str = "any; the model normalises its input level itself"
    training: Mapping[str, Any] = field(default_factory=dict)
    quality: tuple[Mapping[str, Any], ...] = ()
    golden: Golden | None = None
    mode: str = "stream"

    @property
    def latency_samples(self) -> int:
        """Algorithmic latency: the frame that must be complete plus the future that the model sees."""
        return self.frame + self.lookahead

    @property
    def sources(self) -> int:
        """How many sounds the model takes its input apart into; one unless it separates."""
        return self.channels_out if self.task == "separate" else 1

    @property
    def latency_ms(self) -> float:
        return 1000 * self.latency_samples / self.sample_rate

    @property
    def macs_per_second(self) -> float:
        return self.macs_per_frame * self.sample_rate / self.frame

    @property
    def windows(self) -> WindowPair:
        """The window pair of an STFT front end; raises BundleError for a model that works on the waveform."""
        if self.window is None:
            raise BundleError(f"bundle {self.name!r}: the front end is {self.front_end!r}, which has no windows")
        return window_pair(self.window)

    def port(self, role: str, direction: str = "inputs") -> Port:
        """The one input (or output) with this role; raises BundleError if there is none."""
        for port in getattr(self, direction):
            if port.role == role:
                return port
        raise BundleError(f"bundle {self.name!r}: no {direction[:-1]} with role {role!r}")

    def to_json(self) -> str:
        content = {
            "schema": SCHEMA,
            "latency_samples": self.latency_samples,
            **{key: _plain(getattr(self, key)) for key in self.__dataclass_fields__ if key != "golden"},
        }
        if self.golden is not None:
            content["golden"] = self.golden.to_json()
        return json.dumps(content)

    def to_metadata(self) -> dict[str, str]:
        """The ONNX metadata of this bundle: flat keys of the field, and the whole as JSON."""
        flat: dict[str, Any] = {
            "model_type": f"hearloop-{self.task}",
            "version": self.version,
            "sample_rate": self.sample_rate,
            "hop_length": self.frame,
            "license": self.license,
            "comment": self.comment,
        }
        if self.window is not None:
            pair = window_pair(self.window)
            flat |= {"n_fft": pair.n_fft, "window_length": pair.n_fft, "window_type": self.window}
        return {key: str(value) for key, value in flat.items()} | {"hearloop": self.to_json()}


def check_json(facts: Mapping[str, Any]) -> None:
    """Raise BundleError that names the part of what is to be said of a model that JSON cannot hold."""
    for name, value in facts.items():
        if isinstance(value, Mapping) and value:
            check_json({f"{name}.{key}": part for key, part in value.items()})
        elif isinstance(value, list | tuple) and value:
            check_json({f"{name}.{index}": part for index, part in enumerate(value)})
        else:
            try:
                json.dumps({name: value}, allow_nan=False, ensure_ascii=False).encode()
            except (TypeError, ValueError) as error:  # no such type; not finite, or half a character
                raise BundleError(f"key {name!r} is {value!r}, expected plain JSON ({error})") from error


def _plain(value: Any) -> Any:
    """Dataclasses and tuples as JSON has them."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return {key: _plain(getattr(value, key)) for key in value.__dataclass_fields__}
    return value
