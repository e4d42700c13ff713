"""The report as a person reads it in a terminal of 80 columns."""

from collections.abc import Sequence
from typing import Any

from ...runtime.stages import STAGES
from .figures import REST
from .reference import REFERENCES

NAME, BAR = 24, 40
TIMES = ("min", "p50", "p90", "p99", "p99.9", "max")
SHORT = dict(zip(STAGES, ("in-q", "resam", "anal", "model", "synth", "safe", "out-q"), strict=True))


def report_table(report: dict[str, Any]) -> str:
    """All of a report of mode paced or live."""
    rows = report["rows"]
    parts = [_heading(report), _times(rows), _budget(rows), _promptness(rows), _stages(rows), _resources(report)]
    parts += [ledger_table(row) for row in rows if row["model"] not in REFERENCES]
    parts += [_notes(rows)]
    return "\n\n".join(part for part in parts if part)


def machine_line(environment: dict[str, Any], conditions: dict[str, Any] | None = None) -> str:
    cores = environment["cores"] or []
    facts = [
        environment["cpu"],
        f"{len(cores) or '?'} of {environment['cores_present']} cores",
        f"load {environment['load_average'][0] if environment['load_average'] else '?'}",
        f"governor {environment['governor']}",
        *(f"{name} {value}" for name, value in (conditions or {}).items()),
    ]
    return wrapped(", ".join(facts))


def wrapped(text: str, width: int = 80, indent: str = "  ") -> str:
    """Broken at spaces into lines of at most so many characters."""
    lines, line = [], ""
    for word in text.split(" "):
        if line and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = indent + word
        else:
            line = f"{line} {word}" if line else word
    return "\n".join([*lines, line])


def _heading(report: dict[str, Any]) -> str:
    settings, measuring = report["settings"], report["measuring"]
    pace = {
        "paced": "paced: a block arrives every period, whatever happened to the last one",
        "live": "live: measured inside a running stream",
    }[report["mode"]]
    stress = [f"{value} {name}" for name, value in settings.get("stress", {}).items() if value]
    lines = [
        f"{pace}; {settings['seconds']:g} s",
        f"{settings['channels']} channel(s), {settings['sample_rate']} Hz, blocks of {settings['block']} samples"
        + (f", {settings['signal']}" if settings.get("signal") else "")
        + (f"; stress: {', '.join(stress)}" if stress else ""),
        machine_line(report["environment"], report["conditions"]),
        f"measuring takes at most {measuring['us_per_block']:.1f} us of a block, {100 * measuring['share']:.2f} %",
    ]
    return "\n".join(wrapped(line) if "\n" not in line else line for line in lines)


def _times(rows: Sequence[dict[str, Any]]) -> str:
    lines = [f"{'compute, us':<{NAME}} {'n':>6}" + "".join(f"{name:>8}" for name in TIMES)]
    for row in rows:
        found = row["compute_us"]
        lines.append(
            f"{row['name'][:NAME]:<{NAME}} {row['blocks']:>6}"
            + "".join(_uncertain(number(found[name]), name in found["uncertain"]) for name in TIMES)
        )
    if any(row["compute_us"]["uncertain"] for row in rows):
        lines.append("  ? less than 10 values lie above: too few blocks for this percentile")
    return "\n".join(lines)


def _uncertain(text: str, doubtful: bool) -> str:
    return f"{text + '?' if doubtful else text:>8}"


def number(value: float | None) -> str:
    """At most six characters."""
    if value is None:
        return "-"
    return f"{value:.1f}" if abs(value) < 999.95 else whole(value)


def whole(value: float) -> str:
    """Without a fraction, in at most six characters: above that in thousands (k), millions (M) and so on."""
    for unit in ("", "k", "M", "G"):
        text = f"{value:.0f}{unit}"
        if len(text) <= 6:
            break
        value /= 1000
    return text


def _budget(rows: Sequence[dict[str, Any]]) -> str:
    lines = ["how much of its time each takes: # to the median, = to p99.9, > to the longest"]
    for row in rows:
        found, period = row["compute_us"], row["period_us"]
        marks = [round(BAR * min(found[name] / period, 1)) for name in ("p50", "p99.9", "max")]
        bar = "".join(
            "#" if at < marks[0] else "=" if at < marks[1] else ">" if at < marks[2] else " " for at in range(BAR)
        )
        end = "!" if found["max"] > period else "|"
        shares = " ".join(f"{100 * found[name] / period:4.1f}%" for name in ("p50", "p99.9"))
        lines.append(f"{row['name'][:NAME]:<{NAME}}|{bar}{end} {shares}"[:80])
    return "\n".join(lines)


def _promptness(rows: Sequence[dict[str, Any]]) -> str:
    heads = ("p99", "max", "slack", "missed", "/hour", "in row", "clean")
    lines = [f"{'us; clean in s':<{NAME - 3}}{'late: p50':>10}" + "".join(f"{head:>7}" for head in heads)]
    for row in rows:
        late = row["lateness_us"]
        cells = (
            *(whole(late[name]) for name in ("p50", "p99", "max")),
            whole(row["slack_us"]["min"]),
            whole(row["misses"]),
            whole(row["misses_per_hour"]),
            whole(row["longest_miss_run"]),
            number(row["longest_clean_s"]),
        )
        lines.append(f"{row['name'][:NAME]:<{NAME}}" + "".join(f"{cell:>7}" for cell in cells))
    widths = (11, 17, 10, 9)
    starts = zip(("first call", "first 100: p50", "max", "RTF"), widths, strict=True)
    lines.append(f"{'us':<{NAME}}" + "".join(f"{head:>{width}}" for head, width in starts))
    for row in rows:
        first = row["first_100_us"]
        texts = (number(row["first_us"]), number(first["p50"]), number(first["max"]), f"{row['real_time_factor']:.4f}")
        lines.append(
            f"{row['name'][:NAME]:<{NAME}}"
            + "".join(f"{text:>{width}}" for text, width in zip(texts, widths, strict=True))
        )
    return "\n".join(lines)


def _stages(rows: Sequence[dict[str, Any]]) -> str:
    shown = [row for row in rows if any(row["stages_us"].values())]
    if not shown:
        return ""
    names = [*STAGES, REST]
    lines = [f"{'stages: median us, share':<{NAME}}" + "".join(f"{SHORT.get(name, name):>6}" for name in names)]
    for row in shown:
        found = [row["stages_us"][name] for name in names]
        lines.append(f"{row['name'][:NAME]:<{NAME}}" + "".join(f"{_short(stage):>6}" for stage in found))
        shares = (f"{100 * stage['share']:.0f}%" if stage else "" for stage in found)
        lines.append(f"{'':<{NAME}}" + "".join(f"{share:>6}" for share in shares))
    lines.append("  - is not part of this run; rest is the way in and out, and interruptions")
    return "\n".join(lines)


def _short(stage: dict[str, Any] | None) -> str:
    return "-" if stage is None else f"{stage['p50']:.1f}" if stage["p50"] < 100 else f"{stage['p50']:.0f}"


def _resources(report: dict[str, Any]) -> str:
    rows = report["rows"]
    lines = [
        f"{'':<{NAME}} {'CPU':>6} {'memory':>8} {'kept':>6} {'':>4} {'page':>7} {'switches':>14}",
        f"{'':<{NAME}} {'share':>6} {'kB':>8} {'blocks':>6} {'GC':>4} {'faults':>7} {'waits':>7}{'taken':>7}",
    ]
    for row in rows:
        used = row["resources"]
        faults = used["minor_faults"] + used["major_faults"]
        lines.append(
            f"{row['name'][:NAME]:<{NAME}} {100 * used['processor_s'] / row['seconds']:>5.1f}% "
            f"{used['resident_bytes'] / 1000:>+8.0f} {used['python_blocks']:>+6} {used['garbage_collections']:>4} "
            f"{faults:>7} {used['voluntary_switches']:>7}{used['involuntary_switches']:>7}"
        )
    stolen = sum(row["resources"]["stolen_s"] for row in rows)
    memory = report["memory"]
    lines.append(
        f"  the whole process holds {memory['resident_bytes'] / 1e6:.0f} MB, and held "
        f"{memory['peak_resident_bytes'] / 1e6:.0f} MB at most"
    )
    if stolen:
        lines.append(f"  meanwhile the host of this virtual machine took {stolen:.2f} s of processor time away")
    return "\n".join(lines)


def ledger_table(row: dict[str, Any]) -> str:
    """Every delay by name, and the whole way from mouth to ear."""
    ledger = row["ledger"]
    if ledger is None:
        return wrapped(
            f"delay of {row['name']}: unknown, the file does not say how audio goes in and out; at least the "
            f"{row['period_us'] / 1000:g} ms until a frame is complete"
        )
    lines = [f"delay of {row['name']}"]
    lines += [
        f"  {delay['name']:<20} {delay['samples']:>9.2f} samples {delay['ms']:>8.2f} ms" for delay in ledger["delays"]
    ]
    lines.append(f"  {'mouth to ear':<20} {ledger['total_samples']:>9.2f} samples {ledger['total_ms']:>8.2f} ms")
    if not any(delay["name"] == "device output" for delay in ledger["delays"]):
        lines[-1] += " and the device's buffers"
    return "\n".join(lines)


def ledger_line(row: dict[str, Any]) -> str:
    """The same in few lines."""
    ledger = row["ledger"]
    if ledger is None:
        return "delay unknown"
    delays = [f"{delay['name']} {delay['samples']:.2f} = {delay['ms']:.2f} ms" for delay in ledger["delays"]]
    total = f"mouth to ear {ledger['total_samples']:.2f} samples = {ledger['total_ms']:.2f} ms"
    return wrapped(", ".join(delays) + f"; {total} and the device's buffers", width=76, indent="    ")


def _notes(rows: Sequence[dict[str, Any]]) -> str:
    return "\n".join(wrapped(f"{row['name']}: {note}") for row in rows for note in row["notes"])
