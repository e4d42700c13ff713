"""Who writes and who reads each buffer: what every pass asks first."""

from collections import defaultdict

import numpy as np

from ..memory import Addresses, Buffer, numbers_in, offsets
from ..program import Kernel, Program, reads, writes


class Uses:
    """The kernels of a program by the buffers that they touch; to be told of every change.

    Attributes
    ----------
    readers, writers : dict of int to list of Kernel
        By buffer number.
    held : set of int
        Buffers whose values some state takes over when the step is ended.
    """

    def __init__(self, program: Program):
        self.program = program
        self.readers: dict[int, list[Kernel]] = defaultdict(list)
        self.writers: dict[int, list[Kernel]] = defaultdict(list)
        self.held: set[int] = set()
        for state in program.states:
            self.held.update(numbers_in(state.following))
        for kernel in program.kernels:
            self.add(kernel)

    def add(self, kernel: Kernel) -> None:
        for table, operands in ((self.readers, reads(kernel)), (self.writers, writes(kernel))):
            for number in {buffer_number(operand) for operand in operands}:
                table[number].append(kernel)

    def remove(self, kernel: Kernel) -> None:
        for table, operands in ((self.readers, reads(kernel)), (self.writers, writes(kernel))):
            for number in {buffer_number(operand) for operand in operands}:
                table[number].remove(kernel)

    def buffer(self, addresses: Addresses) -> Buffer:
        """The buffer of a kernel's operand."""
        return self.program.memory.buffers[buffer_number(addresses)]

    def only_reader(self, buffer: Buffer) -> Kernel | None:
        """The one kernel that reads a buffer of scratch that nothing else needs; None if there is no such."""
        if buffer.kind != "scratch" or buffer.kept or buffer.number in self.held:
            return None
        readers = self.readers[buffer.number]
        return readers[0] if len(readers) == 1 else None

    def only_writer(self, buffer: Buffer) -> Kernel | None:
        writers = self.writers[buffer.number]
        return writers[0] if len(writers) == 1 else None


def buffer_number(addresses: Addresses) -> int:
    """Number of the buffer of a kernel's operand, which lies in one buffer."""
    return int(addresses.flat[0]) >> 40


def positions_in(addresses: Addresses, out: Addresses, size: int) -> np.ndarray | None:
    """Where in `out` (flat index) each of `addresses` is; None if one is not there. Both are in one buffer."""
    table = np.full(size, -1, np.int64)
    table[offsets(out).ravel()] = np.arange(out.size)
    found = table[offsets(addresses)]
    return None if (found < 0).any() else found
