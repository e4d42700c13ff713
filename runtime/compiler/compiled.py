"""What the compiler delivers: everything that a running stream needs, and nothing that needs the compiler."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Options:
    """Choices that change the machine code.

    half_weights : keep the weights of matrix-vector products as float16 and widen them when they are read. Their
    products are limited by memory bandwidth; the price is a relative error of about 1e-3.
    timed : add the function `step_timed`, which takes the time of every kernel.
    """

    half_weights: bool = False
    timed: bool = False


@dataclass(frozen=True)
class Slot:
    """An input or output: where it lies in the memory of a stream, in floats. `dtype` is what the model calls it."""

    offset: int
    shape: tuple[int, ...]
    dtype: str = "float32"


@dataclass(frozen=True)
class RingSlot:
    """A ring in the memory of a stream; see memory.Ring. `position` is the index of a 64-bit word at its start."""

    position: int
    offset: int
    slots: int
    stride: int
    step: int


@dataclass(frozen=True, eq=False)
class StateSlot:
    """Where the elements of a state lie.

    Attributes
    ----------
    next : str
        The graph's output that it becomes.
    places : ndarray, int64, of the state's shape
        Offset of each element in the memory; within a ring, while the ring's position is 0.
    rings : ndarray, int64, of the state's shape
        Index of each element's ring, or -1.
    """

    next: str
    shape: tuple[int, ...]
    places: np.ndarray
    rings: np.ndarray
    dtype: str = "float32"


@dataclass(frozen=True, eq=False)
class Compiled:
    """A compiled model.

    Attributes
    ----------
    object_code : bytes
        Machine code with the functions `step(memory, constants)` and `reset(memory, constants)`.
    constants : ndarray, float32
        Shared by all streams.
    memory_size : int
        Floats that one stream needs.
    plan : dict
        What was done, for people to read.
    """

    object_code: bytes
    constants: np.ndarray
    memory_size: int
    inputs: dict[str, Slot]
    outputs: dict[str, Slot]
    states: dict[str, StateSlot]
    rings: list[RingSlot]
    plan: dict[str, Any] = field(default_factory=dict)


def read_state(memory: np.ndarray, slot: StateSlot, rings: list[RingSlot]) -> np.ndarray:
    """The state as float32 in the shape of the graph's input."""
    places, _ = _places(memory, slot, rings)
    return np.asarray(memory[places])


def write_state(memory: np.ndarray, slot: StateSlot, rings: list[RingSlot], values: np.ndarray) -> None:
    """Set the state; a ring gets both copies of every entry."""
    places, twins = _places(memory, slot, rings)
    memory[places] = values
    memory[twins] = values


def _places(memory: np.ndarray, slot: StateSlot, rings: list[RingSlot]) -> tuple[np.ndarray, np.ndarray]:
    """Where each element is now, and where its second copy is."""
    places, twins = slot.places.copy(), slot.places.copy()
    positions = memory.view(np.int64)
    for index in np.unique(slot.rings[slot.rings >= 0]).tolist():
        ring = rings[index]
        here = slot.rings == index
        count = 2 * ring.slots
        entry = (slot.places[here] - ring.offset) // ring.stride % count
        for target, ahead in ((places, 0), (twins, ring.slots)):
            now = (entry + int(positions[ring.position]) + ahead) % count
            target[here] = slot.places[here] + (now - entry) * ring.stride
    return places, twins
