"""The bundle: one ONNX file whose metadata says everything that is needed to run it.

The flat metadata keys (`sample_rate`, `n_fft`, `hop_length`, `window_length`, `window_type`, `model_type`, `version`,
`license`, `comment`) are the ones that other streaming runtimes read. The key `hearloop` holds one JSON object, the
`BundleInfo` below. Nothing in it is trusted: every field is checked on load, against the field list and, once an
engine opens the file, against the graph itself.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from .errors import BundleError
from .golden import Golden, golden_from_json
from .windows import WINDOW_PAIRS, WindowPair, window_pair

SCHEMA = 1
TASKS = ("enhance", "separate", "target", "echo", "enroll")
FRONT_ENDS = ("stft", "waveform")
ROLES = ("audio", "spectrum", "embedding", "reference")
STATE_KINDS = ("carry", "ring")
# A stream is run frame by frame; of a file, pieces of `frame` samples are heard, each as if there was nothing else.
MODES = ("stream", "file")
LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
BUNDLE_FOLDER = Path(__file__).parent / "bundles"


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


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle: its description, the model itself as bytes, and where it came from."""

    info: BundleInfo
    model: bytes
    path: Path | None = None


def bundle_paths() -> dict[str, Path]:
    """The bundles that ship with hearloop: name -> file."""
    return {path.stem: path for path in sorted(BUNDLE_FOLDER.glob("*.onnx"), key=lambda path: path.stem)}


def load_bundle(name_or_path: str | Path) -> Bundle:
    """Load a shipped bundle by name or any bundle by path.

    Raises
    ------
    BundleError
        If there is no such file, it is not an ONNX model, or a key of its metadata is missing or wrong.
    """
    path = Path(name_or_path)
    if path.suffix != ".onnx" or not path.exists():
        path = bundle_paths().get(str(name_or_path), path)
    if not path.is_file():
        raise BundleError(
            f"model {str(name_or_path)!r}: no such file, and no shipped bundle of that name; "
            f"shipped are {', '.join(bundle_paths()) or 'none'}"
        )
    model = path.read_bytes()
    return Bundle(info=_read_info(model, str(path)), model=model, path=path)


def _read_info(model: bytes, where: str) -> BundleInfo:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"], enable_fallback=0)
        metadata = session.get_modelmeta().custom_metadata_map
        inputs, outputs = session.get_inputs(), session.get_outputs()
    except Exception as error:  # onnxruntime raises several unrelated types, some of them private
        raise BundleError(f"{where}: not a readable ONNX model ({_first_line(error)})") from error
    if "hearloop" not in metadata:
        raise BundleError(
            f"{where}: no metadata key 'hearloop'; a bundle is written by `hearloop export`, keys found: "
            f"{', '.join(sorted(metadata)) or 'none'}"
        )
    info = parse_info(metadata["hearloop"], where)
    _check_flat_keys(info, metadata, where)
    _check_graph(info, inputs, outputs, where)
    return info


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
    info = BundleInfo(
        name=read.text("name"),
        task=read.choice("task", TASKS),
        sample_rate=read.integer("sample_rate", 1),
        frame=read.integer("frame", 1),
        lookahead=read.integer("lookahead", 0),
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
        quality=tuple(read.typed("quality", list, "a list")),
        golden=golden_from_json(content["golden"], where) if content.get("golden") is not None else None,
        mode=read.choice("mode", MODES) if "mode" in content else "stream",  # bundles of before say nothing
    )
    check = _check_file if info.mode == "file" else _check_front_end
    check(info, where)
    if read.integer("latency_samples", 0) != info.latency_samples:
        raise BundleError(
            f"{where}: key 'latency_samples' is {content['latency_samples']}, but frame {info.frame} + lookahead "
            f"{info.lookahead} = {info.latency_samples}"
        )
    if info.golden is not None:
        _check_golden(info, info.golden, where)
    return info


def _check_file(info: BundleInfo, where: str) -> None:
    """What is heard as a whole: samples in, samples out, and nothing that is carried from one call to the next."""
    for key, found, expected in (
        ("front_end", info.front_end, "waveform"),
        ("lookahead", info.lookahead, 0),
        ("states", len(info.states), 0),
        ("inputs", [port.shape for port in info.inputs], [(1, info.channels_in, info.frame)]),
        ("outputs", [port.shape for port in info.outputs], [(1, info.channels_out, info.frame)]),
    ):
        if found != expected:
            raise BundleError(f"{where}: key {key!r} is {found}, but mode 'file' has {expected}")


def _check_front_end(info: BundleInfo, where: str) -> None:
    content: tuple[int, ...]
    if info.front_end == "stft":
        _check_window(info, where)
        role, content, axes = "spectrum", (info.windows.bins, 2), "bins, real and imaginary part"
    else:
        role, content, axes = "audio", (info.frame,), "samples"
    for direction, channels in (("inputs", info.channels_in), ("outputs", info.channels_out)):
        ports = [port for port in getattr(info, direction) if port.role == role]
        if info.task == "enroll" and direction == "outputs":
            continue  # it gives the embedding of a voice
        if len(ports) != 1:
            raise BundleError(f"{where}: key {direction!r} has {len(ports)} ports with role {role!r}, expected one")
        port = ports[0]
        expected_shape = (1, channels, 1, *content)
        if port.shape != expected_shape:
            raise BundleError(
                f"{where}: key '{direction}', port {port.name!r}: shape {list(port.shape)}, expected "
                f"{list(expected_shape)} (batch, channels, frames, {axes})"
            )


def _check_window(info: BundleInfo, where: str) -> None:
    pair = info.windows
    if info.frame != pair.hop_length:
        raise BundleError(f"{where}: key 'frame' is {info.frame}, but window {info.window!r} has {pair.hop_length}")
    # A model may look whole frames further ahead than the window does.
    if info.lookahead < pair.lookahead or (info.lookahead - pair.lookahead) % info.frame:
        raise BundleError(
            f"{where}: key 'lookahead' is {info.lookahead}, but window {info.window!r} has {pair.lookahead}; expected "
            f"that or whole frames of {info.frame} more"
        )


def _check_golden(info: BundleInfo, golden: Golden, where: str) -> None:
    """Golden vectors belong to the ports: every port has its frames, each of the port's shape."""
    for side, ports, found in (("inputs", info.inputs, golden.inputs), ("outputs", info.outputs, golden.outputs)):
        expected = {port.name: port.shape for port in ports}
        shapes = {name: array.shape[1:] for name, array in found.items()}
        if shapes != expected:
            raise BundleError(
                f"{where}: key 'golden.{side}' has frames of {shapes}, expected those of the ports {expected}"
            )


def _check_flat_keys(info: BundleInfo, metadata: Mapping[str, str], where: str) -> None:
    """Other runtimes read the flat keys; they must not say something else than the JSON."""
    for key, expected in info.to_metadata().items():
        if key != "hearloop" and metadata.get(key) != expected:
            raise BundleError(
                f"{where}: metadata key {key!r} is {metadata.get(key)!r}, expected {expected!r} "
                "as in the key 'hearloop'"
            )


def _check_graph(info: BundleInfo, inputs: Sequence[Any], outputs: Sequence[Any], where: str) -> None:
    """The description must name exactly the inputs and outputs of the graph, with their shapes; all are float32."""
    told_inputs = [(port.name, port.shape) for port in info.inputs]
    told_inputs += [(state.name, state.shape) for state in info.states]
    told_outputs = [(port.name, port.shape) for port in info.outputs]
    told_outputs += [(state.next, state.next_shape) for state in info.states]
    for direction, told, nodes in (("input", told_inputs, inputs), ("output", told_outputs, outputs)):
        found = {node.name: node for node in nodes}
        for name, shape in told:
            if [other for other, _ in told].count(name) > 1:
                raise BundleError(f"{where}: the metadata names {direction} {name!r} more than once")
            if name not in found:
                raise BundleError(f"{where}: the metadata names {direction} {name!r}, which the graph does not have")
            if list(shape) != list(found[name].shape):
                raise BundleError(
                    f"{where}: {direction} {name!r} has shape {list(shape)} in the metadata, "
                    f"{found[name].shape} in the graph"
                )
            if found[name].type != "tensor(float)":
                raise BundleError(
                    f"{where}: {direction} {name!r} of the graph is a {found[name].type}, expected tensor(float)"
                )
        for name in found:
            if name not in dict(told):
                raise BundleError(f"{where}: the graph has {direction} {name!r}, which the metadata does not name")


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

    def integer(self, key: str, least: int) -> int:
        value = self.typed(key, int, f"a whole number of at least {least}")
        if value < least:
            self._reject(key, value, f"a whole number of at least {least}")
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


def _plain(value: Any) -> Any:
    """Dataclasses and tuples as JSON has them."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return {key: _plain(getattr(value, key)) for key in value.__dataclass_fields__}
    return value


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
