"""Files that are whole or not there: they are written beside their place and moved there at the end."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def draft(path: Path, private: bool = False, fresh: bool = False) -> Iterator[Path]:
    """An empty file to be written, which then takes the place of `path`, or is gone if anything fails.

    It lies beside `path`, because a file moves in one step only within a file system. Its name is hidden, so that what
    a killed process leaves behind is taken for nothing else, short, and ends as that of `path`.

    Parameters
    ----------
    path : Path
        May be there already, unless it shall be fresh; its folder must.
    private : bool
        Make it readable by its owner alone, not by all whom the umask lets.
    fresh : bool
        Take no other file's place, not even that of one that has come meanwhile.

    Raises
    ------
    OSError
        If the folder cannot be written, or `path` is a folder, or there already and shall be fresh.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}{path.suffix}")
    temporary.touch(0o600 if private else 0o666, exist_ok=False)
    try:
        yield temporary
        if fresh:
            _link(temporary, path)
        else:
            os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _link(temporary: Path, path: Path) -> None:
    """Move a file to a place that is free; FileExistsError if it is not."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links: somebody else may come between the question and the move
        if path.exists():
            raise
        os.replace(temporary, path)
    else:
        temporary.unlink()
