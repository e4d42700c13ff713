"""Where the time goes inside ONNX Runtime: node by node, by its own profiler.

That profiler writes an event for every node of every step, which makes a small model many times slower. So it has a
run of its own, and its times tell shares, not how long a step takes without it.
"""

import json
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from ...runtime.bundle import Bundle
from ...runtime.ort import OrtEngine
from ...runtime.ort_session import open_session
from .signals import Signal

LONGEST = 8


def measure_nodes(bundle: Bundle, steps: int) -> dict[str, Any]:
    """Run a model with ONNX Runtime's profiler on, back to back.

    Returns
    -------
    dict
        `nodes`, each with `name`, `kind` (operator) and `us`, the median of its times in whole us; `steps`;
        `step_us`, the median of the whole step with what the profiler costs.
    """
    with tempfile.TemporaryDirectory() as folder:
        session = open_session(bundle.model, streaming=True, profile_prefix=str(Path(folder) / "nodes"))
        engine = OrtEngine(bundle, session)
        signals = {name: Signal("noise", array.shape) for name, array in engine.inputs.items()}
        for index in range(steps):
            for name, signal in signals.items():
                signal.fill(index, engine.inputs[name])
            engine.run()
        events = json.loads(Path(engine.session.end_profiling()).read_text())
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    whole = []
    for event in events:
        kind = event.get("args", {}).get("op_name")
        if event.get("cat") == "Node" and kind and event["name"].endswith("_kernel_time"):
            times[event["name"].removesuffix("_kernel_time"), kind].append(event["dur"])
        elif event.get("name") == "model_run":
            whole.append(event["dur"])
    nodes = [{"name": name, "kind": kind, "us": float(np.median(found))} for (name, kind), found in times.items()]
    return {"nodes": nodes, "steps": steps, "step_us": float(np.median(whole))}


def node_table(found: dict[str, Any]) -> str:
    """By operator: how many, time, share; then the longest nodes."""
    nodes = found["nodes"]
    total = max(sum(node["us"] for node in nodes), 1e-9)
    kinds: dict[str, list[float]] = defaultdict(list)
    for node in nodes:
        kinds[node["kind"]].append(node["us"])
    lines = [f"  ONNX Runtime, {len(nodes)} nodes, median of {found['steps']} steps with its profiler on"]
    lines += [f"  {'operator':<44} {'n':>4} {'us':>8} {'share':>6}"]
    lines += [
        f"  {kind:<44} {len(times):>4} {sum(times):8.1f} {sum(times) / total:6.0%}"
        for kind, times in sorted(kinds.items(), key=lambda each: -sum(each[1]))
    ]
    lines.append(f"  {'all':<44} {len(nodes):>4} {total:8.1f} {1:6.0%}")
    lines.append("  the longest:")
    lines += [
        f"  {node['name'][-36:]:<36} {node['kind'][:12]:<12} {node['us']:8.1f} {node['us'] / total:6.0%}"
        for node in sorted(nodes, key=lambda node: -node["us"])[:LONGEST]
    ]
    lines.append(f"  whole step with the profiler: {found['step_us']:.0f} us")
    return "\n".join(lines)
