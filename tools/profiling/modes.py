"""The modes of `hearloop profile`: each measures, prints what it has found, and returns its report.

Paced and live also return the times of every block, by the name of the row.
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...runtime.auto_engine import Compilation
from ...runtime.bundle import Bundle
from ...runtime.compiled_engine import CompiledEngine
from ...runtime.compiler.cache import lookup
from ...runtime.compiler.compiled import Options
from ...runtime.devices import Device
from ...runtime.errors import EngineError, HearloopError
from ...runtime.ort import OrtEngine
from ...runtime.portaudio import PortAudioDevice
from ...runtime.software_device import SoftwareDevice
from ..kernels import kernel_table, measure_kernels
from .back_to_back import TURN, back_to_back_table, largest_difference, measure_back_to_back
from .clock import RealClock
from .document import document
from .live import cost_of_logging_ns, measure_live
from .loopback import connect_jack, loopback_table, measure_loopback
from .machine import temperatures_c
from .measure import ledger_json, measure
from .nodes import measure_nodes, node_table
from .reference import REFERENCES, references
from .schedule import Samples, cost_of_measuring_ns
from .stress import stress
from .subjects import LARGEST_BLOCK, Subject, Work, open_subject
from .sweep import parse_axis, sweep, sweep_table
from .table import ledger_table, machine_line, report_table, wrapped

BLOCK_S = 0.008
ENGINES = ("compiled", "ort")

Measured = tuple[dict[str, Any], dict[str, Samples]]


def run_paced(bundles: Sequence[Bundle], options: argparse.Namespace) -> Measured:
    """Every model with every engine, and the reference rows, at the pace of a device."""
    work, clock = _work(options), RealClock()
    subjects, refused = references(work), []
    named = _told_apart(bundles)
    for name, bundle in named.items():
        opened, complaints = _open(name, bundle, work, options)
        subjects += opened
        refused += complaints
    with _stress(options):
        cost_ns = max(cost_of_measuring_ns(subject.job, clock) for subject in subjects)
        rows, conditions = measure(subjects, options.seconds, clock)
    report = document(
        "paced",
        _settings(work, options),
        {
            "conditions": {"scheduling": conditions.scheduling, "memory": conditions.memory},
            "measuring": _measuring(cost_ns, min(row.samples.period_ns for row in rows)),
            "rows": [row.to_json() for row in rows],
            "engines": _engines(named, [row.to_json() for row in rows]),
            "refused": refused,
            "temperature_end_c": temperatures_c(),
        },
    )
    print(report_table(report))
    print("\n".join(["", *(_engine_line(found) for found in report["engines"])]).rstrip())
    _print_refused(refused)
    return report, {row.subject.name: row.samples for row in rows}


def _told_apart(bundles: Sequence[Bundle]) -> dict[str, Bundle]:
    """Models by name; those of one name are numbered, as `model.onnx` of two folders, or one like a reference row."""
    named: dict[str, Bundle] = {}
    for bundle in bundles:
        name, number = bundle.info.name, 1
        while name in named or name in REFERENCES:
            number += 1
            name = f"{bundle.info.name} ({number})"
        named[name] = bundle
    return named


def _open(name: str, bundle: Bundle, work: Work, options: argparse.Namespace) -> tuple[list[Subject], list[str]]:
    """The model with each engine that runs it; an engine that was not asked for by name may refuse."""
    opened, refused = [], []
    for engine in _engine_names(options):
        try:
            opened.append(replace(open_subject(bundle, engine, work), model=name))
        except EngineError as error:
            if options.engine != "both":
                raise
            refused.append(f"{name}: not with engine {engine}: {error}")
    return opened, refused


def _print_refused(refused: Sequence[str]) -> None:
    for complaint in refused:
        print(wrapped(complaint))


def _engines(named: Mapping[str, Bundle], rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For models that both engines ran and that never rested: the ratio of their times, and whether they agree."""
    found = []
    for name, bundle in named.items():
        stages = {
            row["engine"]: row["stages_us"]["model"] for row in rows if row["model"] == name and not row["rested"]
        }
        if set(ENGINES) <= stages.keys() and all(stages.values()):
            found.append(
                {
                    "model": name,
                    "times_faster": {key: stages["ort"][key] / stages["compiled"][key] for key in ("min", "p50")},
                    "largest_difference": largest_difference(OrtEngine(bundle), CompiledEngine(bundle)),
                }
            )
    return found


def _engine_line(found: dict[str, Any]) -> str:
    times = found["times_faster"]
    return (
        f"{found['model']}: compiled is {times['min']:.1f} (minima) / {times['p50']:.1f} (medians) times faster than\n"
        f"  ONNX Runtime, paced; its output differs by {found['largest_difference']:.1e} of the largest"
    )


def run_live(bundles: Sequence[Bundle], options: argparse.Namespace) -> Measured:
    """One model after the other, in a stream of the device that was asked for."""
    rows, loops, blocks = [], [], []
    engine = "auto" if options.engine == "both" else options.engine
    for bundle in bundles:
        if engine == "auto" and lookup(bundle, Options()) is None:
            # Else the run would begin with ONNX Runtime, and all its blocks would bear the name of what it ends with.
            print(f"compiling {bundle.info.name}, this once", flush=True)
            Compilation(bundle).engine()
    with _stress(options):
        for name, bundle in _told_apart(bundles).items():
            row, stats = measure_live(bundle, _device(options), options.seconds, engine, options.path)
            row.subject.model = name
            rows.append(row)
            loops.append(stats)
    for row, stats in zip(rows, loops, strict=True):
        if not len(row.samples):
            raise HearloopError(f"{row.subject.model}: no block was played within {options.seconds:g} s")
        blocks.append(round(row.samples.period_ns * stats["sample_rate"] / 1e9))
    work = Work(loops[0]["sample_rate"], loops[0]["channels"], blocks[0], signal="")
    threads = ", ".join(f"{name} {granted}" for name, granted in loops[0]["environment"]["scheduling"].items())
    report = document(
        "live",
        {**_settings(work, options), "device": loops[0]["device"], "path": loops[0]["path"]},
        {
            "conditions": {"scheduling": threads, "memory": loops[0]["environment"]["memory"]},
            "measuring": _measuring(cost_of_logging_ns(), min(row.samples.period_ns for row in rows)),
            "rows": [row.to_json() for row in rows],
            "loops": loops,
            "temperature_end_c": temperatures_c(),
        },
    )
    print(report_table(report))
    return report, {row.subject.name: row.samples for row in rows}


def run_back_to_back(bundles: Sequence[Bundle], options: argparse.Namespace) -> dict[str, Any]:
    """The engines beside each other, without pauses."""
    rows: list[dict[str, Any]] = []
    refused: list[str] = []
    steps = -(-options.steps // TURN) * TURN
    if steps != options.steps:
        print(f"{steps} steps instead of {options.steps}: the engines take turns of {TURN}")
    with _stress(options):
        for name, bundle in _told_apart(bundles).items():
            opened, complaints = _open(name, bundle, _work(options), options)
            refused += complaints
            engines = [subject.engine for subject in opened]
            row = measure_back_to_back(bundle, steps, engines, options.half_weights, options.threads)
            rows.append(row | {"model": name, "ledgers": _ledgers(opened)})
    report = document("back-to-back", {"steps": steps, "threads": options.threads}, {"rows": rows, "refused": refused})
    print(machine_line(report["environment"]))
    print(back_to_back_table(report, steps))
    for row in rows:
        _print_ledgers(row)
    _print_refused(refused)
    return report


def run_per_op(bundles: Sequence[Bundle], options: argparse.Namespace) -> dict[str, Any]:
    """Inside the model, kernel by kernel and node by node."""
    rows: list[dict[str, Any]] = []
    refused: list[str] = []
    for name, bundle in _told_apart(bundles).items():
        opened, complaints = _open(name, bundle, _work(options), options)
        engines = [subject.engine for subject in opened]
        row: dict[str, Any] = {"model": name, "ledgers": _ledgers(opened)}
        print(f"{name}, back to back, in a run of its own: times tell shares, not how long a step takes")
        if "compiled" in engines:
            row["compiled"] = measure_kernels(bundle, options.steps, options.half_weights)
            print(kernel_table(row["compiled"]))
        if "ort" in engines:
            row["ort"] = measure_nodes(bundle, options.steps)
            print(node_table(row["ort"]))
        _print_ledgers(row)
        _print_refused(complaints)
        rows.append(row)
        refused += complaints
    return document("per-op", {"steps": options.steps}, {"rows": rows, "refused": refused})


def _ledgers(opened: Sequence[Subject]) -> list[dict[str, Any]]:
    """The delays that the model would have in the chain, with each engine, where the chain itself is not run."""
    return [
        {"name": subject.name, "ledger": ledger_json(subject.ledger), "period_us": subject.job.period_ns / 1000}
        for subject in opened
    ]


def _print_ledgers(row: dict[str, Any]) -> None:
    for found in row["ledgers"]:
        print(f"\n{ledger_table(found)}")


def run_sweep(bundles: Sequence[Bundle], options: argparse.Namespace) -> dict[str, Any]:
    """Paced, over every axis that was asked for."""
    work = _work(options)
    axes = [parse_axis(text) for text in options.sweep]
    models: dict[str, tuple[Bundle, list[str]]] = {}
    refused: list[str] = []
    for name, bundle in _told_apart(bundles).items():
        opened, complaints = _open(name, bundle, work, options)
        models[name] = bundle, [subject.engine for subject in opened]
        refused += complaints
    with _stress(options):
        rows = sweep(models, axes, work, options.seconds)
    report = document("sweep", _settings(work, options), {"rows": rows, "refused": refused})
    print(machine_line(report["environment"]))
    print(sweep_table(rows))
    _print_refused(refused)
    return report


def run_loopback(options: argparse.Namespace) -> dict[str, Any]:
    """The round trip through a device, alone or with the live loop."""
    device = _device(options)
    engine = "auto" if options.engine == "both" else options.engine
    connect = connect_jack if options.jack_loopback else lambda: None
    model = options.model[0] if options.model else None
    found = measure_loopback(device, model, engine, options.path, connect=connect)
    report = document("loopback", {"device": device.name}, {"rows": [], "loopback": found})
    print(loopback_table(report))
    return report


def check_numbers(options: argparse.Namespace) -> None:
    """Refuse numbers that nothing can be measured with.

    Raises
    ------
    HearloopError
        If one that is to be positive and finite is not, or a block is longer than there are.
    """
    for name in ("seconds", "samplerate", "channels", "block", "period_ms", "threads", "steps"):
        value = getattr(options, name)
        if value is not None and not 0 < value < math.inf:
            raise HearloopError(f"--{name.replace('_', '-')} is {value}; expected a positive number")
    block = _work(options).block
    if not 0 < block <= LARGEST_BLOCK:
        raise HearloopError(f"a block has {block} samples; expected 1 to {LARGEST_BLOCK}")


def _engine_names(options: argparse.Namespace) -> tuple[str, ...]:
    return ENGINES if options.engine == "both" else (options.engine,)


def _work(options: argparse.Namespace) -> Work:
    rate = 16000 if options.samplerate is None else options.samplerate
    block = round(BLOCK_S * rate) if options.block is None else options.block
    return Work(rate, options.channels, block, options.period_ms, options.signal, options.threads)


def _settings(work: Work, options: argparse.Namespace) -> dict[str, Any]:
    disturbances = {"processes": options.load, "gil_threads": options.gil_load, "garbage": int(options.gc_load)}
    return {**vars(work), "seconds": options.seconds, "stress": disturbances}


def _stress(options: argparse.Namespace) -> Any:
    return stress(options.load, options.gil_load, options.gc_load)


def _measuring(cost_ns: int, period_ns: int) -> dict[str, float]:
    return {"us_per_block": round(cost_ns / 1000, 3), "share": round(cost_ns / period_ns, 6)}


def _device(options: argparse.Namespace) -> Device:
    if options.software:
        return SoftwareDevice.from_file(options.software, seconds=options.seconds + 1, keep_output=False)
    return PortAudioDevice(options.input, options.output, options.channels, options.samplerate, options.latency)
