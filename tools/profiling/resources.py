"""What a run has taken of the machine besides time: memory, faults, switches."""

import ctypes
import os
import sys
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

if sys.platform != "win32":
    import resource


@dataclass
class Resources:
    """Counters that only grow, but for memory; differences of two readings are what happened in between.

    Attributes
    ----------
    processor_s : float
        Processor time of the thread.
    minor_faults, major_faults : int
        Pages that were not in place, and those that had to come from a disk.
    voluntary_switches, involuntary_switches : int
        How often the thread waited, and how often the system took the processor away from it.
    resident_bytes : int
        Memory of the whole process.
    heap_bytes : int
        Given out by the C library to the whole process; 0 where that is not told.
    stolen_s : float
        Processor time that the host of a virtual machine has given to others, over all processors.
    """

    processor_s: float = 0.0
    minor_faults: int = 0
    major_faults: int = 0
    voluntary_switches: int = 0
    involuntary_switches: int = 0
    resident_bytes: int = 0
    heap_bytes: int = 0
    stolen_s: float = 0.0

    def add_since(self, before: "Resources", now: "Resources") -> None:
        """Add what has happened between two readings."""
        for field in fields(self):
            name = field.name
            setattr(self, name, getattr(self, name) + getattr(now, name) - getattr(before, name))

    def to_json(self) -> dict[str, float]:
        return {field.name: round(getattr(self, field.name), 6) for field in fields(self)}


def read_resources(whole_process: bool = False) -> Resources:
    """Of the calling thread, or of all threads of this process together."""
    usage = None
    if sys.platform != "win32":
        whose = resource.RUSAGE_SELF if whole_process else getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)
        usage = resource.getrusage(whose)
    return Resources(
        processor_s=(time.process_time_ns() if whole_process else time.thread_time_ns()) / 1e9,
        minor_faults=usage.ru_minflt if usage else 0,
        major_faults=usage.ru_majflt if usage else 0,
        voluntary_switches=usage.ru_nvcsw if usage else 0,
        involuntary_switches=usage.ru_nivcsw if usage else 0,
        resident_bytes=resident_bytes(),
        heap_bytes=_heap_bytes(),
        stolen_s=stolen_s(),
    )


def resident_bytes() -> int:
    """Memory of this process that is in place; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return 0


def peak_resident_bytes() -> int:
    """The most that `resident_bytes` has ever been; 0 where the system does not tell."""
    if sys.platform == "win32":
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def stolen_s() -> float:
    """Processor time that the host of a virtual machine has given to others so far; 0 where that is not told."""
    try:
        return int(Path("/proc/stat").read_text().split()[8]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, AttributeError):
        return 0.0


class _MallInfo(ctypes.Structure):
    """What glibc's mallinfo2 gives back; bytes given out are `uordblks`, and `hblkhd` in mappings of their own."""

    _fields_ = (
        ("arena", ctypes.c_size_t),
        ("ordblks", ctypes.c_size_t),
        ("smblks", ctypes.c_size_t),
        ("hblks", ctypes.c_size_t),
        ("hblkhd", ctypes.c_size_t),
        ("usmblks", ctypes.c_size_t),
        ("fsmblks", ctypes.c_size_t),
        ("uordblks", ctypes.c_size_t),
        ("fordblks", ctypes.c_size_t),
        ("keepcost", ctypes.c_size_t),
    )


def _mallinfo() -> Any:
    """The function, looked up once: every look-up makes objects that only the garbage collector frees."""
    library = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    if not hasattr(library, "mallinfo2"):
        return None
    library.mallinfo2.restype = _MallInfo  # type: ignore[union-attr]
    return library.mallinfo2  # type: ignore[union-attr]


_MALLINFO = _mallinfo()


def _heap_bytes() -> int:
    if _MALLINFO is None:
        return 0
    found = _MALLINFO()
    return int(found.uordblks + found.hblkhd)
