"""Disturbances: other programs, a busy interpreter, garbage."""

import contextlib
import gc
import subprocess
import sys
import threading
from collections.abc import Iterator

# Ends by itself when its parent has gone, whatever became of it.
_BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    sum(range(100_000))"


@contextlib.contextmanager
def stress(processes: int = 0, gil_threads: int = 0, garbage: bool = False) -> Iterator[None]:
    """While it is entered, so many processes compute, so many Python threads fight for the GIL, and garbage piles up.

    Parameters
    ----------
    processes : int
        Each takes a processor, as far as the system lets it.
    gil_threads : int
    garbage : bool
        A thread makes cycles of objects and has them collected, without pause.
    """
    ended = threading.Event()
    jobs = [_spin] * gil_threads + [_litter] * garbage
    threads = [threading.Thread(target=job, args=(ended,), daemon=True) for job in jobs]
    busy = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(processes)]
    try:
        for thread in threads:
            thread.start()
        yield
    finally:
        ended.set()
        for process in busy:
            process.terminate()
        for process in busy:
            process.wait()
        for thread in threads:
            thread.join()


def _spin(ended: threading.Event) -> None:
    while not ended.is_set():
        sum(range(100))


def _litter(ended: threading.Event) -> None:
    while not ended.is_set():
        rings: list[list] = [[] for _ in range(1000)]
        for ring in rings:
            ring.append(ring)
        del rings
        gc.collect()
