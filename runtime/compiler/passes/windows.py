"""Windows: a memory of past entries that is read where it lies gets room for the new entry beside it.

`rings` looks for Concat(state, entry), which is what a convolution reads. Attention may read past and present apart:
the state as it is, and the entry elsewhere. All that is missing there is the buffer that would hold both.
"""

import numpy as np

from ..expression import Load
from ..memory import Addresses, offsets
from ..program import Map, Program, StatePort, is_copy, readdress, reads
from .uses import buffer_number


def give_windows(program: Program) -> None:
    """Let whoever reads a shifted state read a window that holds the new entry as well."""
    for state in program.states:
        axis = _shifted_axis(state)
        if axis is not None and not _is_copied(program, state):
            _give(program, state, axis)


def _shifted_axis(state: StatePort) -> int | None:
    """The axis along which the state moves by one entry per step, the new one coming from one other buffer."""
    for axis, slots in enumerate(state.current.shape):
        if slots > 1:
            kept = np.take(state.following, range(slots - 1), axis)
            new = np.take(state.following, slots - 1, axis)
            if np.array_equal(kept, np.take(state.current, range(1, slots), axis)):
                apart = len(np.unique(new >> 40)) == 1 and buffer_number(new) != buffer_number(state.current)
                return axis if apart else None
    return None


def _is_copied(program: Program, state: StatePort) -> bool:
    """Whether a kernel gathers it somewhere, where `rings` finds it, or nobody reads it at all."""
    number = buffer_number(state.current)
    readers = [
        kernel for kernel in program.kernels if any(buffer_number(operand) == number for operand in reads(kernel))
    ]
    return not readers or any(is_copy(kernel) for kernel in readers)


def _give(program: Program, state: StatePort, axis: int) -> None:
    shape, slots = list(state.current.shape), state.current.shape[axis]
    shape[axis] += 1
    window = program.memory.new("scratch", tuple(shape), state.name).addresses
    past, present = np.take(window, range(slots), axis), np.take(window, [slots], axis)
    number, places = buffer_number(state.current), np.zeros(state.current.size, np.int64)
    places[offsets(state.current).ravel()] = past.ravel()

    def change(operand: Addresses) -> Addresses:
        return places[offsets(operand)] if buffer_number(operand) == number else operand

    for kernel in program.kernels:
        readdress(kernel, change)
    program.kernels.insert(0, Map(past, Load(state.current)))
    program.kernels.append(Map(present, Load(np.take(state.following, [slots - 1], axis))))
