"""The operands of a kernel function: one pointer parameter for each, and strides for its loops."""

import numpy as np

from ..expression import Load
from ..loops import loop_nest
from ..memory import Addresses, buffer_numbers, offsets
from .code import Pointer


class Operands:
    """Collects the parameters of one function.

    Attributes
    ----------
    places : list of (buffer number, offset)
        What each parameter points at.
    """

    def __init__(self) -> None:
        self.places: list[tuple[int, int]] = []

    def pointer(self, addresses: Addresses) -> Pointer:
        """A parameter that points at the first of these addresses."""
        place = (int(buffer_numbers(addresses).flat[0]), int(offsets(addresses).flat[0]))
        if place not in self.places:
            self.places.append(place)
        return Pointer(f"%p{self.places.index(place)}")


def relative(addresses: Addresses) -> np.ndarray:
    """Offsets from the first address."""
    return np.asarray(addresses - addresses.flat[0])


def along(addresses: Addresses, axis: int) -> np.ndarray:
    """Offsets along one axis, from the first address."""
    index = tuple(slice(None) if number == axis else 0 for number in range(addresses.ndim))
    return relative(addresses[index])


def nest_of(columns: list[np.ndarray]) -> tuple[list[int], list[list[int]]]:
    """Sizes and strides of the loops that run along these offsets together; the kernel is known to be regular."""
    nest = loop_nest(columns)
    assert nest is not None
    return [size for size, _ in nest], [strides for _, strides in nest]


def distinct(found: list[Load]) -> list[Addresses]:
    """The addresses of loads, each once."""
    kept: dict[bytes, Addresses] = {}
    for load in found:
        kept.setdefault(load.addresses.tobytes(), load.addresses)
    return list(kept.values())


def cuts(count: int, width: int, overlap: bool = False) -> list[tuple[int, int]]:
    """Cut a row into vectors: (start, lanes). Vectors that overlap are allowed where writing twice does no harm."""
    full = [(start, width) for start in range(0, count - width + 1, width)]
    rest = count - len(full) * width
    if overlap and full and rest > 1:
        return [*full, (count - width, width)]
    start = count - rest
    while rest:
        width //= 2
        if rest >= width:
            full.append((start, width))
            start, rest = start + width, rest - width
    return full
