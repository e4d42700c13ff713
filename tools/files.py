"""Files that a verb will write at its end."""

import json
import os
from pathlib import Path
from typing import Any

from ..runtime.drafts import draft, is_special
from ..runtime.errors import HearloopError


def check_writable(path: Path) -> None:
    """Refuse a file that could not be written, before there is work to be lost.

    Raises
    ------
    HearloopError
        If it is a folder, or its own folder does not exist or is closed.
    """
    if path.is_dir():
        raise HearloopError(f"{path} is a folder; expected a file")
    if not os.access(path if is_special(path) else path.resolve().parent, os.W_OK):
        raise HearloopError(f"{path}: the folder does not exist or cannot be written")


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file that is either whole or not there.

    Raises
    ------
    HearloopError
        If it cannot be written.
    """
    try:
        with draft(path) as temporary:
            temporary.write_text(json.dumps(content, indent=2) + "\n")
    except OSError as error:
        raise HearloopError(f"{path}: cannot be written ({error})") from error
