"""Is it slower than it was? Two reports of the same mode, row by row.

Compared is the median block in which the model ran (of all blocks, if one report is too old to tell). It depends on the
machine's state, which may change by half between two runs, so every report has a yardstick: fixed work, measured in the
same minutes. What is judged is

    ratio = (model now / yardstick now) / (model then / yardstick then)

with an interval from a bootstrap over the turns: model and yardstick are drawn from the same turn, because
they have met the same disturbances. The yardstick is no model, so what it corrects it corrects in part: the tolerance
grows by a fifth of what the machine itself has changed. The verdict is

    slower   if the whole interval lies above 1 + tolerance
    faster   if it lies below 1 / (1 + tolerance)
    equal    if the ratio lies between the two, and the interval is no wider than they are apart
    unclear  otherwise, after too few turns, and where the model rested: blocks without it are no measure of it
"""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .reference import REFERENCES, YARDSTICK

TOLERANCE = 0.10
RESAMPLINGS = 2000
CONFIDENCE = 0.95
# The true median lies outside all of five turns in one run of 16, more often than CONFIDENCE allows; no resampling of
# them can tell that.
FEWEST_TURNS = 6
# What must be the same for two runs to be runs of the same thing.
SETTINGS = ("sample_rate", "channels", "block", "signal", "threads", "stress", "period_ms", "path", "device")
SAME_MACHINE = ("cpu", "cores", "governor", "system", "python", "numpy", "onnxruntime", "hearloop")


@dataclass(frozen=True)
class Verdict:
    """What became of one row. Ratios are now / then, corrected by the yardstick."""

    name: str
    outcome: str
    ratio: float = 1.0
    low: float = 1.0
    high: float = 1.0
    tolerance: float = TOLERANCE
    remark: str = ""

    @property
    def worse(self) -> bool:
        return self.outcome in ("slower", "later", "missing")


def compare(then: Mapping[str, Any], now: Mapping[str, Any], tolerance: float = TOLERANCE) -> list[Verdict]:
    """Judge every row of the baseline; a row that is gone is `missing`, one with more delay is `later`."""
    rows = {row["name"]: row for row in now["rows"]}
    before = {row["name"]: row for row in then["rows"]}
    yardsticks = before.get(YARDSTICK), rows.get(YARDSTICK)
    verdicts = []
    for name, old in before.items():
        if name in REFERENCES:
            continue
        if name not in rows:
            verdicts.append(Verdict(name, "missing", remark="is not in this run"))
            continue
        verdicts.append(_speed(name, old, rows[name], yardsticks, tolerance))
        verdicts += _delay(name, old, rows[name])
    return verdicts


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What is not the same about two runs, but for what was measured."""
    found = [
        f"{name}: {then['settings'].get(name)!r} then, {now['settings'].get(name)!r} now"
        for name in SETTINGS
        if then["settings"].get(name) != now["settings"].get(name)
    ]
    found += [
        f"{name}: {then['environment'].get(name)!r} then, {now['environment'].get(name)!r} now"
        for name in SAME_MACHINE
        if then["environment"].get(name) != now["environment"].get(name)
    ]
    hashes = {row["name"]: row.get("sha256") for row in then["rows"]}
    found += [
        f"the file of {row['name']} is another one"
        for row in now["rows"]
        if hashes.get(row["name"], row.get("sha256")) != row.get("sha256")
    ]
    return found


def _speed(
    name: str, old: Mapping[str, Any], new: Mapping[str, Any], yardsticks: tuple[Any, Any], tolerance: float
) -> Verdict:
    random = np.random.default_rng(0)
    ratio, samples, machine, fewest = 1.0, np.ones(RESAMPLINGS), 1.0, FEWEST_TURNS
    key = "model_p50" if all("model_p50" in turn for row in (old, new) for turn in row["turns"]) else "p50"
    for row, yardstick, sign in ((new, yardsticks[1], 1), (old, yardsticks[0], -1)):
        times = np.array([turn[key] for turn in row["turns"]])
        # The yardstick has its model in every block: it is the same by either key.
        fixed = np.array([turn["p50"] for turn in yardstick["turns"]]) if yardstick else np.ones(len(times))
        count = min(len(times), len(fixed))
        fewest = min(fewest, count)
        relative = times[:count] / fixed[:count]
        drawn = np.median(relative[random.integers(0, count, (RESAMPLINGS, count))], axis=1)
        ratio *= float(np.median(relative)) ** sign
        samples *= drawn**sign
        machine *= float(np.median(fixed)) ** sign
    low, high = np.quantile(samples, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    allowed = tolerance + 0.2 * abs(float(np.log(machine)))
    remark = f"the machine itself: {machine:.2f}" if yardsticks[0] and yardsticks[1] else "no yardstick"
    outcome = _outcome(ratio, float(low), float(high), allowed)
    if fewest < FEWEST_TURNS:
        outcome, remark = "unclear", f"{remark}; only {fewest} turns, expected at least {FEWEST_TURNS}: run longer"
    if old.get("rested") or new.get("rested"):
        outcome = "unclear"
        remark += f"; blocks without the model: {old.get('rested', 0)} then, {new.get('rested', 0)} now"
    return Verdict(name, outcome, ratio, float(low), float(high), allowed, remark)


def _outcome(ratio: float, low: float, high: float, tolerance: float) -> str:
    above, below = 1 + tolerance, 1 / (1 + tolerance)
    if low > above:
        return "slower"
    if high < below:
        return "faster"
    return "equal" if below < ratio < above and high / low < above / below else "unclear"


def _delay(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Verdict]:
    """The ledger is no measurement: any difference is one."""
    if not (old.get("ledger") and new.get("ledger")):
        return []
    before, after = old["ledger"]["total_ms"], new["ledger"]["total_ms"]
    if abs(before - after) < 1e-3:
        return []
    outcome = "later" if after > before else "sooner"
    return [Verdict(name, outcome, remark=f"mouth to ear {before:.2f} ms then, {after:.2f} ms now")]


def comparison_table(verdicts: list[Verdict], different: list[str]) -> str:
    lines = ["compared with the baseline: median block with the model, by each yardstick"]
    for verdict in verdicts:
        if verdict.outcome in ("slower", "faster", "equal", "unclear"):
            lines.append(
                f"  {verdict.name[:24]:<24} {verdict.outcome:<8} {verdict.ratio:5.2f} "
                f"({verdict.low:.2f} to {verdict.high:.2f}), tolerance {100 * verdict.tolerance:.0f} %\n"
                + textwrap.fill(verdict.remark, 80, initial_indent=" " * 27, subsequent_indent=" " * 27)
            )
        else:
            lines.append(f"  {verdict.name[:24]:<24} {verdict.outcome:<8} {verdict.remark}")
    lines += [f"  not the same: {each}" for each in different]
    return "\n".join(lines)
