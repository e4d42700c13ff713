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

from ..runtime.errors import HearloopError
from ..runtime.live import PATHS
from ..runtime.load import load_step
from .compile import add_states_argument, parse_states, print_notes
from .files import check_writable, write_json
from .profiling.compare import TOLERANCE, compare, comparison_table, differences
from .profiling.conditions import Condition, failures, parse_conditions
from .profiling.document import check_document, finite, write_csv
from .profiling.html import write_html
from .profiling.modes import (
    ENGINES,
    check_numbers,
    run_back_to_back,
    run_live,
    run_loopback,
    run_paced,
    run_per_op,
    run_sweep,
)
from .profiling.schedule import Samples
from .profiling.signals import SIGNALS

FAILED = 3  # exit status of a condition that has come true, or of a comparison that found something worse


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
    _check(options)
    conditions = parse_conditions(options.fail_on or "")
    baseline = _baseline(options)
    bundles = [load_step(model, parse_states(options.states)) for model in options.model]
    for bundle in bundles:
        print_notes(bundle)
    measured: dict[str, Samples] = {}
    if options.back_to_back:
        report = run_back_to_back(bundles, options)
    elif options.per_op:
        report = run_per_op(bundles, options)
    elif options.loopback:
        report = run_loopback(options)
    elif options.sweep:
        report = run_sweep(bundles, options)
    elif options.live:
        report, measured = run_live(bundles, options)
    else:
        report, measured = run_paced(bundles, options)
    try:
        return _judge(report, conditions, baseline, options)
    finally:  # what was measured is kept, whatever becomes of the judgement
        _write(finite(report), measured, options)


def _check(options: argparse.Namespace) -> None:
    """Refuse what cannot be done before anything is measured."""
    if not options.model and not options.loopback:
        raise HearloopError("nothing to measure; expected a model")
    check_numbers(options)
    other = options.back_to_back or options.per_op or options.loopback
    if other and options.fail_on:
        raise HearloopError("--fail-on goes with paced, live and sweep runs")
    if (other or options.sweep) and (options.compare or options.csv or options.png or options.html):
        raise HearloopError("--compare, --csv, --png and --html go with paced and live runs")
    for path in (options.json, options.csv, options.png, options.html):
        if path:
            check_writable(path)
    if options.png:
        from matplotlib.backend_bases import FigureCanvasBase  # an extra: better missed now than after the run

        forms = FigureCanvasBase.get_supported_filetypes()
        if options.png.suffix[1:].lower() not in forms:
            raise HearloopError(
                f"{options.png} is no name of a picture; expected one that ends with .{', .'.join(forms)}"
            )


def _judge(report: dict[str, Any], conditions: Sequence[Condition], baseline: Any, options: argparse.Namespace) -> int:
    """Exit status; what has come true is printed and kept in the report."""
    status = 0
    if conditions:
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
    try:
        content = json.loads(options.compare.read_text())
    except (OSError, ValueError) as error:
        raise HearloopError(f"{options.compare}: not a readable report ({error})") from error
    return check_document(content, str(options.compare), ["live" if options.live else "paced"])


def _write(report: dict[str, Any], measured: dict[str, Samples], options: argparse.Namespace) -> None:
    if options.json:
        write_json(options.json, report)
    if options.csv:
        write_csv(options.csv, measured)
    if options.html:
        write_html(options.html, report, measured)
    if options.png:
        from .profiling.plots import draw_report  # matplotlib is an extra

        draw_report(options.png, report, measured)
