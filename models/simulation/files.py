"""Files in a folder and all that lies below it."""

import os
from collections.abc import Collection
from pathlib import Path

from ...runtime.errors import AudioError


def files_below(folder: Path, suffixes: Collection[str], above: frozenset[str] = frozenset()) -> list[Path]:
    """Files with one of the suffixes in a folder and its subfolders, in the order of their names.

    Links to folders are followed, but not into a folder that they lie in themselves (`above`, its real places). What
    begins with "._" is left out: there macOS keeps of a file what the file system of a stick has no place for.

    Raises AudioError for a link to nothing.
    """
    here = os.path.realpath(folder)
    if here in above:
        return []
    found: list[Path] = []
    for path in folder.iterdir():
        if path.is_dir():
            found += files_below(path, suffixes, above | {here})
        elif path.suffix.lower() in suffixes and not path.name.startswith("._"):
            if path.is_symlink() and not path.exists():
                raise AudioError(f"{path}: a link to nothing; expected one to a file")
            if path.is_file():
                found.append(path)
    return sorted(found)
