"""The report of a run as data: what the JSON file holds, and what every other form of it is made from.

`schema.json`, beside this file, says what must be in it; docs/profile.md says what it means. Whoever changes the
meaning of a key, or takes one away, raises `VERSION`.
"""

import csv
import math
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from ...runtime.errors import HearloopError
from ...runtime.stages import STAGES
from .machine import machine
from .resources import peak_resident_bytes, resident_bytes
from .schedule import Samples

FORMAT, VERSION = "hearloop profile", 2
SCHEMA = Path(__file__).with_name("schema.json")
CSV_COLUMNS = ("row", "block", "turn", "lateness_us", "compute_us", "slack_us", "processor_us", *STAGES)


def document(mode: str, settings: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
    """A report.

    Parameters
    ----------
    mode : str
        "paced", "live", "back-to-back", "per-op", "sweep" or "loopback". Figures of two modes do not compare.
    settings : mapping
        What was asked for.
    content : mapping
        What was found; its keys depend on the mode.
    """
    return {
        "format": FORMAT,
        "version": VERSION,
        "mode": mode,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": sys.argv[1:],
        "settings": dict(settings),
        "environment": machine(),
        "memory": {"resident_bytes": resident_bytes(), "peak_resident_bytes": peak_resident_bytes()},
        **content,
    }


def check_document(content: Any, where: str, modes: Sequence[str]) -> dict[str, Any]:
    """What was read from a file, if it is a report of one of these modes.

    Raises
    ------
    HearloopError
        If it is something else, or of another version.
    """
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise HearloopError(f'{where}: not a report of `hearloop profile` (no "format": "{FORMAT}")')
    if content.get("version") != VERSION:
        raise HearloopError(f"{where}: version is {content.get('version')!r}; expected {VERSION}")
    if content.get("mode") not in modes:
        raise HearloopError(f"{where}: mode is {content.get('mode')!r}; expected {' or '.join(modes)}")
    if not isinstance(content.get("rows"), list) or not content["rows"]:
        raise HearloopError(f"{where}: rows is {content.get('rows')!r}; expected a list of at least one")
    for key in ("settings", "environment"):
        if not isinstance(content.get(key), dict):
            raise HearloopError(f"{where}: {key} is {content.get(key)!r}; expected an object")
    for index, row in enumerate(content["rows"]):
        _check_row(row, f"{where}: rows[{index}]")
    return content


def _check_row(row: Any, where: str) -> None:
    """Refuse a row that could not be compared with another."""
    if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("name", "model")):
        raise HearloopError(f"{where} is no object with a name and a model")
    turns = row.get("turns")
    if not isinstance(turns, list) or not turns:
        raise HearloopError(f"{where}: turns is {turns!r}; expected a list of at least one")
    for turn in turns:
        times = [turn.get("p50"), turn.get("model_p50", 1.0)] if isinstance(turn, dict) else [None]
        if not all(isinstance(time, int | float) and 0 < time < math.inf for time in times):
            raise HearloopError(f"{where}: a turn is {turn!r}; expected finite times above 0")
    ledger = row.get("ledger")
    if ledger and not (isinstance(ledger, dict) and isinstance(ledger.get("total_ms"), int | float)):
        raise HearloopError(f"{where}: ledger is {ledger!r}; expected an object with total_ms, or null")


def finite(content: Any) -> Any:
    """The same with None for every number that is not finite: JSON has no word for those."""
    if isinstance(content, dict):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def write_csv(path: Path, measured: Mapping[str, Samples]) -> None:
    """Every single block of every row, by the name of the row; times in us, stages too."""
    try:
        with open(path, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(CSV_COLUMNS)
            for name, samples in measured.items():
                times = np.column_stack(
                    [samples.lateness, samples.compute, samples.slack, samples.processor, samples.stages]
                )
                for index, row in enumerate(times / 1000):
                    writer.writerow([name, index, samples.turn[index], *(f"{value:.3f}" for value in row)])
    except OSError as error:
        raise HearloopError(f"{path}: cannot be written ({error})") from error
