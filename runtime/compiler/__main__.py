"""`python -m hearloop.runtime.compiler`: compile one model into the cache, in the background of another process.

Standard input holds one line of JSON, {"name", "states": [fields of a State]}, and then the model.
"""

import contextlib
import ctypes
import json
import os
import signal
import sys

from ..bundle import Bundle
from ..bundle_info import State
from ..errors import HearloopError
from ..load import StepInfo
from .cache import fetch
from .compiled import Options

_PR_SET_PDEATHSIG = 1


def main() -> int:
    _step_back()
    header = json.loads(sys.stdin.buffer.readline())
    states = tuple(State(**{**state, "shape": tuple(state["shape"])}) for state in header["states"])
    complaints: list[str] = []
    try:
        info = StepInfo(header["name"], (), (), states)
        bundle = Bundle(info=info, model=sys.stdin.buffer.read())  # type: ignore[arg-type]
        fetch(bundle, Options(), complain=complaints.append)
    except HearloopError as error:
        complaints.append(str(error))
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    return 1 if complaints else 0


def _step_back() -> None:
    """Take only what processor time nobody else wants, and do not outlive the process that asked."""
    if hasattr(os, "nice"):
        os.nice(19)
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
