"""Reading and writing a number that another thread uses too, from inside a kernel.

All three are sequentially consistent: every thread sees them happen in the same order.
"""

from llvmlite import ir
from numba import types

from .kernels import intrinsic


@intrinsic
def fence(typing_context):
    """What was read or written before is not moved behind this, nor the other way round."""

    def generate(context, builder, signature, arguments):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def load(typing_context, array, index):
    """Read an int64 that another thread may be writing."""

    def generate(context, builder, signature, arguments):
        return builder.load_atomic(_address(context, builder, signature, arguments), "seq_cst", 8)

    return types.int64(array, types.int64), generate


@intrinsic
def store(typing_context, array, index, value):
    """Write an int64 that another thread may be reading."""

    def generate(context, builder, signature, arguments):
        builder.store_atomic(arguments[2], _address(context, builder, signature, arguments), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64), generate


def _address(context, builder, signature, arguments) -> ir.Value:
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    return builder.gep(array.data, [arguments[1]])
