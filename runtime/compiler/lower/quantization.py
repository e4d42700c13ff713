"""Quantised operators: whole numbers of 8 or 16 bits, with the scale and the zero point that give them their meaning.

A whole number is a float32 in memory, so a product of integers is a product of floats: exact while its sums stay below
2^24, and beyond that as exact as float32 is.
"""

from typing import Any

import numpy as np
from onnx import helper

from ...errors import UnsupportedModel
from ..expression import Expression, Load, Result, apply
from ..program import Reduce
from . import elementwise, normalization, views
from .contraction import matmul
from .convolution import convolution
from .environment import Environment, Tensor

FLOAT, UINT8 = np.dtype(np.float32), np.dtype(np.uint8)
NO_OFFSET = np.uint8(0)


def _spread(value: Any, shape: tuple[int, ...], axis: int, block: int = 0) -> Any:
    """A scale or zero point beside a tensor of this shape: one for all, one for each place of an axis, or by blocks."""
    array = value.addresses if isinstance(value, Tensor) else np.asarray(value)
    if array.size == 1:
        array = array.reshape(())
    elif block:
        array = np.repeat(array, block, axis).take(np.arange(shape[axis]), axis)
    elif array.ndim == 1:
        array = array.reshape([-1 if place == axis % len(shape) else 1 for place in range(len(shape))])
    return value.view(array) if isinstance(value, Tensor) else array


def _level(x: Expression, zero: Expression, dtype: np.dtype) -> Expression:
    """The nearest whole number, half to even, and the zero point; kept within the type."""
    if dtype.kind not in "iu":
        raise UnsupportedModel(f"the result is of type {dtype}, expected integers of 8 or 16 bits")
    limits = np.iinfo(dtype)
    return apply("minimum", apply("maximum", apply("add", apply("round", x), zero), limits.min), limits.max)


def quantize(env: Environment, attributes: dict[str, Any], x: Any, scale: Any, zero: Any = None, **_: Any) -> Tensor:
    kind = attributes.get("output_dtype", 0)
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(kind) if kind else UINT8)
    if zero is None:
        zero = NO_OFFSET
    else:
        dtype = np.dtype(zero.dtype)
    place = attributes.get("axis", 1), attributes.get("block_size", 0)
    scale, zero = (_spread(value, x.shape, *place) for value in (scale, zero))
    return env.map(lambda a, s, z: _level(apply("div", a, s), z, dtype), x, scale, zero, dtype=dtype)


def dequantize(env: Environment, attributes: dict[str, Any], x: Any, scale: Any, zero: Any = None, **_: Any) -> Any:
    place = attributes.get("axis", 1), attributes.get("block_size", 0)
    scale, zero = (_spread(value, x.shape, *place) for value in (scale, NO_OFFSET if zero is None else zero))
    if not any(isinstance(value, Tensor) for value in (x, scale, zero)):
        return (x.astype(np.float32) - zero.astype(np.float32)) * scale
    return env.map(lambda a, s, z: apply("mul", apply("sub", a, z), s), x, scale, zero)


def quantize_by_range(env: Environment, attributes: dict[str, Any], x: Tensor, **_: Any) -> list[Tensor]:
    """To 256 levels from the smallest value to the largest, with 0 among them.

    A tensor of zeros has the scale 1, as in ONNX Runtime; the standard divides 0 by 0 there.
    """
    rows = Load(env.gather(x.addresses).reshape(1, -1))
    low, high = Tensor(env.fresh(()), FLOAT), Tensor(env.fresh(()), FLOAT)
    env.kernels.append(Reduce(low.addresses.reshape(-1), rows, "min", apply("minimum", Result(), 0.0)))
    env.kernels.append(Reduce(high.addresses.reshape(-1), rows, "max", apply("maximum", Result(), 0.0)))

    def step(a: Expression, b: Expression) -> Expression:
        width = apply("div", apply("sub", b, a), 255.0)
        return apply("select", apply("equal", width, 0.0), 1.0, width)

    scale = env.map(step, low, high)
    zero = quantize(env, {}, env.map(lambda a: apply("neg", a), low), scale)
    return [quantize(env, {}, x, scale, zero), scale, zero]


def _centred(env: Environment, x: Any, zero: Any, axis: int) -> Any:
    """Integers without their zero point, so that what pads a convolution is 0."""
    return dequantize(env, {"axis": axis}, x, np.float32(1), zero)


def matmul_integer(
    env: Environment, attributes: dict[str, Any], a: Any, b: Any, a_zero: Any = None, b_zero: Any = None, **_: Any
) -> Tensor:
    summed = matmul(env, {}, _centred(env, a, a_zero, -2), _centred(env, b, b_zero, -1))
    return Tensor(summed.addresses, np.dtype(np.int32))


def convolution_integer(
    env: Environment,
    attributes: dict[str, Any],
    x: Any,
    weight: Any,
    x_zero: Any = None,
    weight_zero: Any = None,
    bias: Any = None,
    **_: Any,
) -> Tensor:
    image = env.tensor(_centred(env, x, x_zero, 1))
    summed = convolution(env, attributes, image, _centred(env, weight, weight_zero, 0), bias)
    return Tensor(summed.addresses, np.dtype(np.int32))


def _requantized(env: Environment, summed: Tensor, scales: tuple[Any, Any, Any], zero: Any, axis: int) -> Tensor:
    """A sum of products in units of both scales, in units of the scale of the result."""
    a, b, y = (np.asarray(views.constant_of(scale, "a scale"), np.float32) for scale in scales)
    gain = _spread(a * b / y, summed.shape, axis)
    dtype = np.dtype(zero.dtype)
    return env.map(lambda s, g, z: _level(apply("mul", s, g), z, dtype), summed, gain, zero, dtype=dtype)


def linear_matmul(
    env: Environment,
    attributes: dict[str, Any],
    a: Any,
    a_scale: Any,
    a_zero: Any,
    b: Any,
    b_scale: Any,
    b_zero: Any,
    y_scale: Any,
    y_zero: Any,
    **_: Any,
) -> Tensor:
    summed = matmul_integer(env, {}, a, b, a_zero, b_zero)
    return _requantized(env, summed, (a_scale, b_scale, y_scale), y_zero, -1)


def linear_convolution(
    env: Environment,
    attributes: dict[str, Any],
    x: Any,
    x_scale: Any,
    x_zero: Any,
    weight: Any,
    weight_scale: Any,
    weight_zero: Any,
    y_scale: Any,
    y_zero: Any,
    bias: Any = None,
    **_: Any,
) -> Tensor:
    summed = convolution_integer(env, attributes, x, weight, x_zero, weight_zero, bias)
    return _requantized(env, summed, (x_scale, weight_scale, y_scale), y_zero, 1)


def _between(lowering: Any) -> Any:
    """An operator on integers with their scales and zero points, the last ones those of the result."""

    def quantized(env: Environment, attributes: dict[str, Any], *x: Any, **_: Any) -> Tensor:
        operands = [dequantize(env, {}, *x[place : place + 3]) for place in range(0, len(x) - 2, 3)]
        return quantize(env, {}, lowering(env, attributes, *operands), *x[-2:])

    return quantized


def linear_concat(env: Environment, attributes: dict[str, Any], y_scale: Any, y_zero: Any, *x: Any, **_: Any) -> Tensor:
    return _between(views.LOWERINGS["Concat"])(env, attributes, *x, y_scale, y_zero)


# Operators that are not known, and what to ask onnxruntime.quantization for instead of them.
OTHERWISE = "; expected QuantFormat.QDQ, which quantises without it"
ADVICE = {
    "DynamicQuantizeLSTM": "; expected op_types_to_quantize without LSTM, which leaves it in float32",
    **dict.fromkeys(("QGemm", "QLinearAveragePool", "QLinearGlobalAveragePool", "QLinearWhere"), OTHERWISE),
}
MICROSOFT: dict[str, Any] = {
    "QuantizeLinear": quantize,
    "DequantizeLinear": dequantize,
    "QLinearAdd": _between(elementwise.LOWERINGS["Add"]),
    "QLinearMul": _between(elementwise.LOWERINGS["Mul"]),
    "QLinearSigmoid": _between(elementwise.LOWERINGS["Sigmoid"]),
    "QLinearLeakyRelu": _between(elementwise.LOWERINGS["LeakyRelu"]),
    "QLinearSoftmax": _between(normalization.LOWERINGS["Softmax"]),
    "QLinearConcat": linear_concat,
}
LOWERINGS: dict[str, Any] = {
    "QuantizeLinear": quantize,
    "DequantizeLinear": dequantize,
    "DynamicQuantizeLinear": quantize_by_range,
    "MatMulInteger": matmul_integer,
    "ConvInteger": convolution_integer,
    "QLinearMatMul": linear_matmul,
    "QLinearConv": linear_convolution,
}
