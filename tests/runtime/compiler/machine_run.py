"""Run a program as machine code, as `reference.Reference` runs it with NumPy."""

import ctypes

import numpy as np

from hearloop.runtime.compiled_engine import aligned
from hearloop.runtime.compiler.compiled import Options
from hearloop.runtime.compiler.emit import emit_program
from hearloop.runtime.compiler.machine import assemble, load
from hearloop.runtime.compiler.plan import make_plan
from hearloop.runtime.compiler.target import host_target

GUARD = 64  # floats before and behind the memory that must not change
MARK = np.float32(-12345.678)


class MachineRun:
    """A program on its own block of memory, between guards. Takes and gives numbers by addresses."""

    def __init__(self, program, target=None, options=None):
        self.program, self.target = program, target or host_target()
        self.plan = make_plan(program)
        self.emitted = emit_program(program, self.plan, self.target, options or Options())
        self._block = aligned(self.plan.memory_size + 2 * GUARD)
        self._block[:] = MARK
        self.memory = self._block[GUARD:-GUARD]
        self.constants = aligned(len(self.emitted.constants))
        self.constants[:] = self.emitted.constants
        self._step, self._reset = self.link()
        self.reset()

    def link(self):
        """`step` and `reset`, to be called with the addresses of memory and constants."""
        self.code = load(assemble(self.emitted.ir, self.target))
        kind = (ctypes.c_void_p, ctypes.c_void_p)
        return self.code.function("step", *kind), self.code.function("reset", *kind)

    def step(self):
        before = self.constants.copy()
        self._step(self.memory.ctypes.data, self.constants.ctypes.data)
        np.testing.assert_array_equal(self.constants, before)
        assert (self._block[:GUARD] == MARK).all()
        assert (self._block[-GUARD:] == MARK).all()

    def reset(self):
        self._reset(self.memory.ctypes.data, self.constants.ctypes.data)

    def _places(self, addresses):
        numbers, offsets = addresses >> 40, addresses & ((1 << 40) - 1)
        places = np.empty(addresses.shape, np.int64)
        positions = self.memory.view(np.int64)
        for number in np.unique(numbers):
            buffer = self.program.memory.buffers[number]
            here = numbers == number
            inside = offsets[here]
            if buffer.ring is not None:
                count = 2 * buffer.ring.slots
                slot = inside // buffer.ring.stride % count
                now = (slot + positions[self.plan.positions[int(number)]]) % count
                inside = inside + (now - slot) * buffer.ring.stride
            places[here] = buffer.place + inside
        return places

    def store(self, addresses, values):
        self.memory[self._places(addresses)] = values

    def load(self, addresses):
        return self.memory[self._places(addresses)]
