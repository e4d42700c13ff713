"""What the operating system and the interpreter have to do, or leave alone, while sound is running."""

import contextlib
import ctypes
import functools
import gc
import os
import platform
import sys
import threading
from importlib.metadata import version
from pathlib import Path
from typing import Any

# Threads of interrupts run at SCHED_FIFO 50 on real-time kernels; the sound card's must come before ours.
AUDIO_PRIORITY = 45
WORKER_PRIORITY = 40
NICENESS = -11
# A thread that wants the GIL asks for it after so long; the default of 5 ms is more than half a frame.
SWITCH_INTERVAL_S = 0.0005

_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4  # of Linux


def raise_priority(priority: int, thread: int = 0) -> str:
    """Raise the scheduling class of a thread as far as the system allows.

    Parameters
    ----------
    priority : int
        For SCHED_FIFO, 1 to 99.
    thread : int
        The system's number of a thread of this process; 0 is the calling one.

    Returns
    -------
    str
        What the thread has now, such as "SCHED_FIFO 40", "nice -11", or "SCHED_OTHER".
    """
    if not hasattr(os, "sched_setscheduler"):
        return "unchanged"
    try:
        if os.sched_getscheduler(thread) & ~os.SCHED_RESET_ON_FORK in (os.SCHED_FIFO, os.SCHED_RR):
            return f"SCHED_FIFO or SCHED_RR {os.sched_getparam(thread).sched_priority}, given by the host"
        os.sched_setscheduler(thread, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
        return f"SCHED_FIFO {priority}"
    except OSError:
        pass
    try:
        os.setpriority(os.PRIO_PROCESS, thread or threading.get_native_id(), NICENESS)
        return f"nice {NICENESS}"
    except OSError:
        return "SCHED_OTHER"


def lock_memory() -> str:
    """Keep the pages of this process in memory, from the moment each is used; returns "locked" or why not."""
    if not sys.platform.startswith("linux"):
        return "not offered by this platform"
    import resource  # exists on Unix only

    allowed, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if allowed != resource.RLIM_INFINITY and os.geteuid() != 0:
        # Under a limit, locking what is still to come would turn a later allocation into a failure.
        return f"not allowed (limit of {allowed // 1024} KiB; see `ulimit -l`)"
    library = ctypes.CDLL(None, use_errno=True)
    if library.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT):
        return f"refused ({os.strerror(ctypes.get_errno())})"
    return "locked"


def unlock_memory() -> None:
    ctypes.CDLL(None).munlockall()


class Quiet:
    """Context in which the interpreter does nothing by itself: no garbage collection, quick hand-over of the GIL.

    Several may be entered at a time, as by two loops of one process. The first one sets everything, and the last one to
    leave restores what that one had found. What exists on the first entry is collected once and then left out of every
    later collection.

    Attributes
    ----------
    collections : int
        Garbage collections that happened inside, whoever asked for them.
    memory : str
        What `lock_memory` said.
    """

    _lock = threading.Lock()
    _entered = 0  # so many at this moment
    _was_enabled, _had_frozen, _interval_s = True, False, SWITCH_INTERVAL_S  # what the first one has found
    _memory = "unchanged"

    def __init__(self) -> None:
        self.collections = 0
        self.memory = "unchanged"

    def __enter__(self) -> "Quiet":
        with Quiet._lock:
            if Quiet._entered == 0:
                Quiet._was_enabled, Quiet._had_frozen = gc.isenabled(), gc.get_freeze_count() > 0
                Quiet._interval_s = sys.getswitchinterval()
                gc.collect()
                gc.freeze()
                gc.disable()
                sys.setswitchinterval(SWITCH_INTERVAL_S)
                Quiet._memory = lock_memory()
            Quiet._entered += 1
            self.memory = Quiet._memory
        gc.callbacks.append(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        gc.callbacks.remove(self._count)
        with Quiet._lock:
            Quiet._entered -= 1
            if Quiet._entered > 0:
                return
            if Quiet._memory == "locked":
                unlock_memory()
            sys.setswitchinterval(Quiet._interval_s)
            if not Quiet._had_frozen:
                gc.unfreeze()
            if Quiet._was_enabled:
                gc.enable()

    def _count(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self.collections += 1


def environment() -> dict[str, Any]:
    """The machine and the libraries, as far as they matter for timing; all but the load is as on the first call."""
    load_average = [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None
    return {**_unchanging(), "load_average": load_average}


@functools.cache  # reading it anew takes milliseconds, and leaves cycles that no collector removes while sound runs
def _unchanging() -> dict[str, Any]:
    return {
        "cpu": _cpu_model(),
        "cpus_allowed": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "governor": _first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or "unknown",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: version(name) for name in ("numpy", "numba", "onnxruntime")},
        "hearloop": version("hearloop"),
    }


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "Model")):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
