"""The engines side by side on one model, back to back, in one process: what is the ratio, do they agree?

Back-to-back steps find everything in the caches, so they are faster than steps every 8 ms; the ratio of two engines is
what can be learned from them. The engines take turns every few steps, so that both meet the same disturbances.
"""

import math
from collections.abc import Mapping, Sequence
from time import perf_counter_ns
from typing import Any

import numpy as np

from ...runtime.bundle import Bundle
from ...runtime.compiled_engine import CompiledEngine
from ...runtime.compiler.compiled import Options
from ...runtime.ort import OrtEngine
from ...runtime.ort_session import open_session
from .table import number

TURN = 10  # steps of one engine before it is the other's turn
FRAMES_COMPARED = 1000


def measure_back_to_back(
    bundle: Bundle,
    steps: int,
    names: Sequence[str],
    half_weights: bool = False,
    threads: int = 1,
) -> dict[str, Any]:
    """Time the engines of these names on one model, and compare what they put out.

    The engines take turns of ten steps, so that as many as fill the last turn are added to `steps`.

    Returns
    -------
    dict
        `model`, `macs` of a step if it was compiled, `times_us` by engine (min, median, p99, max), and `errors`, the
        largest difference to ONNX Runtime as a fraction of the largest output.
    """
    calls: dict[str, Any] = {}
    engines: dict[str, Any] = {}
    if "ort" in names:
        engines["ort"] = OrtEngine(bundle, open_session(bundle.model, threads, streaming=True))
        calls["ort"] = _plain_call(engines["ort"])
        calls["ort bound"] = engines["ort"].run
    if "compiled" in names:
        forms = {"compiled": Options()}
        if half_weights:
            forms["compiled f16"] = Options(half_weights=True)
        for name, form in forms.items():
            engines[name] = CompiledEngine(bundle, form)
            calls[name] = engines[name].run
    report: dict[str, Any] = {"model": bundle.info.name, "macs": None, "errors": {}}
    for name, opened in engines.items():
        if name != "ort":
            report["macs"] = sum(kernel["macs"] for kernel in opened.compiled.plan["kernels"])
            if "ort" in engines:
                report["errors"][name] = largest_difference(engines["ort"], opened)
    random = np.random.default_rng(1)
    for opened in engines.values():
        for array in opened.inputs.values():
            array[...] = 0.3 * random.standard_normal(array.shape)
    report["times_us"] = _times(calls, steps)
    return report


def largest_difference(first: Any, second: Any, frames: int = FRAMES_COMPARED) -> float:
    """Run two engines over the same frames, states carried: largest difference as a fraction of the largest output.

    Infinite if anything that either of them gives is not a finite number.
    """
    random = np.random.default_rng(0)
    first.reset()
    second.reset()
    error = largest = 0.0
    for _ in range(frames):
        frame = {name: random.standard_normal(array.shape) for name, array in first.inputs.items()}
        one, other = first.step(frame), second.step(frame)
        for name, values in one.items():
            if not (np.isfinite(values).all() and np.isfinite(other[name]).all()):
                return math.inf
            error = max(error, float(np.abs(values - other[name]).max()))
            largest = max(largest, float(np.abs(values).max()))
    return error / max(largest, 1e-30)


def back_to_back_table(report: Mapping[str, Any], steps: int) -> str:
    lines = [
        f"back to back, {steps} steps of each; NOT the time of a block on a device, see --help",
        "ort: session.run, as most programs call it; ort bound: all tensors stay in place",
        "ratio: the faster of these two / compiled; minima / medians",
        f"{'model':<20} {'engine':<13} {'min us':>8} {'median':>8} {'p99':>8} {'ratio':>11} {'GMAC/s':>6}",
    ]
    return "\n".join([*lines, *(_rows(row) for row in report["rows"])])


def _plain_call(engine: OrtEngine) -> Any:
    """ONNX Runtime as most programs call it: a dictionary in, a list out."""
    feeds = {**engine.inputs, **engine.save_state()}
    return lambda: engine.session.run(None, feeds)


def _times(calls: Mapping[str, Any], steps: int) -> dict[str, dict[str, float]]:
    found: dict[str, list[int]] = {name: [] for name in calls}
    for call in calls.values():
        for _ in range(2 * TURN):
            call()
    for _ in range(-(-steps // TURN)):
        for name, call in calls.items():
            for _ in range(TURN):
                started = perf_counter_ns()
                call()
                found[name].append(perf_counter_ns() - started)
    summary = {}
    for name, times in found.items():
        us = np.array(times) / 1000
        summary[name] = {
            "min": float(us.min()),
            "median": float(np.median(us)),
            "p99": float(np.percentile(us, 99)),
            "max": float(us.max()),
        }
    return summary


def _rows(report: Mapping[str, Any]) -> str:
    lines = []
    times = report["times_us"]
    for name, found in times.items():
        line = f"{report['model'][:20]:<20} {name:<13} " + " ".join(
            f"{number(found[key]):>8}" for key in ("min", "median", "p99")
        )
        if name.startswith("compiled"):
            runtime = [times[each] for each in ("ort", "ort bound") if each in times]
            if runtime:
                ratios = (min(each[key] for each in runtime) / found[key] for key in ("min", "median"))
                line += f" {' / '.join(f'{ratio:.1f}' for ratio in ratios):>11}"
            else:
                line += f" {'':>11}"
            line += f" {report['macs'] / found['min'] / 1000:6.1f}"
        lines.append(line)
    for name, error in report["errors"].items():
        lines.append(f"  {name}: differs by {error:.1e} of the largest output over {FRAMES_COMPARED} frames")
    return "\n".join(lines)
