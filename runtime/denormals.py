"""Flush-to-zero for the thread that processes audio.

Decaying filters and recurrent states run into denormal numbers in silence, which some CPUs compute up to a hundred
times more slowly. The control register (MXCSR on x86, FPCR on 64-bit ARM) belongs to the thread, so it is set by the
thread that computes, and put back afterwards because the caller's own arithmetic should not change.
"""

import platform

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

_X86 = platform.machine() in ("x86_64", "AMD64")
_ARM = platform.machine() in ("aarch64", "arm64")
# x86: bit 15 flushes results to zero, bit 6 takes denormal operands as zero. ARM: bit 24 of FPCR does both.
_FLUSH_BITS = 0x8040 if _X86 else 1 << 24 if _ARM else 0


@intrinsic
def _read_control(typing_context):
    def generate(context, builder, signature, arguments):
        if _X86:
            slot = builder.alloca(ir.IntType(32))
            function = builder.module.declare_intrinsic(
                "llvm.x86.sse.stmxcsr", (), ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer()])
            )
            builder.call(function, [builder.bitcast(slot, ir.IntType(8).as_pointer())])
            return builder.zext(builder.load(slot), ir.IntType(64))
        if _ARM:
            kind = ir.FunctionType(ir.IntType(64), [])
            return builder.call(builder.module.declare_intrinsic("llvm.aarch64.get.fpcr", (), kind), [])
        return ir.Constant(ir.IntType(64), 0)

    return types.int64(), generate


@intrinsic
def _write_control(typing_context, value):
    def generate(context, builder, signature, arguments):
        if _X86:
            slot = builder.alloca(ir.IntType(32))
            builder.store(builder.trunc(arguments[0], ir.IntType(32)), slot)
            function = builder.module.declare_intrinsic(
                "llvm.x86.sse.ldmxcsr", (), ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer()])
            )
            builder.call(function, [builder.bitcast(slot, ir.IntType(8).as_pointer())])
        elif _ARM:
            kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)])
            builder.call(builder.module.declare_intrinsic("llvm.aarch64.set.fpcr", (), kind), arguments)
        return context.get_dummy_value()

    return types.void(types.int64), generate


@njit("int64()", nogil=True)
def flush_denormals() -> int:
    """Let this thread treat denormal numbers as zero; returns the old setting for `restore_denormals`."""
    previous: int = _read_control()  # type: ignore[call-arg]
    _write_control(previous | _FLUSH_BITS)
    return previous


@njit("void(int64)", nogil=True)
def restore_denormals(previous: int) -> None:
    """Put back what `flush_denormals` returned."""
    _write_control(previous)  # type: ignore[call-arg]
