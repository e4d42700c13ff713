"""Operators that only move numbers about: to a tensor of addresses they do what NumPy does to an array of numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...errors import UnsupportedModel
from .environment import Environment, Tensor


def constant_of(value: Any, what: str) -> np.ndarray:
    """A value that must be known when the model is compiled."""
    if value is None or isinstance(value, Tensor):
        raise UnsupportedModel(f"{what} is computed when the model runs; expected a constant")
    return np.asarray(value)


def _axes(attributes: dict[str, Any], given: Any) -> list[int] | None:
    """Axes, that older operator sets have as an attribute and newer ones as an input."""
    if "axes" in attributes:
        return list(attributes["axes"])
    return None if given is None else constant_of(given, "axes").ravel().tolist()


def transpose(env: Environment, attributes: dict[str, Any], x: Any, **_: Any) -> Tensor:
    return x.view(x.addresses.transpose(attributes.get("perm")))


def reshape(env: Environment, attributes: dict[str, Any], x: Tensor, shape: Any, **_: Any) -> Tensor:
    sizes = constant_of(shape, "the shape").tolist()
    if not attributes.get("allowzero", 0):
        sizes = [x.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    return x.view(x.addresses.reshape(sizes))


def flatten(env: Environment, attributes: dict[str, Any], x: Tensor, **_: Any) -> Tensor:
    axis = attributes.get("axis", 1)
    axis += len(x.shape) if axis < 0 else 0
    return x.view(x.addresses.reshape(int(np.prod(x.shape[:axis])), -1))


def squeeze(env: Environment, attributes: dict[str, Any], x: Tensor, axes: Any = None, **_: Any) -> Tensor:
    found = _axes(attributes, axes)
    return x.view(x.addresses.squeeze(None if found is None else tuple(found)))


def unsqueeze(env: Environment, attributes: dict[str, Any], x: Tensor, axes: Any = None, **_: Any) -> Tensor:
    return x.view(np.expand_dims(x.addresses, tuple(_axes(attributes, axes) or ())))


def identity(env: Environment, attributes: dict[str, Any], x: Tensor, **_: Any) -> Tensor:
    return x


def dropout(
    env: Environment, attributes: dict[str, Any], x: Tensor, ratio: Any = None, training: Any = None, **_: Any
) -> list[Any]:
    if training is not None and constant_of(training, "training_mode").any():
        raise UnsupportedModel("training_mode is true; expected inference")
    return [x, np.ones(x.shape, np.bool_)]


def slice_(env: Environment, attributes: dict[str, Any], x: Tensor, *given: Any, **_: Any) -> Tensor:
    names = ("starts", "ends", "axes", "steps")
    if "starts" in attributes:
        found = [attributes.get(name) for name in names]
    else:
        values = [*given, None, None, None, None][:4]
        found = [None if v is None else constant_of(v, n).ravel().tolist() for v, n in zip(values, names, strict=True)]
    starts, ends = found[0] or [], found[1] or []
    axes = list(range(len(starts))) if found[2] is None else found[2]
    steps = [1] * len(starts) if found[3] is None else found[3]
    index = [slice(None)] * len(x.shape)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = x.shape[axis]
        first = start + size if start < 0 else start
        last = end + size if end < 0 else end
        if step > 0:
            index[axis] = slice(min(max(first, 0), size), min(max(last, 0), size), step)
        else:
            last = min(max(last, -1), size - 1)
            index[axis] = slice(min(max(first, -1), size - 1), last if last >= 0 else None, step)
            if first < 0:
                index[axis] = slice(0, 0)
    return x.view(x.addresses[tuple(index)])


def concat(env: Environment, attributes: dict[str, Any], *values: Any, **_: Any) -> Tensor:
    tensors = [env.tensor(value) for value in values]
    dtype = next(value.dtype for value in values if isinstance(value, Tensor))
    return Tensor(env.settled(np.concatenate([tensor.addresses for tensor in tensors], attributes["axis"])), dtype)


def split(env: Environment, attributes: dict[str, Any], x: Tensor, sizes: Any = None, outputs: int = 1) -> list[Tensor]:
    axis = attributes.get("axis", 0)
    if sizes is not None or "split" in attributes:
        found = attributes.get("split") or constant_of(sizes, "split").tolist()
    else:
        chunk = -(-x.shape[axis] // outputs)
        found = [chunk] * (outputs - 1) + [x.shape[axis] - chunk * (outputs - 1)]
    return [x.view(part) for part in np.split(x.addresses, np.cumsum(found)[:-1], axis)]


def expand(env: Environment, attributes: dict[str, Any], x: Tensor, shape: Any, **_: Any) -> Tensor:
    sizes = np.broadcast_shapes(x.shape, tuple(constant_of(shape, "the shape").tolist()))
    return x.view(np.broadcast_to(x.addresses, sizes))


def tile(env: Environment, attributes: dict[str, Any], x: Tensor, repeats: Any, **_: Any) -> Tensor:
    return x.view(np.tile(x.addresses, constant_of(repeats, "repeats").tolist()))


def gather(env: Environment, attributes: dict[str, Any], x: Any, indices: Any, **_: Any) -> Tensor:
    x = env.tensor(x)
    return x.view(np.take(x.addresses, constant_of(indices, "indices"), attributes.get("axis", 0)))


def gather_elements(env: Environment, attributes: dict[str, Any], x: Any, indices: Any, **_: Any) -> Tensor:
    x, axis = env.tensor(x), attributes.get("axis", 0)
    index = constant_of(indices, "indices")
    part = x.addresses[_beside(index, axis)]
    return x.view(np.take_along_axis(part, np.where(index < 0, index + x.shape[axis], index), axis))


def gather_nd(env: Environment, attributes: dict[str, Any], x: Any, indices: Any, **_: Any) -> Tensor:
    x, index = env.tensor(x), constant_of(indices, "indices")
    if attributes.get("batch_dims", 0):
        raise UnsupportedModel("batch_dims is not 0")
    return x.view(x.addresses[tuple(np.moveaxis(index, -1, 0))])


def scatter_nd(env: Environment, attributes: dict[str, Any], x: Any, indices: Any, updates: Any, **_: Any) -> Tensor:
    _plain(attributes)
    x, updates, index = env.tensor(x), env.tensor(updates), constant_of(indices, "indices")
    result = x.addresses.copy()
    result[tuple(np.moveaxis(index, -1, 0))] = updates.addresses
    return x.view(result)


def scatter_elements(
    env: Environment, attributes: dict[str, Any], x: Any, indices: Any, updates: Any, **_: Any
) -> Tensor:
    _plain(attributes)
    x, updates, index = env.tensor(x), env.tensor(updates), constant_of(indices, "indices")
    axis = attributes.get("axis", 0)
    result = x.addresses.copy()
    part = result[_beside(index, axis)]
    np.put_along_axis(part, np.where(index < 0, index + x.shape[axis], index), updates.addresses, axis)
    return x.view(result)


def _beside(index: np.ndarray, axis: int) -> tuple[slice, ...]:
    """What indices along an axis may mean: the first rows, as many as they have; NumPy would repeat a single one."""
    return tuple(slice(None) if n == axis % index.ndim else slice(size) for n, size in enumerate(index.shape))


def _plain(attributes: dict[str, Any]) -> None:
    if attributes.get("reduction", b"none") != b"none":
        raise UnsupportedModel(f"reduction is {attributes['reduction'].decode()!r}, expected 'none'")


def pad(
    env: Environment,
    attributes: dict[str, Any],
    x: Tensor,
    pads: Any = None,
    value: Any = None,
    axes: Any = None,
    **_: Any,
) -> Tensor:
    mode = attributes.get("mode", b"constant").decode()
    found = list(attributes["pads"]) if "pads" in attributes else constant_of(pads, "pads").ravel().tolist()
    chosen = list(range(len(x.shape))) if axes is None else constant_of(axes, "axes").ravel().tolist()
    fill = attributes.get("value", 0.0) if value is None else float(constant_of(value, "the value").ravel()[0])
    addresses = x.addresses
    for place, axis in enumerate(chosen):
        before, after = found[place], found[place + len(chosen)]
        size = addresses.shape[axis]
        addresses = np.take(addresses, range(max(-before, 0), size - max(-after, 0)), axis)
        widths = [(0, 0)] * addresses.ndim
        widths[axis] = (max(before, 0), max(after, 0))
        if mode == "constant":
            border = int(env.memory.constant(np.asarray(fill)).addresses.flat[0])
            addresses = np.pad(addresses, widths, constant_values=border)
        else:
            addresses = np.pad(addresses, widths, mode=mode)
    return x.view(env.settled(addresses))


def depth_to_space(env: Environment, attributes: dict[str, Any], x: Tensor, **_: Any) -> Tensor:
    block = attributes["blocksize"]
    n, c, h, w = x.shape
    if attributes.get("mode", b"DCR") == b"DCR":
        parts = x.addresses.reshape(n, block, block, c // block**2, h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        parts = x.addresses.reshape(n, c // block**2, block, block, h, w).transpose(0, 1, 4, 2, 5, 3)
    return x.view(parts.reshape(n, c // block**2, h * block, w * block))


def space_to_depth(env: Environment, attributes: dict[str, Any], x: Tensor, **_: Any) -> Tensor:
    block = attributes["blocksize"]
    n, c, h, w = x.shape
    parts = x.addresses.reshape(n, c, h // block, block, w // block, block)
    parts = parts.transpose((0, 3, 5, 1, 2, 4) if attributes.get("mode", b"DCR") == b"DCR" else (0, 1, 3, 5, 2, 4))
    return x.view(parts.reshape(n, c * block**2, h // block, w // block))


def resize(env: Environment, attributes: dict[str, Any], x: Tensor, *given: Any, **_: Any) -> Tensor:
    """Nearest neighbour, by the rules of the attributes; other modes compute new numbers."""
    if attributes.get("mode", b"nearest") != b"nearest":
        raise UnsupportedModel(f"mode is {attributes['mode'].decode()!r}, expected 'nearest'")
    policy = attributes.get("keep_aspect_ratio_policy", b"stretch").decode()
    if policy != "stretch":
        raise UnsupportedModel(f"keep_aspect_ratio_policy is {policy!r}, expected 'stretch'")
    scales, sizes = _scales(env, attributes, x, given)
    how = attributes.get("coordinate_transformation_mode", b"half_pixel" if env.opset > 10 else b"asymmetric").decode()
    rounding = attributes.get("nearest_mode", b"round_prefer_floor" if env.opset > 10 else b"floor").decode()
    addresses = x.addresses
    for axis, (scale, size) in enumerate(zip(scales, sizes, strict=True)):
        # In float32, as in ONNX Runtime: in float64 the error of a scale such as 1/3 would decide between neighbours.
        position = np.arange(size, dtype=np.float32)
        if how == "asymmetric":
            position = position / scale
        elif how == "align_corners":
            position = position * np.float32(x.shape[axis] - 1) / np.float32(max(size - 1, 1))
        elif how in ("half_pixel", "pytorch_half_pixel"):
            position = (position + 0.5) / scale - 0.5 if how == "half_pixel" or size > 1 else 0 * position
        else:
            raise UnsupportedModel(f"coordinate_transformation_mode is {how!r}")
        position = position.astype(np.float64)  # half of one may be added without another rounding
        rounded = {
            "round_prefer_floor": np.ceil(position - 0.5),
            "round_prefer_ceil": np.floor(position + 0.5),
            "floor": np.floor(position),
            "ceil": np.ceil(position),
        }[rounding]
        addresses = np.take(addresses, np.clip(rounded, 0, x.shape[axis] - 1).astype(np.int64), axis)
    return x.view(addresses)


def _scales(
    env: Environment, attributes: dict[str, Any], x: Tensor, given: Any
) -> tuple[Sequence[np.float32], list[int]]:
    if attributes.get("axes") is not None:
        raise UnsupportedModel("axes are given; expected sizes or scales for all axes")
    found = [None if value is None else constant_of(value, "scales and sizes") for value in given]
    scales = attributes.get("scales") or (found[0] if env.opset < 11 else found[1] if len(found) > 1 else None)
    if scales is not None and len(scales):
        ratios = np.asarray(scales, np.float32)
        if env.opset < 11 and ratios.min() < 1:
            raise UnsupportedModel(f"a scale is {ratios.min():g}; expected 1 or more before opset 11")
        return list(ratios), [int(np.float32(size) * scale) for size, scale in zip(x.shape, ratios, strict=True)]
    if len(found) < 3 or found[2] is None:
        raise UnsupportedModel("neither scales nor sizes are given")
    sizes = [int(size) for size in found[2]]
    return [np.float32(size) / np.float32(old) for size, old in zip(sizes, x.shape, strict=True)], sizes


def shape(env: Environment, attributes: dict[str, Any], x: Any, **_: Any) -> np.ndarray:
    sizes = np.array(np.shape(x.addresses if isinstance(x, Tensor) else x), np.int64)
    return sizes[attributes.get("start", 0) : attributes.get("end")]


def size(env: Environment, attributes: dict[str, Any], x: Any, **_: Any) -> np.ndarray:
    return np.array(x.addresses.size if isinstance(x, Tensor) else np.size(x), np.int64)


def trilu(env: Environment, attributes: dict[str, Any], x: Tensor, k: Any = None, **_: Any) -> Tensor:
    diagonal = 0 if k is None else int(constant_of(k, "k"))
    zero = env.memory.constant(np.zeros(())).addresses
    keep = np.tri(x.shape[-2], x.shape[-1], k=diagonal - (1 if attributes.get("upper", 1) else 0), dtype=bool)
    return x.view(np.where(~keep if attributes.get("upper", 1) else keep, x.addresses, zero))


LOWERINGS = {
    "Transpose": transpose,
    "Reshape": reshape,
    "Flatten": flatten,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Identity": identity,
    "Dropout": dropout,
    "Slice": slice_,
    "Concat": concat,
    "Split": split,
    "Expand": expand,
    "Tile": tile,
    "Gather": gather,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "ScatterND": scatter_nd,
    "ScatterElements": scatter_elements,
    "Pad": pad,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
    "Resize": resize,
    "Upsample": resize,
    "Shape": shape,
    "Size": size,
    "Trilu": trilu,
}
