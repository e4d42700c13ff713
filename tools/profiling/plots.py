"""The report as a picture: histogram, time series, and where the time goes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from ...runtime.stages import STAGES
from ..demo_picture import STYLE
from .figures import REST
from .reference import REFERENCES
from .schedule import Samples

matplotlib.use("Agg")
from matplotlib import pyplot as plt

COLOURS = ("#3b6fb6", "#d9822b", "#4d9b5b", "#8e5bb0", "#b0504f", "#5f6b76")
GREY = ("#9aa3ab", "#c3c9ce")
BUDGET_COLOUR = "#c8352b"


def draw_report(path: Path, report: Mapping[str, Any], measured: Mapping[str, Samples]) -> None:
    """Write a PNG. Every block of every row is in it: the axes are logarithmic, and end behind the longest."""
    colours = _colours(report)
    with plt.rc_context(STYLE):
        figure, (above, middle, below) = plt.subplots(
            3, 1, figsize=(10, 11), height_ratios=(1, 1, 0.3 + 0.12 * len(report["rows"])), layout="constrained"
        )
        _histogram(above, report, colours)
        _series(middle, measured, colours)
        _stages(below, report)
        figure.suptitle(f"{report['mode']}, {report['environment']['cpu']}", fontsize=11)
        figure.savefig(path, dpi=110)
        plt.close(figure)


def _colours(report: Mapping[str, Any]) -> dict[str, str]:
    models = [row["name"] for row in report["rows"] if row["model"] not in REFERENCES]
    others = [row["name"] for row in report["rows"] if row["model"] in REFERENCES]
    return {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(models)} | dict(
        zip(others, GREY, strict=False)
    )


def _histogram(axes: plt.Axes, report: Mapping[str, Any], colours: Mapping[str, str]) -> None:
    for row in report["rows"]:
        found = row["compute_us"]["histogram"]
        edges = np.array(found["edges"]) / 1000
        edges[0] = edges[1] / 2
        axes.stairs(found["counts"], edges, color=colours[row["name"]], label=row["name"], linewidth=1.3)
        if found["overflow"]:
            axes.annotate(
                f"{found['overflow']} longer", (edges[-1], found["overflow"]), ha="right", color=colours[row["name"]]
            )
    for period in {row["period_us"] for row in report["rows"]}:
        axes.axvline(period / 1000, color=BUDGET_COLOUR, linewidth=1.5)
    axes.set(title="how long a block takes; red: its time is over", xlabel="ms", ylabel="blocks", xscale="log")
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8)


def _series(axes: plt.Axes, measured: Mapping[str, Samples], colours: Mapping[str, str]) -> None:
    for name, samples in measured.items():
        seconds = np.arange(len(samples)) * samples.period_ns / 1e9
        axes.plot(seconds, samples.compute / 1e6, ".", markersize=2, color=colours[name], label=name, rasterized=True)
        missed = samples.slack < 0
        axes.plot(seconds[missed], samples.compute[missed] / 1e6, "x", markersize=5, color=BUDGET_COLOUR)
    axes.set(title="every block; red: missed", xlabel="time / s", ylabel="ms", yscale="log")


def _stages(axes: plt.Axes, report: Mapping[str, Any]) -> None:
    rows = [row for row in report["rows"] if any(row["stages_us"].values())]
    names = [*STAGES, REST]
    palette = plt.get_cmap("tab10")
    left = np.zeros(len(rows))
    for index, name in enumerate(names):
        shares = [row["stages_us"][name]["share"] if row["stages_us"][name] else 0.0 for row in rows]
        widths = 100 * np.array(shares)
        if widths.any():
            axes.barh([row["name"] for row in rows], widths, left=left, color=palette(index), label=name)
        left += widths
    axes.invert_yaxis()
    axes.set(title="where the time goes", xlabel="% of all time", xlim=(0, 100))
    axes.legend(frameon=False, fontsize=8, ncols=len(names), loc="upper center", bbox_to_anchor=(0.4, -0.35))
