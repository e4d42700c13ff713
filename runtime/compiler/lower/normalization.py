"""Normalisations: rows are brought to mean 0 and variance 1, then scaled and shifted."""

from typing import Any

import numpy as np

from ...errors import UnsupportedModel
from ..expression import Load, Result, apply
from ..memory import Addresses
from ..program import Normalize, Reduce, Softmax
from .environment import Environment, Tensor
from .views import constant_of

FLOAT = np.dtype(np.float32)


def _normalized(
    env: Environment, x: Addresses, epsilon: float, scale: Any, shift: Any, centered: bool = True
) -> Addresses:
    """Normalise the rows of x [R, n]; scale and shift are addresses [R, n] or None."""
    value: Any = Result()
    if scale is not None:
        value = apply("mul", value, Load(env.gather(scale)))
    if shift is not None:
        value = apply("add", value, Load(env.gather(shift)))
    out = env.fresh(x.shape)
    env.kernels.append(Normalize(out, Load(env.gather(x)), float(epsilon), centered, value))
    return out


def layer(
    env: Environment, attributes: dict[str, Any], x: Tensor, scale: Any = None, shift: Any = None, outputs: int = 1
) -> list[Any]:
    result = _over_last_axes(env, attributes, x, scale, shift, True)
    return [result] if outputs == 1 else [result, *_statistics(env, attributes, x)]


def root_mean_square(
    env: Environment, attributes: dict[str, Any], x: Tensor, scale: Any = None, outputs: int = 1
) -> Tensor:
    if outputs > 1:
        raise UnsupportedModel("the inverse deviation is wanted as well; expected one output")
    return _over_last_axes(env, attributes, x, scale, None, False)


def skip(centered: bool) -> Any:
    """The sum of two tensors, and of a bias, is normalised."""

    def lowering(
        env: Environment,
        attributes: dict[str, Any],
        x: Tensor,
        other: Any,
        scale: Any,
        *rest: Any,
        outputs: int = 1,
    ) -> list[Any]:
        shift = rest[0] if centered and rest else None
        bias = rest[1] if centered and len(rest) > 1 else rest[0] if rest and not centered else None
        total = env.map(lambda a, b: apply("add", a, b), x, other)
        if bias is not None:
            total = env.map(lambda a, b: apply("add", a, b), total, bias)
        same = {"epsilon": attributes.get("epsilon", 1e-12)}
        return [_over_last_axes(env, same, total, scale, shift, centered), None, None, total]

    return lowering


def _statistics(env: Environment, attributes: dict[str, Any], x: Tensor) -> list[Tensor]:
    """Mean and inverse deviation over the last axes."""
    axis = attributes.get("axis", -1) % len(x.shape)
    rows = env.gather(x.addresses).reshape(int(np.prod(x.shape[:axis])), -1)
    count = rows.shape[1]
    shape = (*x.shape[:axis], *[1] * (len(x.shape) - axis))
    mean, inverse = env.fresh(shape), env.fresh(shape)
    env.kernels.append(Reduce(mean.reshape(-1), Load(rows), "sum", apply("mul", Result(), 1 / count)))
    distance = apply("sub", Load(rows), Load(np.broadcast_to(mean.reshape(-1, 1), rows.shape)))
    spread = apply("add", apply("mul", Result(), 1 / count), attributes.get("epsilon", 1e-5))
    value = apply("div", 1.0, apply("sqrt", spread))
    env.kernels.append(Reduce(inverse.reshape(-1), apply("mul", distance, distance), "sum", value))
    return [Tensor(mean, FLOAT), Tensor(inverse, FLOAT)]


def _over_last_axes(
    env: Environment, attributes: dict[str, Any], x: Tensor, scale: Any, shift: Any, centered: bool
) -> Tensor:
    axis = attributes.get("axis", -1) % len(x.shape)
    count = int(np.prod(x.shape[axis:]))
    rows = env.gather(x.addresses).reshape(-1, count)

    def spread(value: Any) -> Addresses | None:
        return None if value is None else np.broadcast_to(env.addresses(value), x.shape).reshape(-1, count)

    out = _normalized(env, rows, attributes.get("epsilon", 1e-5), spread(scale), spread(shift), centered)
    return Tensor(out.reshape(x.shape), FLOAT)


def instance(env: Environment, attributes: dict[str, Any], x: Tensor, scale: Any, shift: Any, **_: Any) -> Tensor:
    rows = env.gather(x.addresses).reshape(x.shape[0] * x.shape[1], -1)

    def spread(value: Any) -> Addresses:
        wide = np.broadcast_to(env.addresses(value)[None, :, None], (*x.shape[:2], rows.shape[1]))
        return wide.reshape(rows.shape)

    out = _normalized(env, rows, attributes.get("epsilon", 1e-5), spread(scale), spread(shift))
    return Tensor(out.reshape(x.shape), FLOAT)


def group(env: Environment, attributes: dict[str, Any], x: Tensor, scale: Any, shift: Any, **_: Any) -> Tensor:
    groups, channels = attributes["num_groups"], x.shape[1]
    rows = env.gather(x.addresses).reshape(x.shape[0] * groups, -1)

    def spread(value: Any) -> Addresses:
        found = env.addresses(value)
        found = found if found.size == channels else np.repeat(found, channels // groups)
        shape = (1, channels, *[1] * (len(x.shape) - 2))
        return np.broadcast_to(found.reshape(shape), x.shape).reshape(rows.shape)

    out = _normalized(env, rows, attributes.get("epsilon", 1e-5), spread(scale), spread(shift))
    return Tensor(out.reshape(x.shape), FLOAT)


def batch(
    env: Environment, attributes: dict[str, Any], x: Tensor, scale: Any, shift: Any, mean: Any, variance: Any, **_: Any
) -> Tensor:
    """With known statistics this is a gain and an offset per channel."""
    if attributes.get("training_mode", 0):
        raise UnsupportedModel("training_mode is 1; expected inference")
    names = ("scale", "B", "mean", "variance")
    values = [constant_of(v, n).astype(np.float64) for v, n in zip((scale, shift, mean, variance), names, strict=True)]
    gain = values[0] / np.sqrt(values[3] + attributes.get("epsilon", 1e-5))
    offset = values[1] - values[2] * gain
    shape = (-1, *[1] * (len(x.shape) - 2))
    return env.map(lambda a, g, o: apply("add", apply("mul", a, g), o), x, gain.reshape(shape), offset.reshape(shape))


def softmax(logarithm: bool) -> Any:
    def lowering(env: Environment, attributes: dict[str, Any], x: Tensor, **_: Any) -> Tensor:
        rank = len(x.shape)
        axis = attributes.get("axis", -1 if env.opset >= 13 else 1) % max(rank, 1)
        addresses = env.gather(x.addresses)
        if env.opset < 13:  # everything from the axis on is one row
            rows = addresses.reshape(int(np.prod(x.shape[:axis])), -1)
            out = env.fresh(rows.shape)
            env.kernels.append(Softmax(out, Load(rows), logarithm))
            return Tensor(out.reshape(x.shape), FLOAT)
        moved = np.moveaxis(addresses, axis, -1)
        out = env.fresh(moved.shape)
        count = moved.shape[-1]
        env.kernels.append(Softmax(out.reshape(-1, count), Load(moved.reshape(-1, count)), logarithm))
        return Tensor(np.moveaxis(out, -1, axis), FLOAT)

    return lowering


MICROSOFT = {"SkipLayerNormalization": skip(True), "SkipSimplifiedLayerNormalization": skip(False)}
LOWERINGS = {
    "LayerNormalization": layer,
    "RMSNormalization": root_mean_square,
    "SimplifiedLayerNormalization": root_mean_square,
    "InstanceNormalization": instance,
    "GroupNormalization": group,
    "BatchNormalization": batch,
    "Softmax": softmax(False),
    "LogSoftmax": softmax(True),
}
