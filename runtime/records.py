"""Records: named tuples of arrays and numbers that kernels take as one argument.

A record type is declared once, by its annotations, and `kind_of` turns them into the type that Numba compiles for:

    class QueueRecord(NamedTuple):
        ring: Matrix
        state: Counts

Machine code that no Python calls, such as an audio callback, is given an address and nothing else. `place` writes a
record to memory, in the form in which compiled code holds it, and the intrinsic made by `fetch_from` reads it back. The
arrays themselves are not copied; whoever places a record keeps it for as long as the memory is used.
"""

from typing import Annotated, Any, get_args, get_origin, get_type_hints

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_VECTOR, _MATRIX = types.float32[::1], types.float32[:, ::1]
_ROOTS, _SPECTRUM = types.complex64[::1], types.complex64[:, ::1]
_COUNTS, _TABLE = types.int64[::1], types.int64[:, ::1]

Vector = Annotated[np.ndarray, _VECTOR]
Matrix = Annotated[np.ndarray, _MATRIX]
Roots = Annotated[np.ndarray, _ROOTS]
Spectrum = Annotated[np.ndarray, _SPECTRUM]
Counts = Annotated[np.ndarray, _COUNTS]
Table = Annotated[np.ndarray, _TABLE]

_NUMBERS = {int: types.int64, bool: types.boolean, np.float32: types.float32}


def kind_of(record: Any) -> types.Type:
    """The Numba type of a record class: arrays as annotated, int, bool, np.float32, and further records."""
    if get_origin(record) is Annotated:
        return get_args(record)[1]
    if record in _NUMBERS:
        return _NUMBERS[record]
    hints = get_type_hints(record, include_extras=True)
    return types.NamedTuple([kind_of(hints[name]) for name in record._fields], record)


@intrinsic
def size_of(typing_context, record):
    """Bytes that `place` writes."""

    def generate(context, builder, signature, arguments):
        return ir.Constant(ir.IntType(64), context.get_abi_sizeof(arguments[0].type))

    return types.int64(record), generate


@intrinsic
def place(typing_context, record, address):
    """Write a record to the memory at `address`."""

    def generate(context, builder, signature, arguments):
        value = _without_owners(context, builder, signature.args[0], arguments[0])
        builder.store(value, builder.inttoptr(arguments[1], value.type.as_pointer()))
        return context.get_dummy_value()

    return types.void(record, types.int64), generate


def fetch_from(kind: types.Type) -> Any:
    """Make the intrinsic `fetch(address)` that reads a record of this type."""

    @intrinsic
    def fetch(typing_context, address):
        def generate(context, builder, signature, arguments):
            pointer = builder.inttoptr(arguments[0], context.get_value_type(kind).as_pointer())
            return builder.load(pointer)

        return kind(types.int64), generate

    return fetch


def _without_owners(context, builder, kind, value):
    """The same arrays without their reference counts: whoever fetches the record counts nothing and frees nothing."""
    if isinstance(kind, types.Array):
        array = context.make_array(kind)(context, builder, value)
        array.meminfo = cgutils.get_null_value(array.meminfo.type)
        array.parent = cgutils.get_null_value(array.parent.type)
        return array._getvalue()
    if isinstance(kind, types.BaseTuple):
        for index, member in enumerate(kind):
            part = _without_owners(context, builder, member, builder.extract_value(value, index))
            value = builder.insert_value(value, part, index)
    return value
