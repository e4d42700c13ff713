"""hearloop inspect: what a model file says about itself."""

import argparse
import json
from math import prod
from typing import Any

from ..runtime.bundle import Bundle
from ..runtime.bundle_info import BundleInfo
from ..runtime.compiler.cache import fetch
from ..runtime.compiler.compiled import Options
from ..runtime.load import StepInfo, load_model
from .compile import add_states_argument, parse_states, print_notes, print_plan
from .models import describe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="a bundle file, or the name of a shipped model")
    parser.add_argument("--json", action="store_true", help="print the metadata as JSON, or what is found without them")
    parser.add_argument("--plan", action="store_true", help="show what the compiler makes of the model")
    add_states_argument(parser)


def run(options: argparse.Namespace) -> int:
    if options.plan:
        print_plan(fetch(load_model(options.model, parse_states(options.states)), Options()))
        return 0
    bundle = load_model(options.model, parse_states(options.states))
    info = bundle.info
    if not isinstance(info, BundleInfo):
        if options.json:
            print(json.dumps(_foreign_json(info), indent=2))
        else:
            _print_foreign(bundle, info)
        return 0
    if options.json:
        print(json.dumps(json.loads(info.to_json()) | {"golden": None}, indent=2))
        return 0
    print(f"{info.name}, version {info.version}: {bundle.path}, {len(bundle.model):,} bytes")
    print(describe(info))
    front_end = info.front_end if info.window is None else f"{info.front_end}, window {info.window}"
    print(f"  front end    {front_end}")
    print(f"  level        {info.level_reference}")
    if info.comment:
        print(f"  comment      {info.comment}")
    for key, value in info.training.items():
        print(f"  training     {key}: {value}")
    golden = f"{info.golden.frames} frames, tolerance {info.golden.tolerance:g}" if info.golden else "none"
    print(f"  golden       {golden}")
    for direction, ports in (("input", info.inputs), ("output", info.outputs)):
        for port in ports:
            print(f"  {direction:<12} {port.name} {list(port.shape)} {port.role}: {port.meaning}")
    for state in info.states:
        print(f"  state        {state.name} {list(state.shape)} -> {state.next}, starts at {state.initial:g}")
    size = sum(4 * prod(state.shape) for state in info.states)
    print(f"  state size   {size:,} bytes in {len(info.states)} tensors")
    return 0


def _foreign_json(info: StepInfo) -> dict[str, Any]:
    """A model without metadata: what is known of it, as a bundle tells it."""
    return {
        "name": info.name,
        "inputs": [{"name": port.name, "shape": port.shape} for port in info.inputs],
        "outputs": [{"name": port.name, "shape": port.shape} for port in info.outputs],
        "states": [{"name": state.name, "next": state.next, "shape": state.shape} for state in info.states],
        "notes": info.notes,
    }


def _print_foreign(bundle: Bundle, info: StepInfo) -> None:
    """A model without metadata: its ports, and which outputs are taken for next values."""
    print(f"{info.name}: {bundle.path}, {len(bundle.model):,} bytes; no bundle, so nothing says what it is for")
    for direction, ports in (("input", info.inputs), ("output", info.outputs)):
        for port in ports:
            print(f"  {direction:<12} {port.name} {list(port.shape)}")
    for state in info.states:
        print(f"  state        {state.name} {list(state.shape)} -> {state.next}")
    if not info.states:
        print("  no states were found; --states IN=OUT,... tells them")
    print_notes(bundle)
