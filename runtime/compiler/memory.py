"""Addresses: how the compiler thinks about tensors.

Every buffer has a number, and every number that the step ever touches has an address: the buffer's number and the
offset in it. A tensor is an array of addresses. Transpose, Reshape, Slice, Gather, Split, Expand, Concat, and Scatter
with constant indices only move addresses about, so for each of them the compiler does to the array of addresses what
NumPy does to an array of numbers, and nothing at all happens when the model runs. A tensor may be scattered over many
buffers; a kernel that needs it in one place has it copied, and later passes make the copy disappear.
"""

from dataclasses import dataclass, field
from hashlib import sha256
from math import prod

import numpy as np

_OFFSET_BITS = 40
_OFFSET_MASK = (1 << _OFFSET_BITS) - 1

Addresses = np.ndarray  # int64, any shape


@dataclass(eq=False)
class Ring:
    """A buffer whose window moves by `step` slots along one axis with every step of the model.

    The buffer holds 2 `slots` slots, every entry twice, so that a window of `slots` slots is in one piece wherever it
    starts. An address in slot s means slot (position + s) modulo 2 `slots`; the position advances by `step` modulo
    `slots` after each step.
    """

    slots: int
    stride: int
    step: int = 1


@dataclass(eq=False)
class Buffer:
    """A run of float32 numbers.

    Attributes
    ----------
    kind : {"input", "output", "state", "scratch", "constant"}
        Scratch is free again after its last reader, unless it is `kept`.
    shape : tuple of int
        As laid out, row-major.
    data : ndarray, float32, optional
        What a constant holds, flat; of a kept buffer, what it holds before the first step (zeros without it).
    kept : bool
        The content lives from step to step: states, rings, and the borders of padded tensors.
    ring : Ring, optional
    place : int
        Set by the plan: offset in floats from the start of the stream's memory, or of the constants.
    """

    number: int
    kind: str
    shape: tuple[int, ...]
    name: str = ""
    data: np.ndarray | None = None
    kept: bool = False
    ring: Ring | None = None
    place: int = -1

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def addresses(self) -> Addresses:
        """Addresses of the whole buffer, in its shape."""
        first = self.number << _OFFSET_BITS
        return np.arange(first, first + self.size, dtype=np.int64).reshape(self.shape)


@dataclass(eq=False)
class Memory:
    """All buffers of one program."""

    buffers: list[Buffer] = field(default_factory=list)
    _constants: dict[tuple[tuple[int, ...], bytes], Buffer] = field(default_factory=dict)

    def new(self, kind: str, shape: tuple[int, ...], name: str = "", kept: bool = False) -> Buffer:
        buffer = Buffer(len(self.buffers), kind, tuple(int(size) for size in shape), name, kept=kept)
        self.buffers.append(buffer)
        return buffer

    def constant(self, values: np.ndarray) -> Buffer:
        """A constant with these values as float32; equal constants share one buffer."""
        data = np.asarray(values, np.float32, order="C")
        key = (data.shape, sha256(data.ravel().data).digest())  # not the bytes, which are as many as the weights
        if key not in self._constants:
            buffer = self.new("constant", data.shape)
            buffer.data = data.ravel()
            self._constants[key] = buffer
        return self._constants[key]

    def owner(self, addresses: Addresses) -> Buffer:
        """The one buffer that all these addresses lie in; ValueError if there are several."""
        numbers = np.asarray(addresses) >> _OFFSET_BITS
        first = int(numbers.flat[0])
        if not (numbers == first).all():
            raise ValueError(f"addresses in buffers {sorted(set(numbers.ravel().tolist()))}, expected one")
        return self.buffers[first]

    def owners(self, addresses: Addresses) -> list[Buffer]:
        """All buffers that these addresses lie in."""
        return [self.buffers[number] for number in numbers_in(addresses)]


def offsets(addresses: Addresses) -> np.ndarray:
    """Offsets within the buffers, in floats."""
    return addresses & _OFFSET_MASK


def buffer_numbers(addresses: Addresses) -> np.ndarray:
    return addresses >> _OFFSET_BITS


def numbers_in(addresses: Addresses) -> list[int]:
    """The numbers of all buffers that these addresses lie in, ascending. Counting is quicker than sorting."""
    numbers = buffer_numbers(np.asarray(addresses)).ravel()
    return np.flatnonzero(np.bincount(numbers)).tolist() if numbers.size else []
