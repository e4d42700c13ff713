"""The bell between the audio callback and the worker thread."""

import ctypes
import errno
import sys
import threading
from typing import Protocol

SEMAPHORE_BYTES = 64  # sizeof(sem_t) is 16 or 32 in every known C library


class Semaphore(Protocol):
    """Counts `post` minus `wait`; `wait` sleeps while that is zero."""

    name: str

    def post(self) -> None: ...

    def wait(self) -> None: ...


class PosixSemaphore:
    """`sem_post` and `sem_wait` of the C library.

    `sem_post` takes no lock, so it may be called where nothing may wait. It is called without giving up the GIL, which
    the audio callback would have to win back from other threads.
    """

    name = "posix"

    def __init__(self) -> None:
        self._memory = ctypes.create_string_buffer(SEMAPHORE_BYTES)
        with_gil, without_gil = ctypes.PyDLL(None), ctypes.CDLL(None, use_errno=True)
        if without_gil.sem_init(self._memory, 0, 0):
            raise OSError(ctypes.get_errno(), "sem_init failed")
        self._post, self._wait = with_gil.sem_post, without_gil.sem_wait

    def post(self) -> None:
        self._post(self._memory)

    def wait(self) -> None:
        while self._wait(self._memory) and ctypes.get_errno() == errno.EINTR:
            pass  # a signal handler ran on this thread


class ThreadingSemaphore:
    """The portable substitute: Python's own semaphore, which takes a lock for an instant."""

    name = "threading"

    def __init__(self) -> None:
        self._semaphore = threading.Semaphore(0)

    def post(self) -> None:
        self._semaphore.release()

    def wait(self) -> None:
        self._semaphore.acquire()


def open_semaphore() -> Semaphore:
    """The best semaphore of this platform; unnamed POSIX semaphores exist on Linux, not on macOS or Windows."""
    if sys.platform.startswith("linux"):
        try:
            return PosixSemaphore()
        except (OSError, AttributeError):  # a C library without them
            pass
    return ThreadingSemaphore()
