"""Files that are whole or not there: they are written beside their place and moved there at the end."""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LONGEST_SUFFIX = 40  # characters; a name has 255 bytes at most, and a suffix that means something has few


@contextmanager
def draft(path: Path, private: bool = False, fresh: bool = False) -> Iterator[Path]:
    """An empty file to be written, which then takes the place of `path`, or is gone if anything fails.

    It lies beside `path`, because a file moves in one step only within a file system; beside the file that a link leads
    to, so that the link stays. Its name is hidden, so that what a killed process leaves behind is taken for nothing
    else, short, and ends as that of `path`. What is there and is no regular file, such as a pipe or /dev/null, is
    written itself: nothing can take its place.

    Parameters
    ----------
    path : Path
        May be there already, unless it shall be fresh; its folder must.
    private : bool
        Make it readable by its owner alone, not by all whom the file that was there or else the umask lets.
    fresh : bool
        Take no other file's place, not even that of one that has come meanwhile.

    Raises
    ------
    OSError
        If the folder cannot be written, or `path` is a folder, or there already and shall be fresh.
    """
    if not fresh and is_special(path):
        yield path
        return
    place = path if fresh else path.resolve()
    mode = stat.S_IMODE(place.stat().st_mode) if place.is_file() else None
    temporary = place.with_name(f".{secrets.token_hex(8)}{path.suffix[:LONGEST_SUFFIX]}")
    temporary.touch(0o600 if private else 0o666 if mode is None else mode, exist_ok=False)
    try:
        if mode is not None and not private:
            temporary.chmod(mode)  # what the umask has left of it may be less
        yield temporary
        if fresh:
            _link(temporary, place)
        else:
            os.replace(temporary, place)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def is_special(path: Path) -> bool:
    """Whether there is something that is neither a file nor a folder, such as a device or a pipe."""
    return path.exists() and not (path.is_file() or path.is_dir())


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
