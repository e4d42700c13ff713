"""The environment block: everything about the machine without which a time means nothing."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import llvmlite.binding

from ...runtime.realtime import environment

# Of all that a processor offers, what makes these programs faster.
FEATURES = (
    "sse4.2",
    "avx",
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512vnni",
    "amx-tile",
    "neon",
    "dotprod",
    "sve",
    "sve2",
)


def machine() -> dict[str, Any]:
    """What stays the same during a run, and the state of what does not."""
    offered = llvmlite.binding.get_host_cpu_features()
    return {
        **environment(),
        "features": [name for name in FEATURES if offered.get(name)],
        "cores": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "cores_present": os.cpu_count(),
        "kernel": platform.version(),
        "real_time_kernel": Path("/sys/kernel/realtime").exists(),
        "clock_source": _text("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "real_time_throttling_us": _text("/proc/sys/kernel/sched_rt_runtime_us"),
        "transparent_huge_pages": _chosen(_text("/sys/kernel/mm/transparent_hugepage/enabled")),
        "swap_kib": _swap_kib(),
        "virtual_machine": "hypervisor" in (_text("/proc/cpuinfo") or ""),
        "onnx": _version("onnx"),
        "scipy": _version("scipy"),
        "torch_imported": "torch" in sys.modules,
        "thread_variables": {
            name: os.environ[name]
            for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
            if name in os.environ
        },
        "temperature_c": temperatures_c(),
    }


def temperatures_c() -> dict[str, float] | None:
    """By sensor; None where none can be read, as on most virtual machines."""
    found = {}
    for zone in sorted(Path("/sys/class/thermal").glob("thermal_zone*")):
        value = _text(str(zone / "temp"))
        if value is not None and value.lstrip("-").isdigit():
            found[_text(str(zone / "type")) or zone.name] = int(value) / 1000
    return found or None


def _swap_kib() -> int | None:
    for line in (_text("/proc/meminfo") or "").splitlines():
        if line.startswith("SwapTotal:"):
            return int(line.split()[1])
    return None


def _chosen(text: str | None) -> str | None:
    """Of `always [madvise] never` the one in brackets."""
    return text.partition("[")[2].partition("]")[0] or text if text else None


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
