"""Records: named tuples of arrays and numbers that belong together, for Python and for kernels.

A record type is declared once, by its annotations:

    class QueueRecord(NamedTuple):
        ring: Matrix
        state: Counts

Handing many arrays to a kernel takes Python microseconds, and an audio callback in machine code is handed no arrays at
all, but one address. So a large record is written to memory once, as an `Image`, in the form in which compiled code
holds it; kernels are given the address, and get the record back with the intrinsic that `fetch_from` makes. Records in
a record are plain tuples there, to be handed on with a star.

No record type is ever part of a kernel's signature: Numba's cache on disk would name the class, and could not be read
by a version of this package without it.
"""

from functools import cache
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from .kernels import intrinsic, kernel

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


def _fields(record: type) -> list[types.Type]:
    """The Numba types of a record's fields: arrays as annotated, int, bool, np.float32, and further records."""
    return [_kind(hint) for hint in get_type_hints(record, include_extras=True).values()]


def _kind(hint: Any) -> types.Type:
    if get_origin(hint) is Annotated:
        return get_args(hint)[1]
    return _NUMBERS[hint] if hint in _NUMBERS else types.BaseTuple.from_types(_fields(hint))


def _plain(record: Any) -> Any:
    return tuple(map(_plain, record)) if isinstance(record, tuple) else record


class Image:
    """A record in memory, for kernels that fetch it.

    Parameters
    ----------
    record : NamedTuple
        Its arrays are not copied: the image holds where they are, and keeps them.

    Attributes
    ----------
    address : int
        Valid for as long as the image lives.
    """

    def __init__(self, record: Any):
        self.record = record
        write, content = _writer(_kind(type(record))), _plain(record)
        self._memory = np.zeros(-(-write(content, 0) // 8), np.int64)
        self.address = self._memory.ctypes.data
        write(content, self.address)


def fetch_from(record: type) -> Any:
    """Make the intrinsic `fetch(address)` that reads a record of this type from its image."""
    _writer(_kind(record))  # compiled on import, like every kernel
    kind = types.BaseTuple.from_types(_fields(record), record)

    @intrinsic
    def fetch(typing_context, address):
        def generate(context, builder, signature, arguments):
            pointer = builder.inttoptr(arguments[0], context.get_value_type(kind).as_pointer())
            return builder.load(pointer)

        return kind(types.int64), generate

    return fetch


@cache
def _writer(kind: types.Type) -> Any:
    """Make the kernel that writes the image of a record; returns its size in bytes, and for address 0 only that."""

    @kernel(types.int64(kind, types.int64))
    def write(record, address):
        if address != 0:
            _store(record, address)
        return _size_of(record)

    return write


@intrinsic
def _size_of(typing_context, record):
    def generate(context, builder, signature, arguments):
        return ir.Constant(ir.IntType(64), context.get_abi_sizeof(arguments[0].type))

    return types.int64(record), generate


@intrinsic
def _store(typing_context, record, address):
    def generate(context, builder, signature, arguments):
        value = _without_owners(context, builder, signature.args[0], arguments[0])
        builder.store(value, builder.inttoptr(arguments[1], value.type.as_pointer()))
        return context.get_dummy_value()

    return types.void(record, types.int64), generate


def _without_owners(context, builder, kind, value):
    """The same arrays without their reference counts: whoever fetches the record counts nothing and frees nothing."""
    if isinstance(kind, types.Array):
        array = context.make_array(kind)(context, builder, value)
        array.meminfo = cgutils.get_null_value(array.meminfo.type)
        array.parent = cgutils.get_null_value(array.parent.type)
        return array._getvalue()
    if isinstance(kind, types.BaseTuple):
        for index, member in enumerate(kind.types):  # type: ignore[attr-defined]
            part = _without_owners(context, builder, member, builder.extract_value(value, index))
            value = builder.insert_value(value, part, index)
    return value
