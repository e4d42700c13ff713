"""Element-wise operators: activations are put together from the primitive operations of `expression`."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..expression import Expression, apply
from .casts import as_type, kept
from .environment import Environment, Tensor

Make = Callable[..., Expression]
SELU_ALPHA, SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875


def _plain(operation: str, dtype: Any = np.float32) -> Any:
    """An operator that is one operation; without a type of its own the result has that of the operands."""

    def lowering(env: Environment, attributes: dict[str, Any], *x: Any, **_: Any) -> Tensor:
        found = x[0].dtype if dtype is None else dtype
        return env.map(lambda *e: kept(apply(operation, *e), found), *x, dtype=found)

    return lowering


def _built(make: Callable[[dict[str, Any]], Make]) -> Any:
    """An operator that is put together; `make` is given the attributes."""

    def lowering(env: Environment, attributes: dict[str, Any], *x: Any, **_: Any) -> Tensor:
        return env.map(make(attributes), *x)

    return lowering


def _variadic(operation: str) -> Any:
    def lowering(env: Environment, attributes: dict[str, Any], *x: Any, **_: Any) -> Tensor:
        def make(first: Expression, *others: Expression) -> Expression:
            for other in others:
                first = apply(operation, first, other)
            return first

        return env.map(make, *x, dtype=x[0].dtype)

    return lowering


def mean(env: Environment, attributes: dict[str, Any], *x: Any, **_: Any) -> Tensor:
    def make(first: Expression, *others: Expression) -> Expression:
        for other in others:
            first = apply("add", first, other)
        return apply("div", first, len(x))

    return env.map(make, *x)


def divide(env: Environment, attributes: dict[str, Any], a: Any, b: Any, **_: Any) -> Tensor:
    """Division; of integers towards zero."""
    return env.map(lambda x, y: kept(as_type(apply("div", x, y), a.dtype), a.dtype), a, b, dtype=a.dtype)


def power(env: Environment, attributes: dict[str, Any], a: Any, b: Any, **_: Any) -> Tensor:
    exponent = None if isinstance(b, Tensor) or np.size(b) != 1 else float(np.asarray(b).ravel()[0])
    shape = () if isinstance(b, Tensor) else np.shape(b)
    if exponent is not None and len(shape) <= len(a.shape):
        if exponent == 1:
            return a
        if exponent == 2:
            return env.map(lambda x: apply("mul", x, x), a, dtype=a.dtype)
        if exponent == 3:
            return env.map(lambda x: apply("mul", apply("mul", x, x), x), a, dtype=a.dtype)
        if exponent == 0.5:
            return env.map(lambda x: as_type(apply("sqrt", x), a.dtype), a, dtype=a.dtype)
        if exponent == -1:
            return env.map(lambda x: as_type(apply("div", 1.0, x), a.dtype), a, dtype=a.dtype)
    return env.map(lambda x, y: as_type(apply("pow", x, y), a.dtype), a, b, dtype=a.dtype)


def modulo(env: Environment, attributes: dict[str, Any], a: Any, b: Any, **_: Any) -> Tensor:
    operation = "remainder" if attributes.get("fmod", 0) else "modulo"
    return env.map(lambda x, y: apply(operation, x, y), a, b, dtype=a.dtype)


def clip(env: Environment, attributes: dict[str, Any], x: Any, low: Any = None, high: Any = None, **_: Any) -> Tensor:
    low = np.float32(attributes["min"]) if "min" in attributes else low
    high = np.float32(attributes["max"]) if "max" in attributes else high
    if low is not None:
        x = env.map(lambda a, b: apply("maximum", a, b), x, low, dtype=x.dtype)
    if high is not None:
        x = env.map(lambda a, b: apply("minimum", a, b), x, high, dtype=x.dtype)
    return x


def where(env: Environment, attributes: dict[str, Any], condition: Any, then: Any, otherwise: Any, **_: Any) -> Tensor:
    """A known condition only chooses addresses."""
    dtype = then.dtype
    if not isinstance(condition, Tensor):
        chosen = np.where(condition, env.addresses(then), env.addresses(otherwise))
        return Tensor(chosen, dtype)
    return env.map(lambda c, a, b: apply("select", c, a, b), condition, then, otherwise, dtype=dtype)


def _turned(first: str) -> Any:
    """a > b is b < a."""

    def lowering(env: Environment, attributes: dict[str, Any], a: Any, b: Any, **_: Any) -> Tensor:
        return env.map(lambda x, y: apply(first, y, x), a, b, dtype=np.bool_)

    return lowering


def isinf(env: Environment, attributes: dict[str, Any], x: Tensor, **_: Any) -> Tensor:
    def make(a: Expression) -> Expression:
        infinite = apply("isinf", a)
        if not attributes.get("detect_negative", 1):
            infinite = apply("and", infinite, apply("less", 0.0, a))
        if not attributes.get("detect_positive", 1):
            infinite = apply("and", infinite, apply("less", a, 0.0))
        return infinite

    return env.map(make, x, dtype=np.bool_)


def prelu(env: Environment, attributes: dict[str, Any], x: Tensor, slope: Any, **_: Any) -> Tensor:
    return env.map(lambda a, s: apply("select", apply("less", a, 0.0), apply("mul", a, s), a), x, slope)


def positive(x: Expression, then: Expression, otherwise: Expression) -> Expression:
    return apply("select", apply("less", 0.0, x), then, otherwise)


def softplus(x: Expression) -> Expression:
    """log(1 + exp(x)), written so that nothing overflows, and that small exponentials are not lost beside 1."""
    small = apply("exp", apply("neg", apply("abs", x)))
    total = apply("add", 1.0, small)
    # What rounding took from the sum, the quotient gives back to its logarithm (D. Goldberg, 1991, theorem 4).
    tail = apply("div", apply("mul", apply("log", total), small), apply("sub", total, 1.0))
    tail = apply("select", apply("equal", total, 1.0), small, tail)
    return apply("add", apply("maximum", x, 0.0), tail)


def _leaky(attributes: dict[str, Any]) -> Make:
    slope = attributes.get("alpha", 0.01)
    return lambda x: apply("select", apply("less", x, 0.0), apply("mul", x, slope), x)


def _elu(attributes: dict[str, Any]) -> Make:
    alpha = attributes.get("alpha", 1.0)
    return lambda x: positive(x, x, apply("mul", alpha, apply("sub", apply("exp", apply("minimum", x, 0.0)), 1.0)))


def _celu(attributes: dict[str, Any]) -> Make:
    alpha = attributes.get("alpha", 1.0)

    def make(x: Expression) -> Expression:
        low = apply("mul", alpha, apply("sub", apply("exp", apply("div", apply("minimum", x, 0.0), alpha)), 1.0))
        return positive(x, x, low)

    return make


def _selu(attributes: dict[str, Any]) -> Make:
    alpha, gamma = attributes.get("alpha", SELU_ALPHA), attributes.get("gamma", SELU_GAMMA)

    def make(x: Expression) -> Expression:
        low = apply("mul", alpha, apply("sub", apply("exp", apply("minimum", x, 0.0)), 1.0))
        return apply("mul", gamma, positive(x, x, low))

    return make


def _hard_sigmoid(attributes: dict[str, Any]) -> Make:
    alpha, beta = attributes.get("alpha", 0.2), attributes.get("beta", 0.5)

    def make(x: Expression) -> Expression:
        return apply("minimum", apply("maximum", apply("add", apply("mul", x, alpha), beta), 0.0), 1.0)

    return make


def _hard_swish(attributes: dict[str, Any]) -> Make:
    gate = _hard_sigmoid({"alpha": 1 / 6, "beta": 0.5})
    return lambda x: apply("mul", x, gate(x))


def _gelu(attributes: dict[str, Any]) -> Make:
    if attributes.get("approximate", b"none") == b"tanh":

        def rough(x: Expression) -> Expression:
            inner = apply("mul", apply("mul", x, x), apply("mul", x, 0.044715))
            curve = apply("tanh", apply("mul", 0.7978845608028654, apply("add", x, inner)))
            return apply("mul", apply("mul", x, 0.5), apply("add", 1.0, curve))

        return rough
    return lambda x: apply(
        "mul", apply("mul", x, 0.5), apply("add", 1.0, apply("erf", apply("mul", x, 0.7071067811865476)))
    )


def _fast_gelu(attributes: dict[str, Any]) -> Make:
    curve = _gelu({"approximate": b"tanh"})
    return lambda x, bias=None: curve(x if bias is None else apply("add", x, bias))


def _bias_gelu(attributes: dict[str, Any]) -> Make:
    curve = _gelu({})
    return lambda x, bias: curve(apply("add", x, bias))


def _swish(attributes: dict[str, Any]) -> Make:
    alpha = attributes.get("alpha", 1.0)
    return lambda x: apply("mul", x, apply("sigmoid", apply("mul", x, alpha)))


def _thresholded(attributes: dict[str, Any]) -> Make:
    alpha = attributes.get("alpha", 1.0)
    return lambda x: apply("select", apply("less", alpha, x), x, 0.0)


def _shrink(attributes: dict[str, Any]) -> Make:
    bias, edge = attributes.get("bias", 0.0), attributes.get("lambd", 0.5)

    def make(x: Expression) -> Expression:
        low = apply("select", apply("less", x, -edge), apply("add", x, bias), 0.0)
        return apply("select", apply("less", edge, x), apply("sub", x, bias), low)

    return make


MICROSOFT: dict[str, Any] = {
    "Gelu": _built(_gelu),
    "FastGelu": _built(_fast_gelu),
    "BiasGelu": _built(_bias_gelu),
    "QuickGelu": _built(lambda a: _swish({"alpha": a.get("alpha", 1.702)})),
}
BOOLEAN = np.bool_
LOWERINGS: dict[str, Any] = {
    "Add": _plain("add", None),
    "Sub": _plain("sub", None),
    "Mul": _plain("mul", None),
    "Div": divide,
    "Pow": power,
    "Mod": modulo,
    "Neg": _plain("neg", None),
    "Abs": _plain("abs", None),
    "Sign": _plain("sign", None),
    "Floor": _plain("floor"),
    "Ceil": _plain("ceil"),
    "Round": _plain("round"),
    "Sqrt": _plain("sqrt"),
    "Exp": _plain("exp"),
    "Log": _plain("log"),
    "Reciprocal": _built(lambda a: lambda x: apply("div", 1.0, x)),
    "Erf": _plain("erf"),
    "Sin": _plain("sin"),
    "Cos": _plain("cos"),
    "Tan": _plain("tan"),
    "Asin": _plain("asin"),
    "Acos": _plain("acos"),
    "Atan": _plain("atan"),
    "Sinh": _plain("sinh"),
    "Cosh": _plain("cosh"),
    "Asinh": _plain("asinh"),
    "Acosh": _plain("acosh"),
    "Atanh": _plain("atanh"),
    "Max": _variadic("maximum"),
    "Min": _variadic("minimum"),
    "Sum": _variadic("add"),
    "Mean": mean,
    "Clip": clip,
    "Where": where,
    "Less": _plain("less", BOOLEAN),
    "LessOrEqual": _plain("less_equal", BOOLEAN),
    "Greater": _turned("less"),
    "GreaterOrEqual": _turned("less_equal"),
    "Equal": _plain("equal", BOOLEAN),
    "And": _plain("and", BOOLEAN),
    "Or": _plain("or", BOOLEAN),
    "Xor": _plain("xor", BOOLEAN),
    "Not": _plain("not", BOOLEAN),
    "IsNaN": _plain("isnan", BOOLEAN),
    "IsInf": isinf,
    "Sigmoid": _plain("sigmoid"),
    "Tanh": _plain("tanh"),
    "Relu": _built(lambda a: lambda x: apply("maximum", x, 0.0)),
    "PRelu": prelu,
    "LeakyRelu": _built(_leaky),
    "Elu": _built(_elu),
    "Celu": _built(_celu),
    "Selu": _built(_selu),
    "Softplus": _built(lambda a: softplus),
    "Softsign": _built(lambda a: lambda x: apply("div", x, apply("add", 1.0, apply("abs", x)))),
    "HardSigmoid": _built(_hard_sigmoid),
    "HardSwish": _built(_hard_swish),
    "Mish": _built(lambda a: lambda x: apply("mul", x, apply("tanh", softplus(x)))),
    "Swish": _built(_swish),
    "Gelu": _built(_gelu),
    "ThresholdedRelu": _built(_thresholded),
    "Shrink": _built(_shrink),
}
