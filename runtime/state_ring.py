"""A state of the kind "ring", as an engine holds it."""

import numpy as np

from .bundle_info import State


class StateRing:
    """A memory whose oldest entry gives way to the newest, in place.

    Attributes
    ----------
    memory : ndarray, float32, of the state's shape
        What the step reads.
    entry : ndarray, float32, of the shape of one entry
        What the step has given; `push` takes it over.
    oldest : int
        The slot of the oldest entry.
    """

    def __init__(self, state: State):
        assert state.axis is not None
        self.state, self.axis = state, state.axis
        self.memory = np.full(state.shape, state.initial, np.float32)
        self.entry = np.zeros(state.next_shape, np.float32)
        self._slots = np.split(self.memory, state.shape[self.axis], axis=self.axis)
        self.oldest = 0

    def push(self) -> None:
        self._slots[self.oldest][...] = self.entry
        self.oldest = (self.oldest + 1) % len(self._slots)

    def reset(self) -> None:
        self.memory[...] = self.state.initial
        self.oldest = 0

    def save(self) -> np.ndarray:
        """A copy, the oldest entry first."""
        return np.roll(self.memory, -self.oldest, axis=self.axis)

    def load(self, values: np.ndarray) -> None:
        """Take over what `save` has given."""
        self.memory[...] = values
        self.oldest = 0
