"""Convolutions over any number of axes: windows of a padded tensor are views, and a product sums them."""

from itertools import product
from typing import Any

import numpy as np

from ...errors import UnsupportedModel
from ..memory import Addresses
from .environment import Environment, Tensor
from .views import constant_of

FLOAT = np.dtype(np.float32)


def geometry(attributes: dict[str, Any], kernel: tuple[int, ...], sizes: tuple[int, ...]) -> tuple[Any, Any, Any]:
    """Strides, dilations, and pads (before, after) per axis."""
    rank = len(kernel)
    strides = list(attributes.get("strides", [1] * rank))
    dilations = list(attributes.get("dilations", [1] * rank))
    pads = list(attributes.get("pads", [0] * 2 * rank))
    automatic = attributes.get("auto_pad", b"NOTSET").decode()
    pairs = [(pads[axis], pads[axis + rank]) for axis in range(rank)]
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        pairs = []
        for size, taps, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
            total = max((-(-size // stride) - 1) * stride + (taps - 1) * dilation + 1 - size, 0)
            small, large = total // 2, total - total // 2
            pairs.append((small, large) if automatic == "SAME_UPPER" else (large, small))
    elif automatic == "VALID":
        pairs = [(0, 0)] * rank
    return strides, dilations, pairs


def windows(x: Addresses, kernel: Any, strides: Any, dilations: Any) -> Addresses:
    """[N, C, *taps, *positions] of a padded [N, C, *sizes]."""
    rank = len(kernel)
    reaches = [(taps - 1) * dilation + 1 for taps, dilation in zip(kernel, dilations, strict=True)]
    sizes = x.shape[2:]
    counts = [(size - reach) // stride + 1 for size, reach, stride in zip(sizes, reaches, strides, strict=True)]
    if min(counts) <= 0:
        raise UnsupportedModel(
            f"the kernel reaches over {reaches} of {list(sizes)} padded positions, expected no more than there are; "
            "free dimensions count as 1"
        )
    for axis, (taps, stride, dilation, count) in enumerate(zip(kernel, strides, dilations, counts, strict=True)):
        index = np.arange(taps)[:, None] * dilation + np.arange(count)[None, :] * stride
        x = np.take(x, index, axis=2 + 2 * axis)  # the axis becomes two: tap, position
    order = [0, 1, *(2 + 2 * axis for axis in range(rank)), *(3 + 2 * axis for axis in range(rank))]
    return x.transpose(order)


def convolution(
    env: Environment, attributes: dict[str, Any], x: Tensor, weight: Any, bias: Any = None, **_: Any
) -> Tensor:
    w = env.addresses(weight)
    groups, kernel = attributes.get("group", 1), w.shape[2:]
    strides, dilations, pads = geometry(attributes, kernel, x.shape[2:])
    padded = env.bordered(x.addresses, [(0, 0), (0, 0), *pads])
    return Tensor(_correlate(env, padded, w, bias, groups, strides, dilations), FLOAT)


def _correlate(
    env: Environment, padded: Addresses, w: Addresses, bias: Any, groups: int, strides: Any, dilations: Any
) -> Addresses:
    """The sum over channels and taps for every position of a padded tensor."""
    kernel, channels = w.shape[2:], w.shape[0]
    found = windows(padded, kernel, strides, dilations)
    batch, positions = found.shape[0], found.shape[2 + len(kernel) :]
    count = int(np.prod(positions))
    rows = w.reshape(groups, channels // groups, -1)
    offset = None if bias is None else env.addresses(bias).reshape(groups, channels // groups, 1)
    results = []
    for item in range(batch):
        columns = found[item].reshape(groups, rows.shape[2], count)
        out = env.contract(rows, columns, offset)
        results.append(out.reshape(1, channels, *positions))
    return np.concatenate(results) if batch > 1 else results[0]


def transposed(
    env: Environment, attributes: dict[str, Any], x: Tensor, weight: Any, bias: Any = None, **_: Any
) -> Tensor:
    """Each phase of the output is a plain convolution of the input with the taps that fall on it."""
    w = env.addresses(weight)  # [channels in, channels out / groups, *taps]
    groups, kernel = attributes.get("group", 1), w.shape[2:]
    rank, sizes = len(kernel), x.shape[2:]
    strides, dilations, pads = geometry({**attributes, "auto_pad": b"NOTSET"}, kernel, sizes)
    extra = list(attributes.get("output_padding", [0] * rank))
    whole = [
        (size - 1) * stride + extra[axis] + (taps - 1) * dilation + 1
        for axis, (size, stride, taps, dilation) in enumerate(zip(sizes, strides, kernel, dilations, strict=True))
    ]
    automatic = attributes.get("auto_pad", b"NOTSET").decode()
    if "output_shape" in attributes or automatic.startswith("SAME"):
        wanted = list(attributes.get("output_shape", [size * s for size, s in zip(sizes, strides, strict=True)]))[
            -rank:
        ]
        pads = []
        for total in (size - want for size, want in zip(whole, wanted, strict=True)):
            small, large = total // 2, total - total // 2
            pads.append((small, large) if automatic == "SAME_UPPER" else (large, small))
    shape = [size - before - after for size, (before, after) in zip(whole, pads, strict=True)]
    if min(shape) <= 0:
        raise UnsupportedModel(f"the output has {shape} positions, expected some; free dimensions count as 1")
    channels_in, channels = w.shape[0], w.shape[1] * groups
    rows = w.reshape(groups, channels_in // groups, w.shape[1], *kernel).swapaxes(1, 2)
    rows = rows.reshape(channels, channels_in // groups, *kernel)
    # Output o takes tap t of input (o + pad - t dilation) / stride; one border serves all phases.
    border = []
    for axis, taps in enumerate(kernel):
        low = (pads[axis][0] - (taps - 1) * dilations[axis]) // strides[axis]
        high = (shape[axis] - 1 + pads[axis][0]) // strides[axis]
        border.append((max(-low, 0), max(high - sizes[axis] + 1, 0)))
    padded = env.bordered(x.addresses, [(0, 0), (0, 0), *border])
    out = env.fresh((x.shape[0], channels, *shape))
    for phase in product(*(range(min(stride, size)) for stride, size in zip(strides, shape, strict=True))):
        _phase(env, padded, rows, bias, groups, phase, shape, strides, dilations, pads, border, out)
    return Tensor(out, FLOAT)


def _source(position: int, tap: int, axis: int, pads: Any, dilations: Any, strides: Any) -> tuple[int, int]:
    """The input that an output takes through a tap, and what is left if it takes none."""
    return divmod(position + pads[axis][0] - tap * dilations[axis], strides[axis])


def _phase(
    env: Environment,
    padded: Addresses,
    rows: Addresses,
    bias: Any,
    groups: int,
    phase: tuple[int, ...],
    shape: list[int],
    strides: Any,
    dilations: Any,
    pads: Any,
    border: Any,
    out: Addresses,
) -> None:
    rank = len(phase)
    taken, index = [], []
    for axis in range(rank):
        every = [_source(phase[axis], t, axis, pads, dilations, strides) for t in range(rows.shape[2 + axis])]
        taps = [tap for tap, (_, rest) in enumerate(every) if rest == 0]
        count = -(-(shape[axis] - phase[axis]) // strides[axis])
        first = [every[tap][0] + border[axis][0] for tap in taps]
        taken.append(taps)
        index.append(np.array(first, np.int64)[:, None] + np.arange(count)[None, :])
    target = out[(slice(None), slice(None), *(slice(p, None, s) for p, s in zip(phase, strides, strict=True)))]
    channels = rows.shape[0]
    if not all(taken):
        value = np.float32(0) if bias is None else np.asarray(constant_of(bias, "the bias"))
        filled = env.memory.constant(np.broadcast_to(value.reshape(-1, *[1] * rank), target.shape[1:])).addresses
        env.copy(np.broadcast_to(filled, target.shape), target)
        return
    x = padded
    for axis, chosen in enumerate(index):
        x = np.take(x, chosen, axis=2 + 2 * axis)
    x = x.transpose([0, 1, *(2 + 2 * axis for axis in range(rank)), *(3 + 2 * axis for axis in range(rank))])
    w = rows[np.ix_(range(channels), range(rows.shape[1]), *taken)].reshape(groups, channels // groups, -1)
    offset = None if bias is None else env.addresses(bias).reshape(groups, channels // groups, 1)
    for item in range(x.shape[0]):
        columns = x[item].reshape(groups, w.shape[2], -1)
        result = env.contract(w, columns, offset)
        env.copy(result.reshape(target.shape[1:]), target[item])


LOWERINGS = {"Conv": convolution, "ConvTranspose": transposed}
