"""Reductions over any axes, and cumulative sums."""

from typing import Any

import numpy as np

from ..expression import Expression, Load, Result, apply
from ..program import Cumulate, Reduce
from .casts import as_type
from .environment import Environment, Tensor
from .views import constant_of

# Operator -> (how, what is reduced, what is made of the result; the latter gets the number of terms as well).
FORMS: dict[str, tuple[str, Any, Any]] = {
    "ReduceSum": ("sum", lambda x: x, lambda r, n: r),
    "ReduceMean": ("sum", lambda x: x, lambda r, n: apply("div", r, n)),
    "ReduceMax": ("max", lambda x: x, lambda r, n: r),
    "ReduceMin": ("min", lambda x: x, lambda r, n: r),
    "ReduceProd": ("prod", lambda x: x, lambda r, n: r),
    "ReduceSumSquare": ("sum", lambda x: apply("mul", x, x), lambda r, n: r),
    "ReduceL1": ("sum", lambda x: apply("abs", x), lambda r, n: r),
    "ReduceL2": ("sum", lambda x: apply("mul", x, x), lambda r, n: apply("sqrt", r)),
    "ReduceLogSum": ("sum", lambda x: x, lambda r, n: apply("log", r)),
}


def _reduced_axes(env: Environment, attributes: dict[str, Any], x: Tensor, axes: Any) -> list[int] | None:
    """The axes to reduce; None if there is nothing to do."""
    rank = len(x.shape)
    found = attributes.get("axes") if axes is None else constant_of(axes, "axes").ravel().tolist()
    if not found:
        return None if attributes.get("noop_with_empty_axes", 0) else list(range(rank))
    return sorted(axis % rank for axis in found)


def _reduce(env: Environment, x: Tensor, axes: list[int], keep: bool, how: str, before: Any, after: Any) -> Tensor:
    kept = [axis for axis in range(len(x.shape)) if axis not in axes]
    rows = env.gather(x.addresses).transpose(kept + axes)
    rows = rows.reshape(int(np.prod([x.shape[axis] for axis in kept])), -1)
    shape = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
    out = env.fresh(shape if keep else [x.shape[axis] for axis in kept])
    value: Expression = as_type(after(Result(), rows.shape[1]), x.dtype)
    env.kernels.append(Reduce(out.reshape(-1), before(Load(rows)), how, value))
    return Tensor(out, x.dtype)


def reduction(name: str) -> Any:
    how, before, after = FORMS[name]

    def lowering(env: Environment, attributes: dict[str, Any], x: Tensor, axes: Any = None, **_: Any) -> Tensor:
        found = _reduced_axes(env, attributes, x, axes)
        if found is None:
            return x
        return _reduce(env, x, found, bool(attributes.get("keepdims", 1)), how, before, after)

    return lowering


def log_sum_exp(env: Environment, attributes: dict[str, Any], x: Tensor, axes: Any = None, **_: Any) -> Tensor:
    """Relative to the maximum, so that nothing overflows."""
    found = _reduced_axes(env, attributes, x, axes)
    if found is None:
        return x
    same = lambda value, *_: value  # noqa: E731
    top = _reduce(env, x, found, True, "max", same, same)
    # Infinity less infinity would be no number.
    top = env.map(lambda m: apply("select", apply("isinf", m), 0.0, m), top)
    below = env.map(lambda a, m: apply("exp", apply("sub", a, m)), x, top)
    total = _reduce(env, below, found, True, "sum", same, lambda r, n: apply("log", r))
    result = env.map(lambda a, m: apply("add", a, m), total, top)
    if attributes.get("keepdims", 1):
        return result
    return result.view(result.addresses.squeeze(tuple(found)))


def lp_normalization(env: Environment, attributes: dict[str, Any], x: Tensor, **_: Any) -> Tensor:
    form = FORMS["ReduceL1" if attributes.get("p", 2) == 1 else "ReduceL2"]
    norm = _reduce(env, x, [attributes.get("axis", -1) % len(x.shape)], True, *form)
    # A row of zeros stays one.
    return env.map(lambda a, n: apply("div", a, apply("add", n, apply("equal", n, 0.0))), x, norm)


def mean_variance(env: Environment, attributes: dict[str, Any], x: Tensor, **_: Any) -> Tensor:
    axes = sorted(axis % len(x.shape) for axis in attributes.get("axes", [0, 2, 3]))
    mean = _reduce(env, x, axes, True, *FORMS["ReduceMean"])
    centred = env.map(lambda a, m: apply("sub", a, m), x, mean)
    deviation = _reduce(
        env,
        centred,
        axes,
        True,
        "sum",
        lambda e: apply("mul", e, e),
        lambda r, n: apply("sqrt", apply("mul", r, 1 / n)),
    )
    return env.map(lambda a, s: apply("div", a, apply("add", s, 1e-9)), centred, deviation)


def cumulative_sum(env: Environment, attributes: dict[str, Any], x: Tensor, axis: Any, **_: Any) -> Tensor:
    place = int(constant_of(axis, "the axis").ravel()[0]) % len(x.shape)
    step = -1 if attributes.get("reverse", 0) else 1
    moved = np.moveaxis(env.gather(x.addresses), place, -1)[..., ::step]
    out = env.fresh(moved.shape)
    count = moved.shape[-1]
    exclusive = bool(attributes.get("exclusive", 0))
    env.kernels.append(Cumulate(out.reshape(-1, count), Load(moved.reshape(-1, count)), exclusive=exclusive))
    return Tensor(np.moveaxis(out[..., ::step], -1, place), x.dtype)


LOWERINGS: dict[str, Any] = {
    **{name: reduction(name) for name in FORMS},
    "ReduceLogSumExp": log_sum_exp,
    "LpNormalization": lp_normalization,
    "MeanVarianceNormalization": mean_variance,
    "CumSum": cumulative_sum,
}
