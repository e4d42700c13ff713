"""Recurrent layers that do not depend on each other run in one loop.

A scan waits for its own last result at every time step; a second one beside it costs no time.
"""

from ..program import Kernel, Program, Scan, reads, writes
from .uses import buffer_number


def merge_scans(program: Program) -> None:
    """Join scans of one shape, where no kernel between them needs the first and feeds the second."""
    kernels = program.kernels
    index = 0
    while index < len(kernels):
        first = kernels[index]
        partner = _partner(kernels, index) if isinstance(first, Scan) else None
        if partner is None:
            index += 1
            continue
        second = kernels[partner]
        assert isinstance(first, Scan)
        assert isinstance(second, Scan)
        second.chains = first.chains + second.chains
        del kernels[index]


def _partner(kernels: list[Kernel], index: int) -> int | None:
    """A later scan of the same shape, such that nobody up to it, and it neither, reads what the first one writes."""
    first = kernels[index]
    assert isinstance(first, Scan)
    written = {buffer_number(out) for out in writes(first)}
    shape = _shape(first)
    for later in range(index + 1, len(kernels)):
        kernel = kernels[later]
        if any(buffer_number(operand) in written for operand in reads(kernel)):
            return None
        if isinstance(kernel, Scan) and _shape(kernel) == shape:
            return later
        if any(buffer_number(out) in {buffer_number(operand) for operand in reads(first)} for out in writes(kernel)):
            return None
    return None


def _shape(scan: Scan) -> tuple[object, ...]:
    steps = {chain.out.shape[0] for chain in scan.chains}
    return scan.cell, scan.hidden_size, scan.linear_before_reset, scan.activation, tuple(sorted(steps))
