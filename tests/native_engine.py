"""An engine that is two C functions, whose answer is known and which can be told to fail or to dawdle.

    state = feedback * state + spectrum;  enhanced = gain * state

All settings are in `constants`, which may be changed while it runs.
"""

import ctypes

import numpy as np
from numba import carray, cfunc, types

from hearloop.runtime.bundle import load_bundle
from hearloop.runtime.native_clock import now_ns

# Settings: fails in frames `FAILS_FROM` to `FAILS_TO` after a reset, and takes `SPIN_MS` for each frame.
GAIN, FEEDBACK, FAILS_FROM, FAILS_TO, SPIN_MS, SIZE = range(6)
# Memory: number of the frame since the last reset, of resets, and a product that is denormal.
FRAME, RESETS, PRODUCT, HEAD = 0, 1, 2, 16

_signature = types.void(types.CPointer(types.float32), types.CPointer(types.float32))


@cfunc(_signature, error_model="numpy")
def _step(memory_pointer, constants_pointer):
    constants = carray(constants_pointer, (6,))
    size = int(constants[SIZE])
    memory = carray(memory_pointer, (HEAD + 3 * size,))
    started_ns = now_ns()
    failing = constants[FAILS_FROM] <= memory[FRAME] < constants[FAILS_TO]
    memory[FRAME] += 1
    memory[PRODUCT] = memory[HEAD - 1] * memory[HEAD - 1]
    for k in range(size):
        state = constants[FEEDBACK] * memory[HEAD + k] + memory[HEAD + size + k]
        memory[HEAD + k] = np.nan if failing else state
        memory[HEAD + 2 * size + k] = constants[GAIN] * memory[HEAD + k]
    while now_ns() - started_ns < 1e6 * constants[SPIN_MS]:
        pass


@cfunc(_signature, error_model="numpy")
def _reset(memory_pointer, constants_pointer):
    size = int(carray(constants_pointer, (6,))[SIZE])
    memory = carray(memory_pointer, (HEAD + 3 * size,))
    memory[FRAME] = 0
    memory[RESETS] += 1
    for k in range(size):
        memory[HEAD + k] = 0


class NativeGain:
    """See `runtime.engine.NativeEngine`."""

    name = "native gain"
    step_address, reset_address = _step.address, _reset.address

    def __init__(self, model, gain=1.0, feedback=0.0, fails_from=1e9, fails_to=1e9, spin_ms=0.0, constants=None):
        self.model, self.info = model, load_bundle(model).info
        shape = self.info.port("spectrum", "inputs").shape
        size = int(np.prod(shape))
        if constants is None:
            constants = np.array([gain, feedback, fails_from, fails_to, spin_ms, size], np.float32)
        self.constants = constants
        self.memory = np.zeros(HEAD + 3 * size, np.float32)
        self.memory[HEAD - 1] = 1e-20
        spectra = self.memory[HEAD + size :].reshape(2, *shape)
        self.inputs, self.outputs = {"spectrum": spectra[0]}, {"enhanced": spectra[1]}

    def _call(self, address: int) -> None:
        function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(address)
        function(self.memory.ctypes.data, self.constants.ctypes.data)

    def step(self) -> None:
        self._call(self.step_address)

    def reset(self) -> None:
        self._call(self.reset_address)

    def another(self) -> "NativeGain":
        return NativeGain(self.model, constants=self.constants)
