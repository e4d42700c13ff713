"""A conversation: two talkers in turns, with pauses, and sometimes one falls into the other's word."""

import numpy as np

from .corpus import SAMPLE_RATE
from .recipe import PairRecipe
from .voices import quietest_near

RAMP_SAMPLES = 128
LOOK_AROUND_SAMPLES = SAMPLE_RATE // 5


def take_turns(rng: np.random.Generator, speech: list[np.ndarray], length: int, recipe: PairRecipe) -> np.ndarray:
    """What two people have to say [any length], told in turns, float32 [2, length].

    A turn ends where its talker is quiet, and goes on there the next time; who has said all begins again.
    """
    told = np.zeros((2, length), np.float32)
    said = [0, 0]
    talker, start = int(rng.integers(2)), int(rng.uniform(0, 0.5) * SAMPLE_RATE)
    while start < length:
        words = speech[talker]
        first = said[talker]
        wanted = first + int(rng.uniform(*recipe.turn_s) * SAMPLE_RATE)
        end = len(words) if wanted >= len(words) else max(quietest_near(words, wanted, LOOK_AROUND_SAMPLES), first + 1)
        turn = _faded(words[first:end])[: length - start]
        told[talker, start : start + len(turn)] += turn
        said[talker] = end % len(words)
        start += max(len(turn) + _gap(rng, recipe), RAMP_SAMPLES)
        talker = 1 - talker
    return told


def _gap(rng: np.random.Generator, recipe: PairRecipe) -> int:
    """Samples from the end of a turn to the beginning of the next; negative where both speak."""
    if rng.random() < recipe.overlap_share:
        return -int(rng.uniform(*recipe.overlap_ms) * SAMPLE_RATE / 1000)
    return int(rng.uniform(*recipe.gap_ms) * SAMPLE_RATE / 1000)


def _faded(turn: np.ndarray) -> np.ndarray:
    ramp = np.linspace(0, 1, min(RAMP_SAMPLES, len(turn) // 2), dtype=np.float32)
    turn = turn.copy()
    if len(ramp):
        turn[: len(ramp)] *= ramp
        turn[-len(ramp) :] *= ramp[::-1]
    return turn
