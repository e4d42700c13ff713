"""Tables of results, as markdown, and the same for machines."""

from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

import numpy as np

from .evaluate import ALL, Result
from .interval import Interval

Column = tuple[str, str, int]
# Measure, its heading, and digits; a column appears where at least one system has a value.
COLUMNS: tuple[Column, ...] = (
    ("si_sdr_improvement_db", "SI-SDR improvement, dB", 1),
    ("wrong_talker_percent", "wrong talker, %", 1),
    ("pesq_wb", "PESQ-WB", 2),
    ("estoi", "ESTOI", 3),
    ("dnsmos_sig", "DNSMOS SIG", 2),
    ("dnsmos_bak", "DNSMOS BAK", 2),
    ("dnsmos_ovrl", "DNSMOS OVRL", 2),
    ("ild_error_db", "ILD error, dB", 1),
    ("itd_error_us", "ITD error, us", 0),
    ("leakage_db", "in pauses, dB", 1),
    ("reopening_s", "re-opens, s", 2),
    ("swaps_per_minute", "swaps per minute", 1),
    ("conversation_si_sdr_improvement_db", "conversation: SI-SDR improvement, dB", 1),
    ("phantom_db", "phantom of one talker, dB", 1),
    ("silence_db", "in silence, dB", 1),
    ("clean_si_sdr_db", "clean SI-SDR, dB", 1),
    ("clean_level_db", "clean level, dB", 1),
)
PER_GROUP = 2  # columns that the table of a group shows


def markdown(results: Sequence[Result]) -> str:
    """Tables: all recordings with intervals; and means per SNR band and condition, of the first measures of each."""
    tables: dict[tuple[Column, ...], list[str]] = {}
    for group in dict.fromkeys(name for result in results for name in result.bands if name != ALL):
        if columns := _columns(results, group)[:PER_GROUP]:
            tables.setdefault(columns, []).append(group)
    ordered = sorted(tables.items(), key=lambda table: COLUMNS.index(table[0][0]))
    return "\n\n".join([_overall(results), *(_by_group(results, groups, columns) for columns, groups in ordered)])


def _overall(results: Sequence[Result]) -> str:
    columns = _columns(results, ALL)
    lines = [
        f"| system | latency | {' | '.join(heading for _, heading, _ in columns)} |",
        "|---" * (len(columns) + 2) + "|",
    ]
    for result in results:
        cells = [_with_interval(result.bands[ALL].get(name), digits) for name, _, digits in columns]
        latency = f"{result.latency_ms:g} ms" if np.isfinite(result.latency_ms) else "-"
        lines.append(f"| {result.name} | {latency} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _by_group(results: Sequence[Result], groups: Sequence[str], columns: Sequence[Column]) -> str:
    counts = [max(_count(result, group, columns[0][0]) for result in results) for group in groups]
    headings = [f"{group} ({count})" for group, count in zip(groups, counts, strict=True)]
    told = " / ".join(heading for _, heading, _ in columns)
    lines = [f"| {told} | {' | '.join(headings)} |", "|---" * (len(groups) + 1) + "|"]
    for result in results:
        means = [[_mean(result.bands[group].get(name), digits) for name, _, digits in columns] for group in groups]
        lines.append(f"| {result.name} | {' | '.join(' / '.join(each) for each in means)} |")
    return "\n".join(lines)


def as_json(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Plain dicts, one per system; what is not a number is None."""
    return plain(results)


def plain(value: Any) -> Any:
    """Dataclasses as dicts, and what is not a number as None."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _columns(results: Sequence[Result], group: str) -> tuple[Column, ...]:
    return tuple(column for column in COLUMNS if any(_count(result, group, column[0]) for result in results))


def _count(result: Result, group: str, name: str) -> int:
    return result.bands[group][name].count if name in result.bands[group] else 0


def _mean(found: Interval | None, digits: int) -> str:
    return f"{found.mean:.{digits}f}" if found and found.count else "-"


def _with_interval(found: Interval | None, digits: int) -> str:
    if found is None or found.count == 0:
        return "-"
    if not np.isfinite(found.low):
        return f"{found.mean:.{digits}f}"
    return f"{found.mean:.{digits}f} ({found.low:.{digits}f} to {found.high:.{digits}f})"
