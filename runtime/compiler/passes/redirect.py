"""Redirection: what is computed only to be copied is computed where the copy would have gone.

Concat, padding, outputs and the next state are all written as copies by the earlier stages; nearly all of them vanish
here.
"""

from collections.abc import Callable

import numpy as np

from ..expression import Load
from ..memory import Addresses, Buffer, offsets
from ..program import Contract, Kernel, Map, Program, Reduce, is_copy, readdress, reads, writes
from .uses import Uses, buffer_number


def redirect(program: Program) -> None:
    """Remove copies by moving their source to their destination, wherever that is possible."""
    uses = Uses(program)
    order = {id(kernel): index for index, kernel in enumerate(program.kernels)}
    gone: set[int] = set()
    for kernel in program.kernels:
        if is_copy(kernel) and _move(program, uses, order, kernel):
            gone.add(id(kernel))
    program.kernels[:] = [kernel for kernel in program.kernels if id(kernel) not in gone]


def _move(program: Program, uses: Uses, order: dict[int, int], copy: Kernel) -> bool:
    assert isinstance(copy, Map)
    assert isinstance(copy.value, Load)
    source, target = uses.buffer(copy.value.addresses), uses.buffer(copy.out)
    if source.kind != "scratch" or source.kept or source is target:
        return False
    destination = np.full(source.size, -1, np.int64)
    destination[offsets(copy.value.addresses).ravel()] = copy.out.ravel()
    if np.count_nonzero(destination >= 0) != copy.out.size:
        return False  # one number is copied to several places
    touching = [*uses.writers[source.number], *uses.readers[source.number]]
    kernels = [kernel for index, kernel in enumerate(touching) if kernel is not copy and kernel not in touching[:index]]

    def moved(addresses: Addresses) -> Addresses:
        here = (addresses >> 40) == source.number
        return np.where(here, destination[offsets(addresses) % source.size], addresses)

    affected = []
    for kernel in kernels:
        operands = [operand for operand in (*reads(kernel), *writes(kernel)) if buffer_number(operand) == source.number]
        inside = [destination[offsets(operand)] >= 0 for operand in operands]
        if not any(part.any() for part in inside):
            continue  # it has to do with another part of the buffer
        if not all(part.all() for part in inside) or not all(_stays_regular(op, moved(op), kernel) for op in operands):
            return False
        affected.append(kernel)
    if not affected:
        return False
    if any((moved(state.following)[(state.following >> 40) == source.number] < 0).any() for state in program.states):
        return False
    if target.kind == "state" and not _is_past(uses, order, affected, source, moved, copy.out):
        return False
    for kernel in [*affected, copy]:
        uses.remove(kernel)
    for kernel in affected:
        readdress(kernel, moved)
        uses.add(kernel)
    for state in program.states:
        state.following = moved(state.following)
    return True


def _stays_regular(before: Addresses, after: Addresses, kernel: Kernel) -> bool:
    """Whether an operand that ran through memory without gaps still does.

    Element-wise kernels may have any order, and a result has to be stored with gaps anyway, now or by the copy.
    """
    if isinstance(kernel, Map) or before.shape[-1] < 2:
        return True
    if isinstance(kernel, Contract | Reduce) and before is kernel.out:
        return True
    gaps_before, gaps_after = np.diff(before, axis=-1) != 1, np.diff(after, axis=-1) != 1
    return not gaps_after.any() or bool(gaps_before.any())


def _is_past(
    uses: Uses,
    order: dict[int, int],
    writers: list[Kernel],
    source: Buffer,
    moved: Callable[[Addresses], Addresses],
    target: Addresses,
) -> bool:
    """Whether nobody needs the state's old value any more when its new one is written.

    A Map may read the old value of the very element that it writes.
    """
    number = buffer_number(target)
    wanted = np.unique(target)
    producers = [kernel for kernel in writers if source.number in map(buffer_number, writes(kernel))]
    first = min(order[id(kernel)] for kernel in producers)
    for reader in uses.readers[number]:
        old = [operand for operand in reads(reader) if buffer_number(operand) == number]
        if not any(np.isin(operand, wanted).any() for operand in old) or order[id(reader)] < first:
            continue
        if not isinstance(reader, Map) or reader not in writers or order[id(reader)] != first:
            return False
        if buffer_number(reader.out) != source.number:
            return False
        out = moved(reader.out)
        if not all(np.array_equal(operand, out) or not np.isin(operand, wanted).any() for operand in old):
            return False
    return True
