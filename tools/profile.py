"""hearloop profile: will it hold, and where does the time go?

Six ways of measuring, whose figures do not compare: paced (the default: a block every 8 ms, as on a device),
--back-to-back (engines side by side, without pauses), --live (inside a running stream), --loopback (the delay of a
device), --per-op (inside the model), --sweep (paced, with more and more work).
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..runtime.bundle import Bundle
from ..runtime.compiled_engine import CompiledEngine
from ..runtime.devices import Device
from ..runtime.errors import EngineError, HearloopError
from ..runtime.live import PATHS
from ..runtime.ort import OrtEngine
from ..runtime.portaudio import PortAudioDevice
from ..runtime.software_device import SoftwareDevice
from ..runtime.states import load_model
from .compile import add_states_argument, parse_states
from .kernels import kernel_table, measure_kernels
from .live import write_json
from .profiling.back_to_back import back_to_back_table, largest_difference, measure_back_to_back
from .profiling.clock import RealClock
from .profiling.compare import TOLERANCE, compare, comparison_table, differences
from .profiling.conditions import failures, parse_conditions
from .profiling.document import check_document, document, write_csv
from .profiling.html import write_html
from .profiling.loopback import connect_jack, loopback_table, measure_loopback
from .profiling.machine import temperatures_c
from .profiling.nodes import measure_nodes, node_table
from .profiling.reference import references
from .profiling.runner import measure
from .profiling.running import cost_of_logging_ns, measure_live
from .profiling.schedule import Samples, cost_of_measuring_ns
from .profiling.signals import SIGNALS
from .profiling.stress import stress
from .profiling.subjects import Subject, Work, open_subject
from .profiling.sweep import parse_axis, sweep, sweep_table
from .profiling.table import machine_line, report_table

FAILED = 3  # exit status of a condition that has come true, or of a comparison that found something worse
BLOCK_S = 0.008
ENGINES = ("compiled", "ort")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="*", help="a bundle, the name of a shipped model, or any streaming ONNX model")
    modes = parser.add_argument_group("what to measure (default: paced)").add_mutually_exclusive_group()
    modes.add_argument("--back-to-back", action="store_true", help="compare engines, step after step without a pause")
    modes.add_argument("--live", action="store_true", help="inside a running stream of a sound device")
    modes.add_argument("--loopback", action="store_true", help="the round trip through a device, with a model or alone")
    modes.add_argument("--per-op", action="store_true", help="the time of every kernel, or node, of the model")
    modes.add_argument(
        "--sweep", action="append", metavar="AXIS=A,B,...", help="paced, over blocks, rates, channels or streams"
    )
    work = parser.add_argument_group("the work")
    work.add_argument("--engine", choices=("both", *ENGINES), default="both")
    work.add_argument("--seconds", type=float, default=10.0, help="of each row (default: 10)")
    work.add_argument("--steps", type=int, default=2000, help="back to back and per op (default: 2000)")
    work.add_argument("--threads", type=int, default=1, help="of ONNX Runtime; compiled code has one (default: 1)")
    work.add_argument("--samplerate", type=int, metavar="HZ", help="default: 16000, or what the device prefers")
    work.add_argument("--channels", type=int, default=1)
    work.add_argument("--block", type=int, metavar="SAMPLES", help="default: 8 ms")
    work.add_argument("--period-ms", type=float, default=8.0, help="between steps of a model that is no bundle")
    work.add_argument("--signal", choices=SIGNALS, default="noise")
    work.add_argument("--half-weights", action="store_true", help="back to back: also with weights kept as float16")
    add_states_argument(work)
    disturbance = parser.add_argument_group("stress")
    disturbance.add_argument("--load", type=int, default=0, metavar="N", help="busy processes")
    disturbance.add_argument("--gil-load", type=int, default=0, metavar="N", help="busy Python threads")
    disturbance.add_argument("--gc-load", action="store_true", help="a thread that makes and collects garbage")
    output = parser.add_argument_group("output")
    for form, text in (("json", "everything"), ("csv", "every block"), ("png", "a picture"), ("html", "a page")):
        output.add_argument(f"--{form}", type=Path, metavar="FILE", help=text)
    output.add_argument("--compare", type=Path, metavar="BASELINE.json", help="status 3 if it has become worse")
    output.add_argument("--tolerance", type=float, default=100 * TOLERANCE, metavar="%", help="default: %(default)g")
    output.add_argument("--fail-on", metavar="CONDITIONS", help='status 3 if one is true: "p99.9>4ms,misses>0"')
    device = parser.add_argument_group("device")
    device.add_argument("--path", choices=PATHS, default="auto")
    device.add_argument("--input", metavar="DEVICE", help="index or part of the name")
    device.add_argument("--output", metavar="DEVICE")
    device.add_argument("--latency", choices=("low", "high"), default="low")
    device.add_argument("--software", type=Path, metavar="FILE", help="a sound file as microphone; no sound card")
    device.add_argument("--jack-loopback", action="store_true", help="let JACK lead the output into the input")


def run(options: argparse.Namespace) -> int:
    if not options.model and not options.loopback:
        raise HearloopError("nothing to measure; expected a model")
    conditions = parse_conditions(options.fail_on or "")
    baseline = _baseline(options)
    bundles = [load_model(model, parse_states(options.states)) for model in options.model]
    measured: dict[str, Samples] = {}
    if options.back_to_back:
        report = _back_to_back(bundles, options)
    elif options.per_op:
        report = _per_op(bundles, options)
    elif options.loopback:
        report = _loopback(options)
    elif options.sweep:
        report = _sweep(bundles, options)
    elif options.live:
        report, measured = _live(options)
    else:
        report, measured = _paced(bundles, options)
    status = _judge(report, conditions, baseline, options)
    _write(report, measured, options)
    return status


def _paced(bundles: Sequence[Bundle], options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Samples]]:
    work, clock = _work(options), RealClock()
    subjects, refused = references(work), []
    for bundle in bundles:
        opened, complaints = _open(bundle, work, options)
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
            "engines": _engines(bundles, [row.to_json() for row in rows]),
            "refused": refused,
            "temperature_end_c": temperatures_c(),
        },
    )
    print(report_table(report))
    print("\n".join(["", *(_engine_line(found) for found in report["engines"]), *refused]).rstrip())
    return report, {row.subject.name: row.samples for row in rows}


def _open(bundle: Bundle, work: Work, options: argparse.Namespace) -> tuple[list[Subject], list[str]]:
    """The model with each engine that runs it; an engine that was not asked for by name may refuse."""
    opened, refused = [], []
    for engine in _engine_names(options):
        try:
            opened.append(open_subject(bundle, engine, work))
        except EngineError as error:
            if options.engine != "both":
                raise
            refused.append(f"{bundle.info.name}: not with engine {engine}: {error}")
    return opened, refused


def _engines(bundles: Sequence[Bundle], rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For models that were run with both engines: the ratio of their times in the model, and whether they agree."""
    found = []
    for bundle in bundles:
        stages = {row["engine"]: row["stages_us"]["model"] for row in rows if row["model"] == bundle.info.name}
        if set(ENGINES) <= stages.keys() and all(stages.values()):
            found.append(
                {
                    "model": bundle.info.name,
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


def _live(options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Samples]]:
    rows, loops, blocks = [], [], []
    engine = "auto" if options.engine == "both" else options.engine
    with _stress(options):
        for model in options.model:
            row, stats = measure_live(model, _device(options), options.seconds, engine, options.path)
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


def _back_to_back(bundles: Sequence[Bundle], options: argparse.Namespace) -> dict[str, Any]:
    with _stress(options):
        rows = [
            measure_back_to_back(bundle, options.steps, options.engine, options.half_weights, options.threads)
            for bundle in bundles
        ]
    report = document("back-to-back", {"steps": options.steps, "threads": options.threads}, {"rows": rows})
    print(machine_line(report["environment"]))
    print(back_to_back_table(report, options.steps))
    return report


def _per_op(bundles: Sequence[Bundle], options: argparse.Namespace) -> dict[str, Any]:
    rows = []
    for bundle in bundles:
        row: dict[str, Any] = {"model": bundle.info.name}
        print(f"{bundle.info.name}, back to back, in a run of its own: times tell shares, not how long a step takes")
        if "compiled" in _engine_names(options):
            row["compiled"] = measure_kernels(bundle, options.steps, options.half_weights)
            print(kernel_table(row["compiled"]))
        if "ort" in _engine_names(options):
            row["ort"] = measure_nodes(bundle, options.steps)
            print(node_table(row["ort"]))
        rows.append(row)
    return document("per-op", {"steps": options.steps}, {"rows": rows})


def _sweep(bundles: Sequence[Bundle], options: argparse.Namespace) -> dict[str, Any]:
    work = _work(options)
    axes = [parse_axis(text) for text in options.sweep]
    with _stress(options):
        rows = sweep(bundles, _engine_names(options), axes, work, options.seconds)
    report = document("sweep", _settings(work, options), {"rows": rows})
    print(machine_line(report["environment"]))
    print(sweep_table(rows))
    return report


def _loopback(options: argparse.Namespace) -> dict[str, Any]:
    device = _device(options)
    engine = "auto" if options.engine == "both" else options.engine
    connect = connect_jack if options.jack_loopback else lambda: None
    model = options.model[0] if options.model else None
    found = measure_loopback(device, model, engine, options.path, connect=connect)
    report = document("loopback", {"device": device.name}, {"rows": [], "loopback": found})
    print(loopback_table(report))
    return report


def _judge(report: dict[str, Any], conditions: Sequence[Any], baseline: Any, options: argparse.Namespace) -> int:
    """Exit status; what has come true is printed and kept in the report."""
    status = 0
    if conditions:
        if report["mode"] not in ("paced", "live", "sweep"):
            raise HearloopError(f"--fail-on goes with paced, live and sweep, not with {report['mode']}")
        report["failed"] = failures(conditions, report["rows"])
        print("\n".join(f"FAILED {line}" for line in report["failed"]) or f"none of {options.fail_on}")
        status = FAILED if report["failed"] else 0
    if baseline is not None:
        check_document(baseline, str(options.compare), [report["mode"]])
        verdicts = compare(baseline, report, options.tolerance / 100)
        report["comparison"] = [vars(verdict) for verdict in verdicts]
        print(comparison_table(verdicts, differences(baseline, report)))
        if any(verdict.worse for verdict in verdicts):
            status = FAILED
    return status


def _baseline(options: argparse.Namespace) -> Any:
    """The report to compare with, read before anything is measured."""
    if options.compare is None:
        return None
    mode = "live" if options.live else "paced"
    if options.back_to_back or options.per_op or options.loopback or options.sweep:
        raise HearloopError("--compare goes with paced and live runs")
    try:
        content = json.loads(options.compare.read_text())
    except (OSError, ValueError) as error:
        raise HearloopError(f"{options.compare}: not a readable report ({error})") from error
    return check_document(content, str(options.compare), [mode])


def _write(report: dict[str, Any], measured: dict[str, Samples], options: argparse.Namespace) -> None:
    if options.json:
        write_json(options.json, report)
    if (options.csv or options.png or options.html) and not measured:
        raise HearloopError("--csv, --png and --html go with paced and live runs")
    if options.csv:
        write_csv(options.csv, measured)
    if options.html:
        write_html(options.html, report, measured)
    if options.png:
        from .profiling.plots import draw_report  # matplotlib is an extra

        draw_report(options.png, report, measured)


def _engine_names(options: argparse.Namespace) -> tuple[str, ...]:
    return ENGINES if options.engine == "both" else (options.engine,)


def _work(options: argparse.Namespace) -> Work:
    rate = options.samplerate or 16000
    block = options.block or round(BLOCK_S * rate)
    for name, value in (("seconds", options.seconds), ("samplerate", rate), ("channels", options.channels)):
        if value <= 0:
            raise HearloopError(f"--{name} is {value}; expected a positive number")
    if not 0 < block <= 65536 or options.period_ms <= 0 or options.threads < 1:
        raise HearloopError("--block, --period-ms and --threads must be positive")
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
        return SoftwareDevice.from_file(options.software, seconds=options.seconds + 1)
    return PortAudioDevice(options.input, options.output, options.channels, options.samplerate, options.latency)
