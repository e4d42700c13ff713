"""What time it is, how much of it this thread was given, and which thread it is: from inside a kernel.

`now_ns` reads the clock of `time.perf_counter_ns`.
"""

import ctypes
import sys
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils

from .kernels import intrinsic

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_GIGA = 1_000_000_000


def _posix_clock(number: int) -> Any:
    @intrinsic
    def clock(typing_context):
        def generate(context, builder, signature, arguments):
            moment = cgutils.alloca_once(builder, ir.LiteralStructType([_I64, _I64]))
            kind = ir.FunctionType(_I32, [_I32, moment.type])
            function = cgutils.get_or_insert_function(builder.module, kind, "clock_gettime")
            builder.call(function, [_I32(number), moment])
            seconds, nanoseconds = (builder.load(cgutils.gep_inbounds(builder, moment, 0, part)) for part in (0, 1))
            return builder.add(builder.mul(seconds, _I64(_GIGA)), nanoseconds)

        return types.int64(), generate

    return clock


def _mac_clock(number: int) -> Any:
    @intrinsic
    def clock(typing_context):
        def generate(context, builder, signature, arguments):
            kind = ir.FunctionType(_I64, [_I32])
            function = cgutils.get_or_insert_function(builder.module, kind, "clock_gettime_nsec_np")
            return builder.call(function, [_I32(number)])

        return types.int64(), generate

    return clock


def _windows_clock() -> Any:
    kernel32, frequency = ctypes.WinDLL("kernel32"), ctypes.c_int64()  # type: ignore[attr-defined]
    kernel32.QueryPerformanceFrequency(ctypes.byref(frequency))
    address = ctypes.cast(kernel32.QueryPerformanceCounter, ctypes.c_void_p).value
    llvmlite.binding.add_symbol("QueryPerformanceCounter", address)
    ticks_per_s = _I64(frequency.value)

    @intrinsic
    def clock(typing_context):
        def generate(context, builder, signature, arguments):
            slot = cgutils.alloca_once(builder, _I64)
            kind = ir.FunctionType(_I32, [slot.type])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "QueryPerformanceCounter"), [slot])
            ticks = builder.load(slot)
            # Whole seconds apart, so that nothing overflows.
            whole = builder.mul(builder.sdiv(ticks, ticks_per_s), _I64(_GIGA))
            rest = builder.sdiv(builder.mul(builder.srem(ticks, ticks_per_s), _I64(_GIGA)), ticks_per_s)
            return builder.add(whole, rest)

        return types.int64(), generate

    return clock


@intrinsic
def _linux_thread(typing_context):
    def generate(context, builder, signature, arguments):
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_I32, []), "gettid")
        return builder.sext(builder.call(function, []), _I64)

    return types.int64(), generate


@intrinsic
def _unknown_thread(typing_context):
    return types.int64(), lambda context, builder, signature, arguments: _I64(0)


# The numbers are CLOCK_MONOTONIC and CLOCK_THREAD_CPUTIME_ID of Linux, CLOCK_UPTIME_RAW and the same of macOS. Where
# the time of a thread is not to be had at this price, all time counts as given to it.
if sys.platform == "win32":
    now_ns = thread_ns = _windows_clock()
elif sys.platform == "darwin":
    now_ns, thread_ns = _mac_clock(8), _mac_clock(16)
else:
    now_ns, thread_ns = _posix_clock(1), _posix_clock(3)

# The system's number of the calling thread, or 0: older C libraries do not tell it.
thread_id = _linux_thread if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "gettid") else _unknown_thread
