"""What the compiled loops share: functions of one float32 that become vector instructions, unlike the C library's."""

import numba
import numpy as np
import torch
from llvmlite import ir
from numba.extending import intrinsic

LOG2_E = np.float32(1.44269504)
LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)


def arrays_of(*tensors: torch.Tensor) -> tuple[np.ndarray, ...]:
    """Tensors as arrays whose rows lie one behind the other, as the loops are compiled for."""
    return tuple(tensor.detach().contiguous().numpy() for tensor in tensors)


@numba.njit(inline="always")
def tanh(x):
    """Rational approximation of the hyperbolic tangent, accurate to float32."""
    x = min(max(x, np.float32(-7.9)), np.float32(7.9))
    s = x * x
    above = np.float32(-2.76076847742355e-16) * s + np.float32(2.00018790482477e-13)
    above = above * s + np.float32(-8.60467152213735e-11)
    above = above * s + np.float32(5.12229709037114e-08)
    above = above * s + np.float32(1.48572235717979e-05)
    above = above * s + np.float32(6.37261928876435e-04)
    above = above * s + np.float32(4.89352455891786e-03)
    below = np.float32(1.19825839466702e-06) * s + np.float32(1.18534705686654e-04)
    below = below * s + np.float32(2.26843463243900e-03)
    below = below * s + np.float32(4.89352518554385e-03)
    return x * above / below


@numba.njit(inline="always")
def sigmoid(x):
    """1 / (1 + exp(-x))."""
    half = np.float32(0.5)
    return half + half * tanh(half * x)


@numba.njit(inline="always")
def exp_below_zero(x):
    """exp(x) for x <= 0: a power of two, by the bits of the number, times a polynomial (Cephes); zero below -88."""
    x = max(x, np.float32(-88.1))  # where the power is -127, the bits of which are those of zero
    power = np.floor(x * LOG2_E + np.float32(0.5))
    rest = x - power * LN2_HIGH - power * LN2_LOW
    p = np.float32(1.9875691500e-4) * rest + np.float32(1.3981999507e-3)
    p = p * rest + np.float32(8.3334519073e-3)
    p = p * rest + np.float32(4.1665795894e-2)
    p = p * rest + np.float32(1.6666665459e-1)
    p = p * rest + np.float32(5.0000001201e-1)
    p = p * rest * rest + rest + np.float32(1)
    return p * _as_float32((np.int32(power) + np.int32(127)) << np.int32(23))  # type: ignore[call-arg]


@intrinsic
def _as_float32(typing_context, bits):
    """The float32 that has these 32 bits."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(builder.trunc(arguments[0], ir.IntType(32)), ir.FloatType())

    return numba.float32(bits), generate
