"""Carried states: the stores that end a step.

Every state's next value is copied into its place. These are ordinary copies, so that redirection can remove nearly all
of them; what is left is safe in any order, because old values that are still to be read are set aside first.
"""

import numpy as np

from ..expression import Load
from ..memory import buffer_numbers, numbers_in
from ..program import Map, Program


def store_states(program: Program) -> None:
    """Append the copies of the next values to the states; afterwards `following` is `current` everywhere."""
    memory = program.memory
    stores: list[Map] = []
    for state in program.states:
        changed = state.following != state.current
        source, target = state.following[changed], state.current[changed]
        for number in numbers_in(source):
            here = buffer_numbers(source) == number
            piece, place = source[here], target[here]
            if memory.buffers[number].kind == "state":
                aside = memory.new("scratch", piece.shape).addresses
                program.kernels.append(Map(aside, Load(piece)))
                piece = aside
            stores += [Map(part, Load(piece[mask])) for part, mask in _by_buffer(place)]
        state.following = state.current
    program.kernels += stores


def _by_buffer(place: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    numbers = buffer_numbers(place)
    return [(place[numbers == number], numbers == number) for number in numbers_in(place)]
