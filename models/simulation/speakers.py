"""Who speaks in a file, told by its name or its folder, as the public collections of speech lay them out."""

import csv
import re
from pathlib import Path

from ...runtime.errors import AudioError

FILE_NAMES = (
    # LibriSpeech, LibriTTS: 1034-121119-0000; but not a date, 2024-01-05
    re.compile(r"^(?!(19|20)\d\d[-_](0[1-9]|1[0-2])[-_](0[1-9]|[12]\d|3[01])(?!\d))(?P<speaker>\d+)[-_]\d+[-_]\d+"),
    re.compile(r"^(?P<speaker>[ps]\d{3})_\d+"),  # VCTK: p225_001_mic1
    re.compile(r"(?P<speaker>reader_\d+)"),  # DNS: book_00000_chp_0009_reader_06709_0
)
"""Patterns of file names that hold the speaker, tried in this order."""


def speaker_of(path: Path, root: Path) -> str:
    """The id of the speaker of a file below `root`.

    From the name of the file if it is one of `FILE_NAMES`; else the name of the folder it lies in; a file that lies in
    `root` itself is a speaker of its own.
    """
    for pattern in FILE_NAMES:
        found = pattern.search(path.stem)
        if found:
            return found["speaker"]
    return path.parent.name if path.parent != root else path.stem


def read_sexes(manifest: str | Path) -> dict[str, str]:
    """Speaker -> "f" or "m", of those for whom a CSV table says it in its columns `speaker_id` and `gender`.

    Raises AudioError if the table cannot be read.
    """
    try:
        with open(manifest, newline="", encoding="utf-8") as table:
            rows = list(csv.DictReader(table))
    except OSError as error:
        raise AudioError(f"{manifest}: cannot be read ({error.strerror})") from error
    told = ((row.get("speaker_id"), row.get("gender")) for row in rows)
    return {speaker: sex for speaker, sex in told if speaker and sex in ("f", "m")}
