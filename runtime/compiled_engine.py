"""The engine that runs a model as one function of machine code."""

import ctypes
from collections.abc import Mapping

import numpy as np

from .bundle import Bundle
from .compiler.cache import fetch
from .compiler.compiled import Compiled, Options, read_state, write_state
from .compiler.machine import LoadedCode, load
from .stream import Stream, check_state

ALIGNMENT = 64  # bytes: a cache line, and the widest vector


class CompiledEngine(Stream):
    """A stream through a model, executed by machine code. See `engine.NativeEngine` for the protocol.

    Parameters
    ----------
    bundle : Bundle
    options : Options, optional
    compiled : Compiled, optional
        A model that is compiled already; by default it comes from the cache, or is compiled now.
    code : LoadedCode, optional
        Machine code to share with other streams.
    constants : ndarray, optional
        The constants in place, to share with other streams.

    Attributes
    ----------
    note : str
        Why the compiled model could not be kept in the cache, if it could not.

    Raises
    ------
    UnsupportedModel
        If the model cannot be compiled; the message names the node.
    """

    name = "compiled"

    def __init__(
        self,
        bundle: Bundle,
        options: Options | None = None,
        compiled: Compiled | None = None,
        code: LoadedCode | None = None,
        constants: np.ndarray | None = None,
    ):
        self.bundle, self.info = bundle, bundle.info
        self.note = ""
        self.compiled = compiled or fetch(bundle, options or Options(), complain=self._complain)
        self.code = code or load(self.compiled.object_code)
        if constants is None:
            constants = aligned(len(self.compiled.constants))
            constants[:] = self.compiled.constants
        self.constants = constants
        self.memory = aligned(self.compiled.memory_size)
        self.inputs = {name: self._view(slot.offset, slot.shape) for name, slot in sorted(self.compiled.inputs.items())}
        self.outputs = {
            name: self._view(slot.offset, slot.shape) for name, slot in sorted(self.compiled.outputs.items())
        }
        self.step_address, self.reset_address = self.code.address("step"), self.code.address("reset")
        kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
        self._step, self._reset = kind(self.step_address), kind(self.reset_address)
        # Plain integers: the arrays never move, and a call costs less than a microsecond.
        self._memory_address, self._constants_address = self.memory.ctypes.data, self.constants.ctypes.data
        self.reset()

    def _complain(self, reason: str) -> None:
        self.note = reason

    def _view(self, offset: int, shape: tuple[int, ...]) -> np.ndarray:
        size = int(np.prod(shape))
        return self.memory[offset : offset + size].reshape(shape)

    def run(self) -> None:
        self._step(self._memory_address, self._constants_address)

    def reset(self) -> None:
        self._reset(self._memory_address, self._constants_address)
        for array in (*self.inputs.values(), *self.outputs.values()):
            array[...] = 0

    def another(self) -> "CompiledEngine":
        return CompiledEngine(self.bundle, compiled=self.compiled, code=self.code, constants=self.constants)

    def save_state(self) -> dict[str, np.ndarray]:
        """A copy of the state, by the names of the graph's inputs."""
        rings = self.compiled.rings
        return {name: read_state(self.memory, slot, rings) for name, slot in self.compiled.states.items()}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from a saved state, of this or of another engine."""
        check_state(state, {name: slot.shape for name, slot in self.compiled.states.items()})
        for name, slot in self.compiled.states.items():
            write_state(self.memory, slot, self.compiled.rings, np.asarray(state[name], np.float32))


def aligned(size: int) -> np.ndarray:
    """Zeros, float32, that begin at a cache line."""
    room = np.zeros(size + ALIGNMENT // 4, np.float32)
    start = -(room.ctypes.data // 4) % (ALIGNMENT // 4)
    return room[start : start + size]
