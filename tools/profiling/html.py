"""The report as one file for a browser: no server, no network, nothing beside it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...runtime.errors import HearloopError
from .schedule import Samples

TEMPLATE = Path(__file__).with_name("report.html")
PLACE = "/*DATA*/null"


def write_html(path: Path, report: Mapping[str, Any], measured: Mapping[str, Samples]) -> None:
    """Write the page, with every block of every row in it."""
    series = [
        {
            "name": name,
            "period_us": samples.period_ns / 1000,
            "compute": _us(samples.compute),
            "lateness": _us(samples.lateness),
            "missed": np.flatnonzero(samples.slack < 0).tolist(),
        }
        for name, samples in measured.items()
    ]
    # A name may be anything; "</script>" in it must not end the script.
    data = json.dumps({"report": report, "series": series}, separators=(",", ":")).replace("<", "\\u003c")
    try:
        path.write_text(TEMPLATE.read_text(encoding="utf-8").replace(PLACE, data), encoding="utf-8")
    except OSError as error:
        raise HearloopError(f"{path}: cannot be written ({error})") from error


def _us(times_ns: np.ndarray) -> list[float]:
    return np.round(times_ns / 1000, 1).tolist()
