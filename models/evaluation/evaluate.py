"""Measures systems on recordings, per SNR band and condition, with intervals, on several processes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from joblib import Parallel, delayed

from .interval import Interval, interval
from .quality import measure
from .ratio import si_sdr
from .recordings import Recording
from .selection import leakage_db, reopening_s
from .systems import System, Unprocessed

ALL = "all"
PIECES = 4  # of the work of a process, so that none waits long for the others
# Measure -> its gain over the unprocessed recording, for those that are given as gains.
GAINS = {"si_sdr_db": "si_sdr_improvement_db", "pesq_wb": "pesq_wb_improvement", "estoi": "estoi_improvement"}
Opener = Callable[[], System]
Row = dict[str, float]


@dataclass(frozen=True)
class Result:
    """What was found for one system.

    bands : SNR band or condition (or "all") -> measure -> Interval; the measures are si_sdr_db, pesq_wb and estoi,
        each with its improvement, leakage_db and reopening_s, and those of DNSMOS if asked for
    clean_si_sdr_db : SI-SDR of clean voices through the system
    points : per recording, what the measures were without and with the system
    """

    name: str
    latency_ms: float
    bands: dict[str, dict[str, Interval]]
    clean_si_sdr_db: Interval
    points: dict[str, list[tuple[float, float]]]


def evaluate(
    openers: Sequence[Opener],
    noisy: Sequence[Recording],
    clean: Sequence[Recording] = (),
    *,
    with_dnsmos: bool = False,
    processes: int = 1,
) -> list[Result]:
    """Measure every system on every recording.

    Parameters
    ----------
    openers : what opens a system; called once per piece of work
    noisy, clean : mixtures, and voices that a system should leave alone
    with_dnsmos : also what a network thinks of the output
    processes : among which the recordings are divided; the results do not depend on it
    """
    before = _measure_all(Unprocessed, noisy, with_dnsmos, processes)
    results = []
    for opener in openers:
        system = opener()
        rows = _measure_all(opener, noisy, with_dnsmos, processes)
        points = {name: [(was[name], row[name]) for was, row in zip(before, rows, strict=True)] for name in before[0]}
        gains = [
            {gain: row[name] - was[name] for name, gain in GAINS.items()} for was, row in zip(before, rows, strict=True)
        ]
        rows = [row | gain for row, gain in zip(rows, gains, strict=True)]
        kept = [si_sdr(system.enhance(item.noisy), item.target) for item in clean]
        results.append(Result(system.name, system.latency_ms, _by_group(rows, noisy), interval(kept), points))
    return results


def _measure_all(opener: Opener, recordings: Sequence[Recording], with_dnsmos: bool, processes: int) -> list[Row]:
    pieces = PIECES * processes if processes > 1 else 1
    shares = [recordings[at::pieces] for at in range(min(pieces, len(recordings)))]
    # Each worker gets one thread: the work is divided already.
    workers = Parallel(n_jobs=processes, inner_max_num_threads=1) if processes > 1 else Parallel(n_jobs=1)
    found = workers(delayed(_measure_share)(opener, share, with_dnsmos) for share in shares)
    return [found[at % len(shares)][at // len(shares)] for at in range(len(recordings))]


def _measure_share(opener: Opener, recordings: Sequence[Recording], with_dnsmos: bool) -> list[Row]:
    system, rows = opener(), []
    for item in recordings:
        enhanced = system.enhance(item.noisy)
        rows.append(
            {
                **measure(enhanced, item.target, with_dnsmos),
                "leakage_db": leakage_db(enhanced, item.target, item.noisy),
                "reopening_s": reopening_s(enhanced, item.target),
            }
        )
    return rows


def _by_group(rows: Sequence[Row], recordings: Sequence[Recording]) -> dict[str, dict[str, Interval]]:
    names = dict.fromkeys(name for item in recordings for name in item.groups)
    return {
        group: {
            name: interval(
                [row[name] for row, item in zip(rows, recordings, strict=True) if group == ALL or group in item.groups]
            )
            for name in rows[0]
        }
        for group in (ALL, *names)
    }
