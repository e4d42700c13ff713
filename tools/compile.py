"""hearloop compile: turn a model into machine code, and keep it in the cache."""

import argparse
import sys
from time import perf_counter

from ..runtime.bundle import Bundle
from ..runtime.compiler.cache import cache_folder, clear, entries, entry_path, fetch, lookup
from ..runtime.compiler.compiled import Compiled, Options
from ..runtime.compiler.peak import floats_per_second, multiply_adds_per_second
from ..runtime.errors import EngineError
from ..runtime.load import load_step
from .profiling.table import wrapped


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="*", help="a bundle, the name of a shipped model, or any streaming ONNX model")
    parser.add_argument("--list", action="store_true", help="show what lies in the cache")
    parser.add_argument("--clear", action="store_true", help="empty the cache, before anything is compiled")
    add_states_argument(parser)
    parser.add_argument("--half-weights", action="store_true", help="keep weights of matrix-vector products as float16")
    parser.add_argument("--plan", action="store_true", help="print every kernel, and how each state was placed")


def add_states_argument(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--states",
        metavar="IN=OUT,...",
        help="inputs and the outputs that are their next values; by default they are found by name",
    )


def parse_states(text: str | None) -> dict[str, str] | None:
    """`a=b,c=d` as a dictionary; None stays None."""
    if text is None:
        return None
    pairs = [pair.partition("=") for pair in text.split(",") if pair]
    for name, sign, following in pairs:
        if not (name and sign and following):
            raise EngineError(f"--states is {text!r}; expected IN=OUT, separated by commas")
    return {name: following for name, _, following in pairs}


def print_notes(bundle: Bundle) -> None:
    """What was assumed of a model that is no bundle, and may be wrong."""
    for note in getattr(bundle.info, "notes", ()):
        print(wrapped(f"{bundle.info.name}: {note}"))


def run(options: argparse.Namespace) -> int:
    if not (options.model or options.list or options.clear):
        raise EngineError("nothing to compile; expected a model, --list or --clear")
    if options.clear:
        print(f"{cache_folder()}: {clear()} compiled model(s) removed")
    for model in options.model:
        bundle = load_step(model, parse_states(options.states))
        form = Options(half_weights=options.half_weights)
        known = lookup(bundle, form) is not None
        started = perf_counter()
        complaints: list[str] = []
        compiled = fetch(bundle, form, progress=_show, complain=complaints.append)
        seconds = perf_counter() - started
        kernels = compiled.plan["kernels"]
        path = entry_path(bundle, form)
        how = "was compiled already" if known else f"compiled in {seconds:.1f} s"
        print(
            f"{bundle.info.name}: {how}; {len(kernels)} kernels, {len({kernel['name'] for kernel in kernels})} "
            f"different, {len(compiled.object_code) / 1000:.0f} kB of code, "
            f"{4 * len(compiled.constants) / 1000:.0f} kB of constants, "
            f"{4 * compiled.memory_size / 1000:.0f} kB per stream\n  {complaints[-1] if complaints else path}"
        )
        print_notes(bundle)
        if options.plan:
            print_plan(compiled)
    if options.list:
        _print_entries()
    return 0


def _print_entries() -> None:
    found = entries()
    print(f"{cache_folder()}: {len(found)} compiled model(s), {sum(entry.size for entry in found) / 1e6:.1f} MB")
    for entry in found:
        print(
            f"  {entry.name or 'damaged':<32} {entry.size / 1000:8.0f} kB {entry.age_s / 86400:6.1f} days  "
            f"{entry.path.name}"
        )


def print_plan(compiled: Compiled) -> None:
    """What the compiler did, stage by stage; then kernels in order, and where the states are."""
    plan, gmac, gb = (
        compiled.plan,
        multiply_adds_per_second() / 1e9,
        4 * floats_per_second(len(compiled.constants)) / 1e9,
    )
    counts = ", ".join(f"{count} {name}" for name, count in plan["graph"].items())
    print(f"  graph: {sum(plan['graph'].values())} nodes: {counts}")
    print("  kernels after each stage: " + ", ".join(f"{name} {count}" for name, count in plan["stages"].items()))
    print(
        f"  target {plan['target']}, {gmac:.0f} GMAC/s and {gb:.0f} GB/s at most; times are the least that these allow"
    )
    total = 0.0
    for index, kernel in enumerate(plan["kernels"]):
        shape = "x".join(str(size) for size in kernel["shape"])
        us = max(kernel["macs"] / gmac, kernel["bytes"] / gb) / 1000
        total += us
        print(
            f"  {index:4} {kernel['name']:<14} {shape:<14} {kernel['macs']:>9,} MAC {kernel['bytes']:>9,} bytes "
            f"{us:7.2f} us -> {kernel['to']}"
        )
    print(f"  expected: at least {total:.1f} us a step")
    for state in plan["states"]:
        rings = ", ".join(f"{slots} slots" for slots, _ in state["rings"])
        print(f"  state {state['name']} {state['shape']}: {state['placed']}{f' ({rings})' if rings else ''}")
    sizes = plan["bytes"]
    print(f"  memory: {sizes['kept']:,} bytes kept, {sizes['scratch']:,} scratch, {sizes['stream']:,} in all")


def _show(stage: str, fraction: float) -> None:
    if sys.stderr.isatty():
        end = "\n" if fraction >= 1 else ""
        print(f"\r{100 * fraction:3.0f} % {stage:<16}", end=end, file=sys.stderr, flush=True)
