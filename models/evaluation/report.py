"""Tables of results, as markdown, and the same for machines."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from .evaluate import ALL, Result
from .interval import Interval

# Measure, its heading, and digits; a column appears where at least one system has a value.
COLUMNS = (
    ("si_sdr_improvement_db", "SI-SDR improvement, dB", 1),
    ("pesq_wb", "PESQ-WB", 2),
    ("estoi", "ESTOI", 3),
    ("dnsmos_sig", "DNSMOS SIG", 2),
    ("dnsmos_bak", "DNSMOS BAK", 2),
    ("dnsmos_ovrl", "DNSMOS OVRL", 2),
    ("leakage_db", "in pauses, dB", 1),
    ("reopening_s", "re-opens, s", 2),
)


def markdown(results: Sequence[Result]) -> str:
    """Two tables: all recordings with intervals, and means per SNR band and condition."""
    columns = [column for column in COLUMNS if any(_count(result, column[0]) for result in results)]
    overall = [
        f"| system | latency | {' | '.join(heading for _, heading, _ in columns)} | clean SI-SDR, dB |",
        "|---" * (len(columns) + 3) + "|",
    ]
    for result in results:
        cells = [_with_interval(result.bands[ALL][name], digits) for name, _, digits in columns]
        clean = _with_interval(result.clean_si_sdr_db, 1) if result.latency_ms != 0 else "-"
        latency = f"{result.latency_ms:g} ms" if np.isfinite(result.latency_ms) else "-"
        overall.append(f"| {result.name} | {latency} | {' | '.join(cells)} | {clean} |")
    groups = dict.fromkeys(name for result in results for name in result.bands if name != ALL)
    counts = {name: results[0].bands[name]["si_sdr_db"].count for name in groups}
    headings = [f"{name} ({counts[name]})" for name in groups]
    by_group = [f"| SI-SDR improvement, dB / PESQ-WB | {' | '.join(headings)} |", "|---" * (len(groups) + 1) + "|"]
    for result in results:
        cells = [_pair(result.bands[name]) for name in groups]
        by_group.append(f"| {result.name} | {' | '.join(cells)} |")
    return "\n".join([*overall, "", *by_group])


def as_json(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Plain dicts, one per system; what is not a number is None."""
    return [_plain(asdict(result)) for result in results]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _count(result: Result, name: str) -> int:
    return result.bands[ALL][name].count if name in result.bands[ALL] else 0


def _pair(found: dict[str, Interval]) -> str:
    return f"{found['si_sdr_improvement_db'].mean:.1f} / {found['pesq_wb'].mean:.2f}"


def _with_interval(found: Interval, digits: int) -> str:
    if found.count == 0:
        return "-"
    return f"{found.mean:.{digits}f} ({found.low:.{digits}f} to {found.high:.{digits}f})"
