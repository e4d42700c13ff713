"""A model that has kept pace for long is forgiven what was before."""

import numpy as np

from hearloop.runtime.callback import MISSES_TO_BYPASS
from hearloop.runtime.native_pace import BLOCKS_TO_FORGIVE, MODE, RESTING, RUNNING, keep_pace, new_pace


def test_after_many_blocks_in_time_a_rest_is_short_again():
    pace, tally = new_pace(16000), np.zeros(9, np.int64)

    def play(late):
        keep_pace(pace, tally, 4000, True, True, late)

    def rest():
        """Be too late until the model rests, and in time until it is heard again; for how many blocks has it rested?"""
        blocks = 0
        for _ in range(MISSES_TO_BYPASS):
            play(late=True)
        while pace[MODE] != RUNNING:
            blocks += pace[MODE] == RESTING
            play(late=False)
        return blocks

    assert [rest() for _ in range(3)] == [2, 4, 8]  # half a second are two of these blocks
    for _ in range(BLOCKS_TO_FORGIVE):
        play(late=False)
    assert [rest() for _ in range(2)] == [2, 4]
