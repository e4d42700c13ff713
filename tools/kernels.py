"""Where the time of a compiled model goes: kernel by kernel, beside what the processor could do at most."""

import ctypes
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

import numpy as np

from ..runtime.bundle import Bundle
from ..runtime.compiled_engine import CompiledEngine
from ..runtime.compiler.compiled import Options
from ..runtime.compiler.peak import floats_per_second, multiply_adds_per_second


def measure_kernels(bundle: Bundle, steps: int, half_weights: bool = False) -> dict[str, Any]:
    """Run a model with the clock read before and after every kernel, back to back.

    Returns
    -------
    dict
        `kernels`, each as in the plan with `us`, the shortest time seen; `step_us`, the shortest whole step;
        `gmac_per_s` and `gb_per_s`, the measured peak of one core, the latter for as many bytes as the model touches.
    """
    engine = CompiledEngine(bundle, Options(half_weights=half_weights, timed=True))
    random = np.random.default_rng(1)
    for array in engine.inputs.values():
        array[...] = 0.3 * random.standard_normal(array.shape)
    kernels = engine.compiled.plan["kernels"]
    stamps = np.zeros(len(kernels) + 1, np.int64)
    function = engine.code.function("step_timed", *[ctypes.c_void_p] * 3)
    arguments = engine.memory.ctypes.data, engine.constants.ctypes.data, stamps.ctypes.data
    shortest, ticks_per_us = _shortest(lambda: function(*arguments), stamps, steps)
    touched = sum(array.nbytes for array in (engine.constants, engine.memory))
    return {
        "kernels": [
            kernel | {"us": float(us)} for kernel, us in zip(kernels, shortest[:-1] / ticks_per_us, strict=True)
        ],
        "step_us": float(shortest[-1] / ticks_per_us),
        "gmac_per_s": multiply_adds_per_second() / 1e9,
        "gb_per_s": 4 * floats_per_second(touched // 4) / 1e9,
    }


def _shortest(step: Callable[[], object], stamps: np.ndarray, steps: int) -> tuple[np.ndarray, float]:
    """The shortest time of each kernel and of the whole step, in ticks of the processor's clock, and its rate."""
    shortest = np.full(len(stamps), np.iinfo(np.int64).max)
    step()
    first, started = int(stamps[0]), perf_counter_ns()
    for _ in range(max(steps, 2)):
        step()
        np.minimum(shortest, [*np.diff(stamps), stamps[-1] - stamps[0]], out=shortest)
    return shortest, (int(stamps[0]) - first) / (perf_counter_ns() - started) * 1000


def kernel_table(found: dict[str, Any]) -> str:
    """By kind of kernel: time, share, and how near to the peak; then the longest ones."""
    kernels = found["kernels"]
    total = sum(kernel["us"] for kernel in kernels)
    lines = [
        f"  peak of one core: {found['gmac_per_s']:.1f} GMAC/s in registers, {found['gb_per_s']:.0f} GB/s read",
        f"  {'kernel':<26} {'n':>4} {'us':>8} {'share':>6} {'GMAC/s':>7} {'GB/s':>6} {'of peak':>8}",
    ]
    kinds = sorted({kernel["kind"] for kernel in kernels}, key=lambda kind: -_sum(kernels, kind, "us"))
    for kind in kinds:
        of_kind = [kernel for kernel in kernels if kernel["kind"] == kind]
        lines.append(_line(kind, of_kind, total, found))
    lines.append(_line("all", kernels, total, found))
    lines.append("  the longest:")
    for kernel in sorted(kernels, key=lambda kernel: -kernel["us"])[:8]:
        lines.append(_line(f"{kernel['kind']} {_size(kernel['shape'])}", [kernel], total, found))
    lines.append(f"  whole step with the clock: {found['step_us']:.1f} us")
    return "\n".join(lines)


def _sum(kernels: list[dict[str, Any]], kind: str, key: str) -> float:
    return sum(kernel[key] for kernel in kernels if kernel["kind"] == kind)


def _line(name: str, kernels: list[dict[str, Any]], total: float, found: dict[str, Any]) -> str:
    us = max(sum(kernel["us"] for kernel in kernels), 1e-3)
    macs, size = (sum(kernel[key] for kernel in kernels) for key in ("macs", "bytes"))
    # The least time: arithmetic at its peak or memory at its peak, whichever takes longer, for each kernel.
    least = sum(
        max(kernel["macs"] / found["gmac_per_s"], kernel["bytes"] / found["gb_per_s"]) / 1000 for kernel in kernels
    )
    return (
        f"  {name[:26]:<26} {len(kernels):>4} {us:8.2f} {us / total:6.0%} {macs / us / 1000:7.1f} "
        f"{size / us / 1000:6.0f} {least / us:8.0%}"
    )


def _size(shape: list[int]) -> str:
    return " x ".join(str(size) for size in shape)
