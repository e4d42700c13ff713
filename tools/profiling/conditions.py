"""What must not happen, as a person writes it: `p99.9>4ms,misses>0,stage.model.p50>500us`.

A condition names a figure of the report, says less or greater, and gives a number with its unit. It is held against
every row that is a model's; the reference rows are none.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ...runtime.errors import HearloopError
from ...runtime.stages import STAGES
from .figures import PERCENTILES
from .reference import REFERENCES

# Units of a duration, in us, and of memory, in bytes.
_TIME = {"us": 1.0, "ms": 1e3, "s": 1e6}
_BYTES = {"B": 1.0, "kB": 1e3, "MB": 1e6}
_SHARE = {"": 1.0, "%": 0.01}
_PLAIN = {"": 1.0}
_TIMES = ("min", "mean", *PERCENTILES, "max")
_DISTRIBUTIONS = {"compute": "compute_us", "lateness": "lateness_us", "slack": "slack_us", "first100": "first_100_us"}

# Name -> how to find it in a row, and the units that it is told in.
_NUMBERS: dict[str, tuple[Callable[[dict[str, Any]], float | None], dict[str, float]]] = {
    "misses": (lambda row: row["misses"], _PLAIN),
    "misses_per_hour": (lambda row: row["misses_per_hour"], _PLAIN),
    "longest_miss_run": (lambda row: row["longest_miss_run"], _PLAIN),
    "rested": (lambda row: row["rested"], _PLAIN),
    "failed_frames": (lambda row: row["failed_frames"], _PLAIN),
    "longest_clean": (lambda row: 1e6 * row["longest_clean_s"], _TIME),
    "first": (lambda row: row["first_us"], _TIME),
    "rtf": (lambda row: row["real_time_factor"], _SHARE),
    "cpu": (lambda row: row["resources"]["processor_s"] / row["seconds"], _SHARE),
    "memory_growth": (lambda row: row["resources"]["resident_bytes"], _BYTES),
    "gc": (lambda row: row["resources"]["garbage_collections"], _PLAIN),
    "page_faults": (lambda row: row["resources"]["minor_faults"] + row["resources"]["major_faults"], _PLAIN),
    "latency": (lambda row: row["ledger"] and 1000 * row["ledger"]["total_ms"], _TIME),
}
_FORM = re.compile(r"\s*([a-z_0-9.-]+)\s*([<>])\s*(-?[0-9.]+)\s*([a-zA-Z%]*)\s*")


@dataclass(frozen=True)
class Condition:
    """One of them: it has come true if the figure is less, or greater, than the bound."""

    text: str
    figure: Callable[[dict[str, Any]], float | None]
    greater: bool
    bound: float

    def holds(self, row: dict[str, Any]) -> bool:
        """Whether it has come true; a figure that the row does not have makes no condition true."""
        value = self.figure(row)
        return value is not None and (value > self.bound if self.greater else value < self.bound)


def parse_conditions(text: str) -> list[Condition]:
    """Read conditions that are separated by commas.

    Raises
    ------
    HearloopError
        If one is not understood; the message says what may stand there.
    """
    return [_parse(part.strip()) for part in text.split(",") if part.strip()]


def failures(conditions: Sequence[Condition], rows: Sequence[dict[str, Any]]) -> list[str]:
    """A line for every condition that has come true."""
    return [
        f"{row['name']}: {condition.text} (found {_told(condition, row)})"
        for row in rows
        if row["model"] not in REFERENCES
        for condition in conditions
        if condition.holds(row)
    ]


def _told(condition: Condition, row: dict[str, Any]) -> str:
    return f"{condition.figure(row):g} where the bound is {condition.bound:g}"


def _parse(text: str) -> Condition:
    matched = _FORM.fullmatch(text)
    if matched is None:
        raise HearloopError(f"condition {text!r} is not understood; expected such as p99.9>4ms or misses>0")
    name, sign, number, unit = matched.groups()
    figure, units = _figure(name, text)
    if unit not in units:
        raise HearloopError(f"condition {text!r}: unit is {unit!r}; expected {' or '.join(map(repr, units))}")
    try:
        bound = float(number) * units[unit]
    except ValueError:
        raise HearloopError(f"condition {text!r}: {number!r} is not a number") from None
    return Condition(text, figure, sign == ">", bound)


def _figure(name: str, text: str) -> tuple[Callable[[dict[str, Any]], float | None], dict[str, float]]:
    if name in _NUMBERS:
        return _NUMBERS[name]
    if name in _TIMES:
        return _in_distribution("compute_us", name), _TIME
    first, _, rest = name.partition(".")
    if first in _DISTRIBUTIONS and rest in _TIMES:
        return _in_distribution(_DISTRIBUTIONS[first], rest), _TIME
    stage, _, figure = rest.partition(".")
    if first == "stage" and stage in STAGES and figure in _TIMES:
        return lambda row: row["stages_us"][stage] and row["stages_us"][stage][figure], _TIME
    raise HearloopError(
        f"condition {text!r}: no figure {name!r}; there are {', '.join(_TIMES)}, the same after "
        f"{', '.join(f'{each}.' for each in _DISTRIBUTIONS)} or stage.NAME., and {', '.join(_NUMBERS)}"
    )


def _in_distribution(key: str, name: str) -> Callable[[dict[str, Any]], float | None]:
    return lambda row: row[key] and row[key][name]
