"""Measures systems on recordings, per SNR band and condition, with intervals, on several processes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from joblib import Parallel, delayed

from ...runtime.errors import HearloopError
from .interval import Interval, interval, share_interval
from .measures import GAINS, Row, measures
from .recordings import Recording, group_names
from .systems import System

ALL = "all"
UNPROCESSED = "unprocessed"
PIECES = 4  # of the work of a process, so that none waits long for the others
Opener = Callable[[], System]


@dataclass(frozen=True)
class Result:
    """What was found for one system.

    bands : SNR band or condition (or "all") -> measure -> Interval; the measures are those of `measures.MEASURES` for
        the parts of the set, with the gains of `measures.GAINS`
    points : measure -> of each recording that has it, what it was without and with the system
    """

    name: str
    latency_ms: float
    bands: dict[str, dict[str, Interval]]
    points: dict[str, list[tuple[float, float]]]


def evaluate(
    openers: Sequence[Opener], recordings: Sequence[Recording], *, with_dnsmos: bool = False, processes: int = 1
) -> list[Result]:
    """Measure every system on every recording; the first result is that of the unprocessed recordings.

    Parameters
    ----------
    openers : what opens a system; called once per piece of work
    recordings : of one task, that of the systems
    with_dnsmos : also what a network thinks of the output
    processes : among which the recordings are divided; the results do not depend on it

    Raises
    ------
    HearloopError
        If a system cannot be opened, fails, or gives something of another shape than the target or not finite.
    """
    before = _measure_all(None, recordings, with_dnsmos, processes)
    results = [_result(UNPROCESSED, 0.0, recordings, before, before)]
    for opener in openers:
        system = opener()
        after = _measure_all(opener, recordings, with_dnsmos, processes)
        results.append(_result(system.name, system.latency_ms, recordings, before, after))
    return results


def output_of(system: System, recording: Recording) -> np.ndarray:
    """What a system makes of a recording; raises HearloopError if it has another shape or is not finite."""
    output = system.process(recording.mixture, recording.looks)
    if output.shape != recording.target.shape:
        raise HearloopError(
            f"{system.name}: {recording.name}: gave {output.shape[0]} output(s) of {output.shape[1]} samples; expected "
            f"{recording.target.shape[0]} of {recording.target.shape[1]}"
        )
    if not np.isfinite(output).all():
        wrong = output.size - np.count_nonzero(np.isfinite(output))
        raise HearloopError(f"{system.name}: {recording.name}: gave {wrong} samples that are not finite; expected none")
    return output


def _measure_all(
    opener: Opener | None, recordings: Sequence[Recording], with_dnsmos: bool, processes: int
) -> list[Row]:
    pieces = PIECES * processes if processes > 1 else 1
    shares = [recordings[at::pieces] for at in range(min(pieces, len(recordings)))]
    # Each worker gets one thread: the work is divided already.
    workers = Parallel(n_jobs=processes, inner_max_num_threads=1) if processes > 1 else Parallel(n_jobs=1)
    found = workers(delayed(_measure_share)(opener, share, with_dnsmos) for share in shares)
    return [found[at % len(shares)][at // len(shares)] for at in range(len(recordings))]


def _measure_share(opener: Opener | None, recordings: Sequence[Recording], with_dnsmos: bool) -> list[Row]:
    system = None if opener is None else opener()
    outputs = (item.unprocessed if system is None else output_of(system, item) for item in recordings)
    return [measures(output, item, with_dnsmos) for output, item in zip(outputs, recordings, strict=True)]


def _result(
    name: str, latency_ms: float, recordings: Sequence[Recording], before: Sequence[Row], after: Sequence[Row]
) -> Result:
    points: dict[str, list[tuple[float, float]]] = {}
    rows = []
    for was, row in zip(before, after, strict=True):
        for measure, value in row.items():
            points.setdefault(measure, []).append((was[measure], value))
        rows.append(row | {gain: row[measure] - was[measure] for measure, gain in GAINS.items() if measure in row})
    return Result(name, latency_ms, _by_group(rows, recordings), points)


def _by_group(rows: Sequence[Row], recordings: Sequence[Recording]) -> dict[str, dict[str, Interval]]:
    pairs = list(zip(rows, recordings, strict=True))
    members = {group: [row for row, item in pairs if group in item.groups] for group in group_names(recordings)}
    return {ALL: _intervals([row for row, item in pairs if item.in_all])} | {
        group: _intervals(found) for group, found in members.items()
    }


def _intervals(rows: Sequence[Row]) -> dict[str, Interval]:
    names = dict.fromkeys(name for row in rows for name in row)
    values = {name: [row[name] for row in rows if name in row] for name in names}
    return {
        name: share_interval(found) if name.endswith("_percent") else interval(found) for name, found in values.items()
    }
