"""Single keys from the terminal, without waiting for them."""

import contextlib
import os
import select
import sys


class Keyboard:
    """Context in which `pressed` returns the keys typed since it was last asked.

    Where standard input is not a terminal, or the platform has no termios, there are never any. Nor are there for a job
    in the background: the system stops it if it asks for them.
    """

    def __enter__(self) -> "Keyboard":
        self._settings = None
        if sys.stdin is not None and sys.stdin.isatty():
            try:
                import termios
                import tty
            except ImportError:  # Windows
                return self
            if _is_ours():
                with contextlib.suppress(termios.error):  # it has gone
                    self._settings = termios.tcgetattr(sys.stdin)
                    tty.setcbreak(sys.stdin)
        return self

    def __exit__(self, *_: object) -> None:
        if self._settings is not None and _is_ours():
            import termios

            with contextlib.suppress(termios.error):
                termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._settings)

    def pressed(self) -> str:
        keys = ""
        while self._settings is not None and _is_ours() and select.select([sys.stdin], [], [], 0)[0]:
            # Not through the buffer of the text stream, in which `select` does not see what waits.
            try:
                typed = os.read(sys.stdin.fileno(), 64)
            except OSError:
                break
            if not typed:  # the terminal has gone
                break
            keys += typed.decode(errors="replace")
        return keys


def _is_ours() -> bool:
    """Whether no other job is in the foreground of the terminal."""
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except OSError:  # a terminal without jobs, or one that has gone
        return True
