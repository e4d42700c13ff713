"""How the cost grows as the work grows: the same model, with one thing changed at a time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...runtime.bundle import Bundle
from ...runtime.errors import HearloopError
from .clock import RealClock
from .measure import Row, measure, measure_together
from .subjects import LARGEST_BLOCK, Work, open_subject
from .table import ledger_line

# Name of an axis on the command line -> the work at one of its values. A block is as long at every rate.
AXES: dict[str, Callable[[Work, int], Work]] = {
    "blocks": lambda work, value: replace(work, block=value),
    "rates": lambda work, value: replace(
        work, sample_rate=value, block=max(round(work.block * value / work.sample_rate), 1)
    ),
    "channels": lambda work, value: replace(work, channels=value),
    "streams": lambda work, value: work,
}


def parse_axis(text: str) -> tuple[str, list[int]]:
    """`blocks=64,128` as a name and its values.

    Raises
    ------
    HearloopError
        If the axis is unknown, a value is no positive whole number, or a block is longer than there are.
    """
    name, _, values = text.partition("=")
    if name not in AXES:
        raise HearloopError(f"--sweep {text!r}: no axis {name!r}; expected one of {', '.join(AXES)}, as blocks=64,128")
    numbers = [int(value) if value.strip().isdigit() else 0 for value in values.split(",")]
    if min(numbers) < 1:
        raise HearloopError(f"--sweep {text!r}: values are {values!r}; expected positive whole numbers, as 64,128")
    if name == "blocks" and max(numbers) > LARGEST_BLOCK:
        raise HearloopError(f"--sweep {text!r}: a block has {max(numbers)} samples; expected {LARGEST_BLOCK} at most")
    return name, numbers


def sweep(
    models: Mapping[str, tuple[Bundle, Sequence[str]]],
    axes: Sequence[tuple[str, list[int]]],
    work: Work,
    seconds: float,
) -> list[dict[str, Any]]:
    """Measure every model at every value of every axis, paced; one row each, with `axis` and `value`.

    `models` holds each by the name that it goes by, with the engines that run it.

    On the axis `streams` so many copies of the model run at the same time, a thread each; on the others the audio
    changes, and blocks keep their length in time when the rate does.
    """
    rows = []
    for axis, values in axes:
        for name, (bundle, engines) in models.items():
            for engine in engines:
                for value in values:
                    row = _measure(bundle, engine, axis, value, work, seconds)
                    row.subject.model = name
                    rows.append(row.to_json() | {"axis": axis, "value": value})
    return rows


def _measure(bundle: Bundle, engine: str, axis: str, value: int, work: Work, seconds: float) -> Row:
    if axis == "streams":
        return measure_together([open_subject(bundle, engine, work) for _ in range(value)], seconds, RealClock)
    rows, _ = measure([open_subject(bundle, engine, AXES[axis](work, value))], seconds, RealClock())
    return rows[0]


def sweep_table(rows: Sequence[dict[str, Any]]) -> str:
    """A table for each axis, model and engine; the last columns are against the first row."""
    lines = []
    before: tuple[str, str] | None = None
    first: dict[str, Any] = {}
    for row in rows:
        if (row["axis"], row["name"]) != before:
            before, first = (row["axis"], row["name"]), row
            lines += [
                "",
                f"{row['name']}, {row['axis']}",
                f"  {row['axis']:>9} {'period ms':>9} {'n':>6} {'p50 us':>8} {'p99.9':>8} {'max':>8} {'missed':>7} "
                f"{'RTF':>7} {'grows':>6}",
            ]
        found = row["compute_us"]
        lines.append(
            f"  {row['value']:>9} {row['period_us'] / 1000:>9.2f} {row['blocks']:>6} {found['p50']:>8.1f} "
            f"{found['p99.9']:>8.0f} {found['max']:>8.0f} {row['misses']:>7} {row['real_time_factor']:>7.4f} "
            f"{row['real_time_factor'] / first['real_time_factor']:>6.2f}"
        )
        if row["axis"] != "streams":  # more streams are not later
            lines.append(f"    {ledger_line(row)}")
    return "\n".join(lines).lstrip("\n")
