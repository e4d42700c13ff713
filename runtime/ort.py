"""The engine that runs a bundle with ONNX Runtime.

All tensors are bound once. Every state has two buffers, and two bindings swap their roles from step to step, so that no
state is ever copied. Of a ring only the new entry is.
"""

from collections.abc import Mapping

import numpy as np
import onnxruntime

from .bundle import Bundle
from .errors import EngineError
from .ort_session import DTYPES, open_session
from .state_ring import StateRing
from .stream import Stream, check_state

WARM_UP_STEPS = 8


class OrtEngine(Stream):
    """A stream through a bundle, executed by ONNX Runtime. See `engine.Engine` for the protocol.

    Parameters
    ----------
    bundle : Bundle
    session : onnxruntime.InferenceSession, optional
        A session of the same bundle to share; sessions have no state of their own.
    """

    name = "ort"

    def __init__(self, bundle: Bundle, session: onnxruntime.InferenceSession | None = None):
        self.bundle = bundle
        self.info = bundle.info
        self.session = session or open_session(bundle.model, streaming=True)
        self.inputs = {port.name: np.zeros(port.shape, np.float32) for port in self.info.inputs}
        self.outputs = {port.name: np.zeros(port.shape, np.float32) for port in self.info.outputs}
        self._rings = {state.name: StateRing(state) for state in self.info.states if state.kind == "ring"}
        self._carried = [state for state in self.info.states if state.kind == "carry"]
        # One array per side and state; side 0 is read first. Of a model that is no bundle a state may be a counter.
        types = {port.name: DTYPES[port.type] for port in self.session.get_inputs()}
        self._states = [
            {state.name: np.full(state.shape, state.initial, types[state.name]) for state in self._carried}
            for _ in range(2)
        ]
        self._bindings = [self._bind(side) for side in range(2)]
        self._side = 0
        for _ in range(WARM_UP_STEPS):
            self.run()
        self.reset()

    def _bind(self, side: int) -> onnxruntime.IOBinding:
        binding = self.session.io_binding()
        memories = {name: ring.memory for name, ring in self._rings.items()}
        for name, array in {**self.inputs, **self._states[side], **memories}.items():
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        following = {state.next: self._states[1 - side][state.name] for state in self._carried}
        following |= {ring.state.next: ring.entry for ring in self._rings.values()}
        for name, array in {**self.outputs, **following}.items():
            binding.bind_ortvalue_output(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        return binding

    def run(self) -> None:
        try:
            self.session.run_with_iobinding(self._bindings[self._side])
        except Exception as error:  # onnxruntime's own exception types are private
            raise EngineError(f"model {self.info.name!r}: ONNX Runtime failed in a step ({error})") from error
        self._side = 1 - self._side
        for ring in self._rings.values():
            ring.push()

    def reset(self) -> None:
        self._side = 0
        for state in self._carried:
            self._states[0][state.name][...] = state.initial
        for ring in self._rings.values():
            ring.reset()
        for array in self.outputs.values():
            array[...] = 0

    def another(self) -> "OrtEngine":
        return OrtEngine(self.bundle, self.session)

    def save_state(self) -> dict[str, np.ndarray]:
        """A copy of the state, by the names of the graph's inputs; of a ring the oldest entry first."""
        rings = {name: ring.save() for name, ring in self._rings.items()}
        return {name: array.copy() for name, array in self._states[self._side].items()} | rings

    def copy_memories(self, room: Mapping[str, np.ndarray]) -> dict[str, int]:
        """Copy the states as they lie into arrays of the same shapes; returns where each ring has its oldest entry.

        The quickest way to hold a state: `in_order` makes of it what `save_state` gives.
        """
        for name, array in self.states.items():
            room[name][...] = array
        return {name: ring.oldest for name, ring in self._rings.items()}

    def in_order(self, room: Mapping[str, np.ndarray], oldest: Mapping[str, int]) -> dict[str, np.ndarray]:
        """The state from copied memories."""
        axes = {name: ring.axis for name, ring in self._rings.items()}
        return {
            name: np.roll(array, -oldest[name], axes[name]) if name in axes else array for name, array in room.items()
        }

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from a saved state, of this or of another engine."""
        check_state(state, {name: array.shape for name, array in self.states.items()})
        for name, array in self._states[self._side].items():
            array[...] = state[name]
        for name, ring in self._rings.items():
            ring.load(state[name])

    @property
    def states(self) -> dict[str, np.ndarray]:
        """The current state by name; writing into the arrays changes the state. A ring starts anywhere."""
        return self._states[self._side] | {name: ring.memory for name, ring in self._rings.items()}
