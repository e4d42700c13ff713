"""Files that a verb will write at its end."""

import os
from pathlib import Path

from ..runtime.errors import HearloopError


def check_writable(path: Path) -> None:
    """Refuse a file that could not be written, before there is work to be lost.

    Raises
    ------
    HearloopError
        If its folder does not exist or is closed.
    """
    if not os.access(path.absolute().parent, os.W_OK):
        raise HearloopError(f"{path}: the folder does not exist or cannot be written")
