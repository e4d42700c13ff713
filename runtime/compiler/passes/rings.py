"""Rings: a memory that is shifted at every step becomes one that stays, and a window that moves over it.

Streaming models keep the last L frames of something as Concat(state, frame), and the next state is the newest L of
them. Done literally, the memory is copied twice at every step. Seen as addresses, a window buffer is filled from the
state and from the new frame, and what each of its elements will hold at the next step is what its neighbour, one frame
further, holds now. So the window stays where it is and moves by one slot; only the new frame is written, twice, so
that the window never wraps (see memory.Ring).
"""

import numpy as np

from ..expression import Load
from ..memory import Addresses, Buffer, Ring, offsets
from ..program import Kernel, Map, Program, is_copy, readdress, reads, writes
from .uses import Uses, buffer_number

SHORTEST_PIECE = 128  # floats of an entry that should lie together; the processor fetches runs ahead, not scraps


def place_rings(program: Program) -> None:
    """Turn every window over a shifted state into a ring, and forget the copies that filled it."""
    for state_number in {buffer_number(state.current) for state in program.states}:
        tried: set[int] = set()
        while (window := _next_window(program, state_number, tried)) is not None:
            tried.add(window.number)
            _try(program, state_number, window)


def _next_window(program: Program, state_number: int, tried: set[int]) -> Buffer | None:
    """A buffer that is filled by copying from the state."""
    for kernel in program.kernels:
        if isinstance(kernel, Map) and isinstance(kernel.value, Load):
            window = program.memory.buffers[buffer_number(kernel.out)]
            fit = window.kind == "scratch" and window.ring is None and window.number not in tried
            if fit and buffer_number(kernel.value.addresses) == state_number:
                return window
    return None


def _try(program: Program, state_number: int, window: Buffer) -> None:
    uses = Uses(program)
    fillers = uses.writers[window.number]
    copies = [kernel for kernel in fillers if is_copy(kernel)]
    from_state = [kernel for kernel in copies if _source(kernel) == state_number]
    source = np.full(window.size, -1, np.int64)  # address that each element is a copy of, or its own
    for kernel in fillers:
        for out in writes(kernel):
            if buffer_number(out) == window.number:
                source[offsets(out)] = kernel.value.addresses if is_copy(kernel) else out  # type: ignore[union-attr]
    old = np.concatenate([offsets(out).ravel() for kernel in from_state for out in writes(kernel)])
    remembered = offsets(source[old])
    if np.bincount(remembered).max() > 1:
        return  # an element of the state is in the window twice
    following = _following(program, state_number)
    shifted = _find(source, window, following[remembered])
    if shifted is None:
        return
    axis, step = _shift(window, old, shifted)
    if step == 0 or not _is_whole(window, source, old, axis, step):
        return
    home = np.full(following.size, -1, np.int64)
    home[remembered] = window.addresses.ravel()[old]
    if not _movable(program, state_number, from_state, home):
        return
    _turn(program, window, axis, step, state_number, home, from_state, source, old)


def _source(kernel: Kernel) -> int:
    assert isinstance(kernel, Map)
    assert isinstance(kernel.value, Load)
    return buffer_number(kernel.value.addresses)


def _following(program: Program, state_number: int) -> np.ndarray:
    """What each element of the state's buffer becomes; -1 where it has moved elsewhere already."""
    following = np.full(program.memory.buffers[state_number].size, -1, np.int64)
    for state in program.states:
        here = (state.current >> 40) == state_number
        following[offsets(state.current[here])] = state.following[here]
    return following


def _find(source: np.ndarray, window: Buffer, wanted: Addresses) -> np.ndarray | None:
    """The elements of the window that hold these values now; None if one is not there."""
    inside = (wanted >> 40) == window.number
    order = np.argsort(source, kind="stable")
    at = np.minimum(np.searchsorted(source, wanted, sorter=order), source.size - 1)
    found = np.where(inside, offsets(wanted), order[at])
    good = inside | (source[order[at]] == wanted)
    return found if good.all() else None


def _shift(window: Buffer, old: np.ndarray, shifted: np.ndarray) -> tuple[int, int]:
    """The axis along which, and by how many slots, the window moves; a step of 0 if it does not."""
    distance = int(shifted[0] - old[0])
    if not (shifted - old == distance).all():
        return 0, 0
    for axis in range(len(window.shape)):
        stride = int(np.prod(window.shape[axis + 1 :]))
        step = distance // stride
        if distance % stride == 0 and 0 < abs(step) < window.shape[axis]:
            slot = old // stride % window.shape[axis]
            if ((slot + step >= 0) & (slot + step < window.shape[axis])).all():
                return axis, step
    return 0, 0


def _is_whole(window: Buffer, source: np.ndarray, old: np.ndarray, axis: int, step: int) -> bool:
    """Whether, border apart, the oldest slots come from the state and all others are new; all slots being alike."""
    slots = window.shape[axis]
    remembered = np.zeros(window.size, bool)
    remembered[old] = True
    remembered = np.moveaxis(remembered.reshape(window.shape), axis, 0)
    written = np.moveaxis((source >= 0).reshape(window.shape), axis, 0)
    if slots % abs(step) or not (written == written[:1]).all():
        return False
    expected = np.zeros_like(written)
    kept = slice(0, slots - step) if step > 0 else slice(-step, slots)
    expected[kept] = written[kept]
    if window.data is not None:
        data = np.moveaxis(window.data.reshape(window.shape), axis, 0)
        if not (data == data[:1]).all():
            return False
    return np.array_equal(remembered, expected)


def _movable(program: Program, state_number: int, from_state: list[Kernel], home: np.ndarray) -> bool:
    """Whether everybody else who reads the state reads only what moves to the ring, or only what stays."""
    for kernel in program.kernels:
        if any(kernel is copy for copy in from_state):
            continue
        for operand in reads(kernel):
            if buffer_number(operand) == state_number:
                moved = home[offsets(operand)] >= 0
                if moved.any() and not moved.all():
                    return False
    return True


def _turn(
    program: Program,
    window: Buffer,
    axis: int,
    step: int,
    state_number: int,
    home: np.ndarray,
    from_state: list[Kernel],
    source: np.ndarray,
    old: np.ndarray,
) -> None:
    """Replace the window by a ring with twice the slots, laid out so that an entry is in few pieces."""
    slots = window.shape[axis]
    shape = list(np.delete(window.shape, axis))
    place = axis
    while place > 0 and np.prod(shape[place:]) < SHORTEST_PIECE:
        place -= 1
    shape.insert(place, 2 * slots)
    ring = program.memory.new("scratch", tuple(shape), window.name, kept=True)
    stride = int(np.prod(ring.shape[place + 1 :]))
    ring.ring = Ring(slots, stride, step)
    content = np.zeros(window.size, np.float32) if window.data is None else window.data.copy()
    for state in program.states:
        here = (state.current >> 40) == state_number
        moved = home[offsets(state.current[here])]
        content[offsets(moved[moved >= 0])] = state.initial
    twice = np.take(content.reshape(window.shape), np.r_[:slots, :slots], axis)
    ring.data = np.moveaxis(twice, axis, place).ravel()
    in_ring = np.take(np.moveaxis(ring.addresses, place, axis), np.arange(slots), axis).ravel()

    def change(addresses: Addresses) -> Addresses:
        number = addresses >> 40
        result = np.where(number == window.number, in_ring[offsets(addresses) % window.size], addresses)
        moved = np.where(number == state_number, home[offsets(addresses) % home.size], -1)
        return np.where(moved >= 0, in_ring[offsets(moved) % window.size], result)

    written = source >= 0
    written[old] = False
    fresh = np.flatnonzero(written)
    program.kernels[:] = [kernel for kernel in program.kernels if not any(kernel is copy for copy in from_state)]
    touched = (window.number, state_number)
    for kernel in program.kernels:
        readdress(kernel, lambda operand: change(operand) if buffer_number(operand) in touched else operand)
    new = in_ring[fresh]
    program.kernels.append(Map(new + slots * stride, Load(new)))  # its second copy, where the window will wrap
    for state in program.states:
        here = ((state.current >> 40) == state_number) & (home[offsets(state.current) % home.size] >= 0)
        state.current = np.where(here, change(state.current), state.current)
        state.following = np.where(here, state.current, change(state.following))
    for name, addresses in program.outputs.items():
        program.outputs[name] = change(addresses)
