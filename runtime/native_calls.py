"""Memory and C functions that a kernel knows only by their address."""

from llvmlite import ir
from numba import types

from .kernels import intrinsic

_BYTES = ir.IntType(8).as_pointer()


@intrinsic
def pointer(typing_context, address):
    """An address as numba.carray takes it."""
    return types.voidptr(types.int64), lambda context, builder, signature, arguments: builder.inttoptr(
        arguments[0], _BYTES
    )


@intrinsic
def call(typing_context, function, memory, constants):
    """Call `void function(void *memory, void *constants)`."""

    def generate(context, builder, signature, arguments):
        kind = ir.FunctionType(ir.VoidType(), [_BYTES, _BYTES])
        function = builder.inttoptr(arguments[0], kind.as_pointer())
        builder.call(function, [builder.inttoptr(argument, _BYTES) for argument in arguments[1:]])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate
