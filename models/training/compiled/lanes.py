"""Eight float32 as one value in compiled loops: what a processor's vector registers hold and compute at once.

A compiler finds vectors by itself only in loops that are long, and where it can tell that arrays do not overlap. The
rows of a small recurrence are neither; here the vectors are said.
"""

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import float32, njit, types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic, models, overload, register_model

LANES = 8  # of AVX2; processors with longer or shorter registers run the same at their own length

# Numba gives these the type of what makes the instructions, rather than of what compiled code calls.
_instruction: Callable[[Callable[..., Any]], Callable[..., Any]] = intrinsic

_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_ALIGNMENT = ir.IntType(32)(4)  # bytes: a row of any length begins where the one before it ends
_MASK, _COUNTS = ir.VectorType(ir.IntType(1), LANES), ir.VectorType(ir.IntType(64), LANES)


class Lanes(types.Type):
    """The type of eight float32 in compiled code; numbers beside them in arithmetic stand for eight alike."""


_LANES = Lanes("lanes")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, _VECTOR)


@_instruction
def load(typing_context, array, first, count):
    """Values of a contiguous array from a flat index on; lanes from `count` on are zero, and not read."""

    def generate(context, builder, signature, arguments):
        place, live = _place_and_mask(context, builder, signature, arguments[0], arguments[1], arguments[2])
        kind = ir.FunctionType(_VECTOR, [place.type, ir.IntType(32), _MASK, _VECTOR])
        masked = get_or_insert_function(builder.module, kind, f"llvm.masked.load.v{LANES}f32.p0")
        return builder.call(masked, [place, _ALIGNMENT, live, ir.Constant(_VECTOR, [0.0] * LANES)])

    return _LANES(array, types.intp, types.intp), generate


@_instruction
def store(typing_context, array, first, count, value):
    """Write lanes into a contiguous array from a flat index on, `count` of them at most."""

    def generate(context, builder, signature, arguments):
        place, live = _place_and_mask(context, builder, signature, arguments[0], arguments[1], arguments[2])
        kind = ir.FunctionType(ir.VoidType(), [_VECTOR, place.type, ir.IntType(32), _MASK])
        masked = get_or_insert_function(builder.module, kind, f"llvm.masked.store.v{LANES}f32.p0")
        builder.call(masked, [arguments[3], place, _ALIGNMENT, live])
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, _LANES), generate


@njit(inline="always")
def add(array, first, count, value):
    """Add lanes to those of a contiguous array from a flat index on."""
    store(array, first, count, load(array, first, count) + value)


def _place_and_mask(context, builder, signature, array, first, count):
    """Where the lanes begin, and which of them there are."""
    data = context.make_array(signature.args[0])(context, builder, array).data
    place = builder.bitcast(builder.gep(data, [first]), _VECTOR.as_pointer())
    order = ir.Constant(_COUNTS, list(range(LANES)))
    return place, builder.icmp_signed("<", order, _spread(builder, count, _COUNTS))


def _spread(builder, number, kind):
    """One number in all lanes."""
    zero = ir.IntType(32)(0)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), number, zero)
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))


def _arithmetic(function, instruction):
    """Let a function of two numbers take lanes, or lanes and a number."""

    @_instruction
    def of_lanes(typing_context, left, right):
        def generate(context, builder, signature, arguments):
            left, right = (
                value if kind is _LANES else _spread(builder, value, _VECTOR)
                for value, kind in zip(arguments, signature.args, strict=True)
            )
            return instruction(builder, left, right)

        return _LANES(*(kind if kind is _LANES else float32 for kind in (left, right))), generate

    @overload(function)
    def choose(left, right):
        if _LANES in (left, right):
            return lambda left, right: of_lanes(left, right)
        return None


def _first_if(order):
    """The first of two where it is so, or where it is no number: that shall not pass for one."""

    def instruction(builder, left, right):
        return builder.select(builder.fcmp_unordered(order, left, right), left, right)

    return instruction


# A product and the sum it goes into may be one instruction, as in the other loops.
_arithmetic(operator.add, lambda builder, left, right: builder.fadd(left, right, flags=("contract",)))
_arithmetic(operator.sub, lambda builder, left, right: builder.fsub(left, right, flags=("contract",)))
_arithmetic(operator.mul, lambda builder, left, right: builder.fmul(left, right, flags=("contract",)))
_arithmetic(operator.truediv, lambda builder, left, right: builder.fdiv(left, right))
_arithmetic(max, _first_if(">"))
_arithmetic(min, _first_if("<"))
