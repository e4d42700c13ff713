"""hearloop profile: the engines side by side on one model, back to back, in one process.

Back-to-back steps find everything in the caches, so they are faster than steps every 8 ms; the ratio of two engines is
what can be learned from them. The engines take turns every few steps, so that both meet the same disturbances.
"""

import argparse
import json
import platform
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np

from ..runtime.compiled_engine import CompiledEngine
from ..runtime.compiler.compiled import Options
from ..runtime.ort import OrtEngine
from ..runtime.states import load_model
from .compile import add_states_argument, parse_states
from .kernels import kernel_table, measure_kernels

TURN = 10  # steps of one engine before it is the other's turn
FRAMES_COMPARED = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="+", help="a bundle, the name of a shipped model, or any streaming ONNX model")
    parser.add_argument("--engine", choices=("both", "ort", "compiled"), default="both")
    parser.add_argument("--steps", type=int, default=2000, help="of each engine (default: 2000)")
    parser.add_argument("--half-weights", action="store_true", help="also with weights kept as float16")
    parser.add_argument("--per-op", action="store_true", help="then run again and take the time of every kernel")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON as well")
    add_states_argument(parser)


def run(options: argparse.Namespace) -> int:
    reports = [profile(model, options) for model in options.model]
    print(f"back to back, one thread, {options.steps} steps, times in us; {_processor()[:30]}")
    print(f"{'model':<20} {'engine':<13} {'min':>8} {'median':>8} {'p99':>8} {'ratio':>11} {'GMAC/s':>6}")
    for report in reports:
        print(_table(report))
        if "kernels" in report:
            print(kernel_table(report["kernels"]))
    if options.json:
        options.json.write_text(json.dumps(reports, indent=2) + "\n")
    return 0


def profile(model: str, options: argparse.Namespace) -> dict[str, Any]:
    """Time the engines on one model, and compare what they put out."""
    bundle = load_model(model, parse_states(options.states))
    calls: dict[str, Any] = {}
    engines: dict[str, Any] = {}
    if options.engine in ("both", "ort"):
        engines["ort"] = OrtEngine(bundle)
        calls["ort"] = _plain_call(engines["ort"])
        calls["ort bound"] = engines["ort"].run
    if options.engine in ("both", "compiled"):
        forms = {"compiled": Options()}
        if options.half_weights:
            forms["compiled f16"] = Options(half_weights=True)
        for name, form in forms.items():
            engines[name] = CompiledEngine(bundle, form)
            calls[name] = engines[name].run
    report: dict[str, Any] = {"model": bundle.info.name, "macs": None, "errors": {}}
    for name, engine in engines.items():
        if name != "ort":
            report["macs"] = sum(kernel["macs"] for kernel in engine.compiled.plan["kernels"])
            if "ort" in engines:
                report["errors"][name] = compare(engines["ort"], engine)
    random = np.random.default_rng(1)
    for engine in engines.values():
        for array in engine.inputs.values():
            array[...] = 0.3 * random.standard_normal(array.shape)
    report["times_us"] = _times(calls, options.steps)
    if options.per_op:
        report["kernels"] = measure_kernels(bundle, options.steps, options.half_weights)
    return report


def compare(first: Any, second: Any, frames: int = FRAMES_COMPARED) -> float:
    """Run two engines over the same frames, states carried: largest difference as a fraction of the largest output."""
    random = np.random.default_rng(0)
    first.reset()
    second.reset()
    error = largest = 0.0
    for _ in range(frames):
        frame = {name: random.standard_normal(array.shape) for name, array in first.inputs.items()}
        one, other = first.step(frame), second.step(frame)
        for name, values in one.items():
            error = max(error, float(np.abs(values - other[name]).max()))
            largest = max(largest, float(np.abs(values).max()))
    return error / max(largest, 1e-30)


def _plain_call(engine: OrtEngine) -> Any:
    """ONNX Runtime as most programs call it: a dictionary in, a list out."""
    feeds = {**engine.inputs, **engine.save_state()}
    return lambda: engine.session.run(None, feeds)


def _times(calls: dict[str, Any], steps: int) -> dict[str, dict[str, float]]:
    found: dict[str, list[int]] = {name: [] for name in calls}
    for call in calls.values():
        for _ in range(2 * TURN):
            call()
    for _ in range(max(steps // TURN, 1)):
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


def _table(report: dict[str, Any]) -> str:
    lines = []
    times = report["times_us"]
    for name, found in times.items():
        line = f"{report['model'][:20]:<20} {name:<13} {found['min']:8.1f} {found['median']:8.1f} {found['p99']:8.1f}"
        if name.startswith("compiled"):
            if "ort" in times:
                ratios = (times["ort"][key] / found[key] for key in ("min", "median"))
                line += f" {' / '.join(f'{ratio:.1f}' for ratio in ratios):>11}"
            else:
                line += f" {'':>11}"
            line += f" {report['macs'] / found['min'] / 1000:6.1f}"
        lines.append(line)
    for name, error in report["errors"].items():
        lines.append(f"  {name}: differs by {error:.1e} of the largest output over {FRAMES_COMPARED} frames")
    return "\n".join(lines)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
