"""Pooling: windows of a padded tensor are views, and a reduction makes one number of each."""

from typing import Any

import numpy as np

from ...errors import UnsupportedModel
from ..expression import Expression, Load, Result, apply
from ..memory import Addresses
from ..program import Reduce
from .convolution import geometry, windows
from .environment import Environment, Tensor

FLOAT = np.dtype(np.float32)
Pairs = list[tuple[int, int]]


def max_pool(env: Environment, attributes: dict[str, Any], x: Tensor, outputs: int = 1) -> Tensor:
    if outputs > 1:
        raise UnsupportedModel("the indices of the maxima are wanted; expected one output")
    return _reduced(env, _windows(env, attributes, x, -np.inf), "max")


def average_pool(env: Environment, attributes: dict[str, Any], x: Tensor, **_: Any) -> Tensor:
    """The mean of what lies inside; `count_include_pad` counts the border, but not what `ceil_mode` adds to it."""
    found = _windows(env, attributes, x, 0.0)
    kernel, strides, dilations, pads, extra = _shape(attributes, x)
    counted = np.zeros([size + before + after for size, (before, after) in zip(x.shape[2:], extra, strict=True)])
    border = pads if attributes.get("count_include_pad", 0) else [(0, 0)] * len(pads)
    inner = zip(x.shape[2:], pads, border, strict=True)
    counted[tuple(slice(p[0] - b[0], p[0] + size + b[1]) for size, p, b in inner)] = 1
    places = windows(np.arange(counted.size).reshape(1, 1, *counted.shape), kernel, strides, dilations)
    counts = counted.ravel()[places].sum(tuple(range(2, 2 + len(kernel))))
    total = _reduced(env, found, "sum")
    return env.map(lambda a, b: apply("mul", a, b), total, np.broadcast_to(1 / counts, total.shape))


def lp_pool(env: Environment, attributes: dict[str, Any], x: Tensor, **_: Any) -> Tensor:
    power = attributes.get("p", 2)
    return _norm(env, _windows(env, attributes, x, 0.0), power)


def _shape(attributes: dict[str, Any], x: Tensor) -> tuple[Any, Any, Any, Pairs, Pairs]:
    """Kernel, strides, dilations, pads, and pads with what `ceil_mode` adds behind."""
    kernel = tuple(attributes["kernel_shape"])
    strides, dilations, pads = geometry(attributes, kernel, x.shape[2:])
    if not attributes.get("ceil_mode", 0):
        return kernel, strides, dilations, pads, pads
    extra = []
    for axis, size in enumerate(x.shape[2:]):
        (before, after), stride = pads[axis], strides[axis]
        reach = (kernel[axis] - 1) * dilations[axis] + 1
        count = -(-(size + before + after - reach) // stride) + 1
        if (count - 1) * stride >= size + before:
            count -= 1  # a window that would lie in the border behind
        extra.append((before, max((count - 1) * stride + reach - size - before, 0)))
    return kernel, strides, dilations, pads, extra


def _windows(env: Environment, attributes: dict[str, Any], x: Tensor, fill: float) -> Addresses:
    kernel, strides, dilations, _, extra = _shape(attributes, x)
    return windows(env.bordered(x.addresses, [(0, 0), (0, 0), *extra], fill), kernel, strides, dilations)


def _rows(found: Addresses) -> tuple[Addresses, tuple[int, ...]]:
    """Windows [N, C, *taps, *positions] as [windows, taps], and the shape of the result."""
    rank = (found.ndim - 2) // 2
    order = [0, 1, *range(2 + rank, 2 + 2 * rank), *range(2, 2 + rank)]
    return found.transpose(order).reshape(-1, int(np.prod(found.shape[2 : 2 + rank]))), (
        *found.shape[:2],
        *found.shape[2 + rank :],
    )


def _reduced(env: Environment, found: Addresses, how: str, value: Expression | None = None) -> Tensor:
    rows, shape = _rows(found)
    out = env.fresh(shape)
    env.kernels.append(Reduce(out.reshape(-1), Load(rows), how, value or Result()))
    return Tensor(out, FLOAT)


def _norm(env: Environment, found: Addresses, power: int) -> Tensor:
    rows, shape = _rows(found)
    out = env.fresh(shape)
    size = apply("abs", Load(rows))
    source, value = {
        1: (size, Result()),
        2: (apply("mul", size, size), apply("sqrt", Result())),
    }.get(power, (apply("pow", size, power), apply("pow", Result(), 1 / power)))
    env.kernels.append(Reduce(out.reshape(-1), source, "sum", value))
    return Tensor(out, FLOAT)


def _everything(env: Environment, x: Tensor) -> Addresses:
    """One window over all positions, [N, C, *taps, 1, ...]."""
    return env.gather(x.addresses).reshape(*x.shape, *[1] * (len(x.shape) - 2))


def global_max_pool(env: Environment, attributes: dict[str, Any], x: Tensor, **_: Any) -> Tensor:
    return _reduced(env, _everything(env, x), "max")


def global_average_pool(env: Environment, attributes: dict[str, Any], x: Tensor, **_: Any) -> Tensor:
    count = int(np.prod(x.shape[2:]))
    return _reduced(env, _everything(env, x), "sum", apply("mul", Result(), 1 / count))


def global_lp_pool(env: Environment, attributes: dict[str, Any], x: Tensor, **_: Any) -> Tensor:
    return _norm(env, _everything(env, x), attributes.get("p", 2))


LOWERINGS: dict[str, Any] = {
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "LpPool": lp_pool,
    "GlobalMaxPool": global_max_pool,
    "GlobalAveragePool": global_average_pool,
    "GlobalLpPool": global_lp_pool,
}
