"""How well the embeddings of looks tell talkers apart."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ...runtime.voice import Voice, mean_voice
from ..simulation.scenes import Scene
from .interval import RESAMPLINGS, Interval, interval


@dataclass(frozen=True)
class Identity:
    """What the embeddings of an enrolment model are worth.

    equal_error_percent : where as many pairs of looks at one talker are taken for two as pairs of two for one; the
        interval is that of other talkers, not of other looks at the same ones
    likeness : cosine between the embeddings of a look and of the same look without all others and noise
    looks, talkers : how many
    """

    name: str
    equal_error_percent: Interval
    likeness: Interval
    looks: int
    talkers: int


def identity(
    name: str, hear: Callable[[np.ndarray], Voice], scenes: Sequence[Scene], clean_looks: bool = False
) -> Identity:
    """Measure `hear`, from a look float32 [2, samples] to the voice in it, on the noisy or the clean looks of scenes.

    Of several looks at one target the mean counts.
    """
    noisy, clean = (
        np.stack([mean_voice([hear(look) for look in scene.looks(alone)]).embedding for scene in scenes])
        for alone in (False, True)
    )
    compared = clean if clean_looks else noisy
    talkers = np.unique([scene.talker for scene in scenes], return_inverse=True)[1]
    return Identity(
        name,
        equal_error_interval(compared @ compared.T, talkers),
        interval((noisy * clean).sum(axis=1).tolist()),
        len(scenes),
        int(talkers.max()) + 1,
    )


def equal_error_interval(likeness: np.ndarray, talkers: np.ndarray) -> Interval:
    """Equal error rate in percent of a matrix of likeness [looks, looks], with a bootstrap over talkers.

    Parameters
    ----------
    likeness : float array, larger for what is more alike
    talkers : int array [looks], numbers from 0
    """
    first, second = np.triu_indices(len(talkers), 1)
    order = np.argsort(likeness[first, second])
    ordered = likeness[first, second][order]
    # A threshold lies between two values: pairs that are equally alike are taken for one talker together, or for two.
    last = np.flatnonzero(np.append(ordered[1:] > ordered[:-1], True))
    first, second = talkers[first][order], talkers[second][order]
    count = int(talkers.max()) + 1
    generator = np.random.default_rng(0)
    draws = [np.bincount(generator.integers(count, size=count), minlength=count) for _ in range(RESAMPLINGS // 10)]
    found = [_equal_error(first, second, last, draw) for draw in draws]
    known = [each for each in found if np.isfinite(each)] or [float("nan")]
    low, high = np.percentile(known, [2.5, 97.5])
    return Interval(_equal_error(first, second, last, np.ones(count)), float(low), float(high), len(talkers))


def _equal_error(first: np.ndarray, second: np.ndarray, last: np.ndarray, times: np.ndarray) -> float:
    """Of pairs of talkers, the least alike first, where each talker counts so many times.

    `last` are the pairs after which a threshold may lie.
    """
    same = first == second
    missed = np.cumsum(np.where(same, times[first], 0.0))
    refused = np.cumsum(np.where(same, 0.0, times[first] * times[second]))
    if not missed.any() or not refused.any():
        return float("nan")  # all looks are at one talker, or each at another one
    misses, false_alarms = missed[last] / missed[-1], 1 - refused[last] / refused[-1]
    crossing = int(np.argmin(np.abs(misses - false_alarms)))
    return float(50 * (misses[crossing] + false_alarms[crossing]))


def identity_table(found: Sequence[Identity]) -> str:
    """A markdown table, one line per model."""
    lines = ["| model | equal error rate, % | cosine to the clean look | looks | talkers |", "|---|---|---|---|---|"]
    for each in found:
        error, likeness = each.equal_error_percent, each.likeness
        lines.append(
            f"| {each.name} | {error.mean:.1f} ({error.low:.1f} to {error.high:.1f}) "
            f"| {likeness.mean:.2f} ({likeness.low:.2f} to {likeness.high:.2f}) | {each.looks} | {each.talkers} |"
        )
    return "\n".join(lines)
