"""The plan: where every buffer lies in the memory of a stream.

    | ring positions | states, rings, borders: kept | inputs | outputs | scratch, reused |

One block of float32 per stream. Scratch is given out by first and last use, so that a whole network works in a few ten
kilobytes that stay in the first-level cache.
"""

from dataclasses import dataclass

import numpy as np

from .memory import Buffer, numbers_in
from .passes.uses import buffer_number
from .program import Program, reads, writes

ALIGNMENT = 16  # floats: one cache line
SLACK = 16  # a vector may be read, not used, beyond the end of a buffer


@dataclass(frozen=True)
class Plan:
    """Sizes and places, in floats.

    Attributes
    ----------
    memory_size : int
    positions : dict of int to int
        Ring buffer -> index of the 64-bit word, at the start of the memory, that holds its position.
    kept_size : int
        What must be set to start a stream afresh, from the start of the memory on.
    kept_image : ndarray, float32, shape (kept_size,), or None
        What it is set to; None is zeros.
    scratch_size : int
    """

    memory_size: int
    positions: dict[int, int]
    kept_size: int
    kept_image: np.ndarray | None
    scratch_size: int


def make_plan(program: Program) -> Plan:
    """Give every buffer that is used a place; constants are placed when the code is known."""
    lives = _lives(program)
    buffers = program.memory.buffers
    rings = [buffer for buffer in buffers if buffer.ring is not None and buffer.number in lives]
    positions = {ring.number: index for index, ring in enumerate(rings)}
    top = _aligned(2 * len(rings))
    homes = {number for state in program.states for number in numbers_in(state.current)}
    kept = [buffer for buffer in buffers if buffer.kept and (buffer.number in lives or buffer.number in homes)]
    for buffer in kept:
        buffer.place, top = top, top + _aligned(buffer.size)
    kept_size = top
    for buffer in buffers:
        if buffer.kind in ("input", "output"):
            buffer.place, top = top, top + _aligned(buffer.size)
    scratch_size = _place_scratch([buffer for buffer in buffers if _is_scratch(buffer)], lives, top)
    return Plan(top + scratch_size + SLACK, positions, kept_size, _image(kept, kept_size), scratch_size)


def _is_scratch(buffer: Buffer) -> bool:
    return buffer.kind == "scratch" and not buffer.kept


def _lives(program: Program) -> dict[int, tuple[int, int]]:
    """First and last kernel that touches each buffer."""
    lives: dict[int, tuple[int, int]] = {}
    for index, kernel in enumerate(program.kernels):
        for operand in (*reads(kernel), *writes(kernel)):
            first, _ = lives.get(buffer_number(operand), (index, index))
            lives[buffer_number(operand)] = (first, index)
    return lives


def _place_scratch(buffers: list[Buffer], lives: dict[int, tuple[int, int]], base: int) -> int:
    """First fit, in order of first use; returns the height."""
    height = 0
    placed: list[Buffer] = []
    for buffer in sorted((buffer for buffer in buffers if buffer.number in lives), key=lambda b: lives[b.number]):
        first = lives[buffer.number][0]
        alive = sorted(((o.place, o) for o in placed if lives[o.number][1] >= first), key=lambda item: item[0])
        place = base
        for start, other in alive:
            if start - place >= _aligned(buffer.size):
                break
            place = max(place, start + _aligned(other.size))
        buffer.place = place
        placed.append(buffer)
        height = max(height, place + _aligned(buffer.size) - base)
    return height


def _image(kept: list[Buffer], size: int) -> np.ndarray | None:
    image = np.zeros(size, np.float32)
    for buffer in kept:
        if buffer.data is not None:
            image[buffer.place : buffer.place + buffer.size] = buffer.data
    return image if image.any() else None


def _aligned(size: int) -> int:
    return -(-(size + 1) // ALIGNMENT) * ALIGNMENT
