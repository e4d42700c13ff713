"""What the parts of a bundle's description must have in common with each other, and with the graph it describes."""

from collections.abc import Mapping, Sequence
from typing import Any

from .bundle_info import BundleInfo
from .errors import BundleError
from .golden import Golden


def check_info(info: BundleInfo, where: str) -> None:
    """A description that agrees with itself; raises BundleError, which names the file `where`."""
    check = _check_file if info.mode == "file" else _check_front_end
    check(info, where)
    if info.golden is not None:
        _check_golden(info, info.golden, where)


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


def check_flat_keys(info: BundleInfo, metadata: Mapping[str, str], where: str) -> None:
    """Other runtimes read the flat keys; they must not say something else than the JSON."""
    for key, expected in info.to_metadata().items():
        if key != "hearloop" and metadata.get(key) != expected:
            raise BundleError(
                f"{where}: metadata key {key!r} is {metadata.get(key)!r}, expected {expected!r} "
                "as in the key 'hearloop'"
            )


def check_graph(info: BundleInfo, inputs: Sequence[Any], outputs: Sequence[Any], where: str) -> None:
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
