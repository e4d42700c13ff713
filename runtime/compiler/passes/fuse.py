"""Fusion: an element-wise result that one kernel reads is computed by that kernel, and never goes through memory.

A Map may dissolve into the kernel that reads it, or be taken over by the kernel that feeds it (a bias and an activation
by a convolution). In both cases only its addresses have to be put in the other kernel's order.
"""

import numpy as np

from ..expression import Apply, Expression, Load, loads, rewrite, walk
from ..memory import numbers_in
from ..program import Contract, Cumulate, Kernel, Map, Normalize, Program, Reduce, Softmax, is_copy, reads, writes
from .uses import Uses, buffer_number, positions_in

# A source that is read in several sweeps is computed in each of them, so only cheap ones may move there.
CHEAP = {"add", "sub", "mul", "neg", "abs", "maximum", "minimum", "select", "less", "less_equal", "equal"}
MOST_OPERATIONS_IN_SWEEPS = 4
# LLVM's register allocation, and ours, do not get better with very large bodies.
MOST_LOADS = 24


def fuse(program: Program) -> None:
    """Merge element-wise kernels into their neighbours, and drop what nobody reads."""
    drop_unread(program)
    uses = Uses(program)
    _dissolve(program, uses, (Map,))
    _take_over(program, uses)
    _dissolve(program, uses, (Reduce, Cumulate, Normalize, Softmax))


def drop_unread(program: Program) -> None:
    """Remove kernels whose results nothing needs."""
    needed = {number for state in program.states for number in numbers_in(state.following)}
    needed |= {number for out in program.outputs.values() for number in numbers_in(out)}
    kept: list[Kernel] = []
    for kernel in reversed(program.kernels):
        if any(buffer_number(out) in needed for out in writes(kernel)):
            needed |= {buffer_number(operand) for operand in reads(kernel)}
            kept.append(kernel)
    program.kernels[:] = reversed(kept)


def _dissolve(program: Program, uses: Uses, consumers: tuple[type, ...]) -> None:
    """Let Maps disappear into the expressions of their only readers."""
    gone: set[int] = set()
    for kernel in program.kernels:
        if not isinstance(kernel, Map):
            continue
        buffer = uses.buffer(kernel.out)
        reader = uses.only_reader(buffer)
        if reader is None or not isinstance(reader, consumers) or uses.only_writer(buffer) is not kernel:
            continue
        source = [name for name in ("source", "factor", "value") if _loads_from(reader, name, buffer.number)]
        if isinstance(reader, Cumulate) and _is_initial(reader, buffer.number):
            continue
        if isinstance(reader, Normalize | Softmax) and "source" in source and not _cheap(kernel.value):
            continue
        found = [load for name in source for load in loads(getattr(reader, name)) if _is_in(load, buffer.number)]
        distinct = {_key(load): load for load in found}
        if sum(load.addresses.size for load in distinct.values()) > kernel.out.size:
            continue  # it would be computed more often than now
        if len(loads(kernel.value)) + len(reads(reader)) > MOST_LOADS:
            continue
        replaced = {key: _reindexed(kernel, load, buffer.size) for key, load in distinct.items()}
        if any(value is None for value in replaced.values()):
            continue
        uses.remove(kernel)
        uses.remove(reader)
        for name in source:
            setattr(reader, name, _substitute(getattr(reader, name), buffer.number, replaced))
        uses.add(reader)
        gone.add(id(kernel))
    program.kernels[:] = [kernel for kernel in program.kernels if id(kernel) not in gone]


def _take_over(program: Program, uses: Uses) -> None:
    """Let a kernel that computes store what the Map behind it would have made of it."""
    for kernel in list(program.kernels):
        if not isinstance(kernel, Contract | Reduce | Normalize | Softmax):
            continue
        while (reader := _successor(uses, kernel)) is not None:
            buffer = uses.buffer(kernel.out)
            own = [load for load in loads(reader.value) if _is_in(load, buffer.number)]
            order = positions_in(own[0].addresses, kernel.out, buffer.size)
            if order is None or len(np.unique(order)) != order.size:
                break
            if any(not np.array_equal(load.addresses, own[0].addresses) for load in own[1:]):
                break
            inverse = np.empty(order.size, np.int64)
            inverse[order.ravel()] = np.arange(order.size)
            shape = kernel.out.shape
            value = kernel.value

            def ordered(leaf: Expression, number: int = buffer.number) -> Expression:
                if not isinstance(leaf, Load):
                    return leaf
                if _is_in(leaf, number):
                    return value  # noqa: B023 (used within this turn)
                return Load(leaf.addresses.ravel()[inverse].reshape(shape))  # noqa: B023

            uses.remove(kernel)
            uses.remove(reader)
            kernel.value = rewrite(reader.value, ordered)
            kernel.out = reader.out.ravel()[inverse].reshape(shape)
            uses.add(kernel)
            # The kernel moves to where its successor was: there, everything that the Map read is ready.
            program.kernels.remove(kernel)
            program.kernels[program.kernels.index(reader)] = kernel


def _successor(uses: Uses, kernel: Contract | Reduce | Normalize | Softmax) -> Map | None:
    """The Map that may be taken over: the only reader, of the same size, and not a mere copy."""
    buffer = uses.buffer(kernel.out)
    reader = uses.only_reader(buffer)
    if not isinstance(reader, Map) or is_copy(reader) or uses.only_writer(buffer) is not kernel:
        return None
    if reader.out.size != kernel.out.size or len(loads(reader.value)) + len(loads(kernel.value)) > MOST_LOADS:
        return None
    return reader


def _cheap(value: Expression) -> bool:
    operations = [node.operation for node in walk(value) if isinstance(node, Apply)]
    return len(operations) <= MOST_OPERATIONS_IN_SWEEPS and CHEAP.issuperset(operations)


def _key(load: Load) -> tuple[bytes, tuple[int, ...]]:
    return load.addresses.tobytes(), load.addresses.shape


def _is_in(load: Load, number: int) -> bool:
    return buffer_number(load.addresses) == number


def _is_initial(kernel: Cumulate, number: int) -> bool:
    return kernel.initial is not None and buffer_number(kernel.initial) == number


def _loads_from(kernel: Kernel, name: str, number: int) -> bool:
    expression = getattr(kernel, name, None)
    return expression is not None and any(_is_in(load, number) for load in loads(expression))


def _reindexed(kernel: Map, load: Load, size: int) -> Expression | None:
    """The kernel's value, for the elements that `load` reads; None if it reads others as well."""
    order = positions_in(load.addresses, kernel.out, size)
    if order is None:
        return None
    found = order
    return rewrite(
        kernel.value,
        lambda leaf: Load(leaf.addresses.ravel()[found]) if isinstance(leaf, Load) else leaf,
    )


def _substitute(
    value: Expression, number: int, replaced: dict[tuple[bytes, tuple[int, ...]], Expression | None]
) -> Expression:
    def change(leaf: Expression) -> Expression:
        if isinstance(leaf, Load) and _is_in(leaf, number):
            found = replaced[_key(leaf)]
            assert found is not None
            return found
        return leaf

    return rewrite(value, change)
