"""The description of a bundle, read from JSON that nobody has to trust: every field is checked against a field list."""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .bundle_checks import check_info
from .bundle_info import SCHEMA, BundleInfo, Port, State, check_json
from .errors import BundleError
from .golden import golden_from_json
from .windows import WINDOW_PAIRS

TASKS = ("enhance", "separate", "target", "echo", "enroll")
FRONT_ENDS = ("stft", "waveform")
ROLES = ("audio", "spectrum", "embedding", "reference")
STATE_KINDS = ("carry", "ring")
# A stream is run frame by frame; of a file, pieces of `frame` samples are heard, each as if there was nothing else.
MODES = ("stream", "file")
LARGEST_SAMPLE_RATE = 768_000
LONGEST_FRAME = 4 * LARGEST_SAMPLE_RATE  # in samples, as is the piece that is heard as a whole
LONGEST_PIECE = 600 * LARGEST_SAMPLE_RATE
LARGEST_COUNT = 2**53  # which a float64 still holds
MOST_VALUES = 2**28  # of a tensor: 1 GiB
LARGEST_FLOAT32 = float(np.finfo(np.float32).max)


def parse_info(text: str, where: str) -> BundleInfo:
    """Parse and check the JSON of the metadata key `hearloop`; `where` names the file in errors."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{where}: metadata key 'hearloop' is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise BundleError(f"{where}: metadata key 'hearloop' holds a {type(content).__name__}, expected an object")
    read = _Reader(content, where)
    schema = read.integer("schema", 1)
    if schema != SCHEMA:
        raise BundleError(f"{where}: key 'schema' is {schema}, this hearloop reads schema {SCHEMA}")
    front_end = read.choice("front_end", FRONT_ENDS)
    window = read.choice("window", tuple(WINDOW_PAIRS)) if front_end == "stft" else None
    mode = read.choice("mode", MODES) if "mode" in content else "stream"  # bundles of before say nothing
    info = BundleInfo(
        name=read.text("name"),
        task=read.choice("task", TASKS),
        sample_rate=read.integer("sample_rate", 1, LARGEST_SAMPLE_RATE),
        frame=read.integer("frame", 1, LONGEST_PIECE if mode == "file" else LONGEST_FRAME),
        lookahead=read.integer("lookahead", 0, LONGEST_FRAME),
        channels_in=read.integer("channels_in", 1),
        channels_out=read.integer("channels_out", 1),
        front_end=front_end,
        window=window,
        inputs=read.ports("inputs"),
        outputs=read.ports("outputs"),
        states=read.states("states"),
        parameters=read.integer("parameters", 0),
        macs_per_frame=read.integer("macs_per_frame", 0),
        license=read.text("license"),
        version=read.text("version"),
        comment=read.text("comment"),
        level_reference=read.text("level_reference"),
        training=read.typed("training", dict, "an object"),
        quality=tuple(item.content for item in read.items("quality")),
        golden=golden_from_json(content["golden"], where) if content.get("golden") is not None else None,
        mode=mode,
    )
    check_info(info, where)
    if read.integer("latency_samples", 0) != info.latency_samples:
        raise BundleError(
            f"{where}: key 'latency_samples' is {content['latency_samples']}, but frame {info.frame} + lookahead "
            f"{info.lookahead} = {info.latency_samples}"
        )
    try:
        check_json(content)  # as on export; half a character could not even be shown
    except (BundleError, RecursionError) as error:
        raise BundleError(f"{where}: {error}") from error
    return info


class _Reader:
    """Reads typed values out of a JSON object; every complaint names the file, the key, the value, and the rule."""

    def __init__(self, content: Mapping[str, Any], where: str, prefix: str = ""):
        self.content, self.where, self.prefix = content, where, prefix

    def typed(self, key: str, kind: type | tuple[type, ...], expected: str) -> Any:
        if key not in self.content:
            raise BundleError(f"{self.where}: key '{self.prefix}{key}' is missing; expected {expected}")
        value = self.content[key]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
            self._reject(key, value, expected)
        return value

    def text(self, key: str) -> str:
        return self.typed(key, str, "a text")

    def integer(self, key: str, least: int, most: int = LARGEST_COUNT) -> int:
        expected = f"a whole number from {least} to {most}"
        value = self.typed(key, int, expected)
        if not least <= value <= most:
            self._reject(key, value, expected)
        return value

    def choice(self, key: str, offered: tuple[str, ...]) -> str:
        value = self.text(key)
        if value not in offered:
            self._reject(key, value, f"one of {', '.join(offered)}")
        return value

    def shape(self) -> tuple[int, ...]:
        value = self.typed("shape", list, "a list of whole numbers")
        if not all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in value):
            self._reject("shape", value, "a list of positive whole numbers")
        # The exact product of a long list would take for ever; that of floats is at most infinite.
        if max(value, default=1) > MOST_VALUES or math.prod(map(float, value)) > MOST_VALUES:
            self._reject("shape", value, f"at most {MOST_VALUES} values in all")
        return tuple(value)

    def items(self, key: str) -> "list[_Reader]":
        entries = self.typed(key, list, "a list of objects")
        for index, entry in enumerate(entries):
            if not isinstance(entry, dict):
                self._reject(f"{key}[{index}]", entry, "an object")
        return [_Reader(entry, self.where, f"{key}[{index}].") for index, entry in enumerate(entries)]

    def ports(self, key: str) -> tuple[Port, ...]:
        ports = (
            Port(item.text("name"), item.choice("role", ROLES), item.shape(), item.text("meaning"))
            for item in self.items(key)
        )
        return tuple(ports)

    def states(self, key: str) -> tuple[State, ...]:
        states = []
        for item in self.items(key):
            initial = item.typed("initial", (int, float), "a number")
            if isinstance(initial, bool) or not abs(initial) <= LARGEST_FLOAT32:
                item._reject("initial", initial, "a finite number")
            name, following, shape = item.text("name"), item.text("next"), item.shape()
            kind = item.choice("kind", STATE_KINDS)
            axis = item.integer("axis", 0) if kind == "ring" else None
            if axis is not None and axis >= len(shape):
                item._reject("axis", axis, f"an axis of the shape {list(shape)}")
            states.append(State(name, following, shape, kind, float(initial), axis))
        return tuple(states)

    def _reject(self, key: str, value: Any, expected: str) -> None:
        shown = repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "..."
        raise BundleError(f"{self.where}: key '{self.prefix}{key}' is {shown}, expected {expected}")
