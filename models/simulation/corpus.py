"""Folders of recordings, held in memory as 16-bit samples."""

import csv
import hashlib
import itertools
import os
import warnings
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import gcd
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import resample_poly

from ...runtime.errors import AudioError
from .files import files_below
from .levels import SILENT_POWER, power
from .speakers import speaker_of

SAMPLE_RATE = 16000
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus")
NAMED = 5  # names that a message lists
CANCELLED = 1e-3  # of the power of its channels, that of their mean: of thirty that have nothing in common it is 3e-2
LOUD = "above full scale, made softer as a whole"
SILENT = "silent"
CANCELLING = "of channels that cancel one another"


class Corpus:
    """Recordings at 16 kHz, one channel each, in one int16 array (an hour takes 115 MB).

    Parameters
    ----------
    samples : int16 array [samples of all recordings]
    starts : int64 array [recordings + 1], where each recording begins; the last entry is the total
    names : one name per recording, for messages
    groups : the speaker, or what else must not be in two splits, of each recording; its name if not given
    """

    def __init__(self, samples: np.ndarray, starts: np.ndarray, names: list[str], groups: list[str] | None = None):
        self.samples, self.starts, self.names = samples, starts, names
        self.groups = list(names) if groups is None else groups
        # A recording of a minute is drawn more often than one of a second, but not sixty times as often.
        weights = np.sqrt(np.diff(starts))
        self._cumulative = np.cumsum(weights / weights.sum())

    def __len__(self) -> int:
        return len(self.names)

    @property
    def hours(self) -> float:
        return len(self.samples) / SAMPLE_RATE / 3600

    def recording(self, index: int) -> np.ndarray:
        """The whole recording as float32 in -1..1."""
        return self._float(int(self.starts[index]), int(self.starts[index + 1]))

    def fingerprints(self) -> dict[str, str]:
        """A digest of the samples of each recording -> its name."""
        pieces = (self.samples[start:end] for start, end in itertools.pairwise(self.starts))
        return {
            hashlib.blake2b(piece.tobytes(), digest_size=16).hexdigest(): name
            for piece, name in zip(pieces, self.names, strict=True)
        }

    def draw(
        self, rng: np.random.Generator, length: int, loop: bool = False, without: Collection[str] = ()
    ) -> np.ndarray:
        """A random piece of a random recording, float32 [length], of no group in `without` if there are others."""
        return self.piece(rng, self.choose(rng, without), length, loop)

    def choose(self, rng: np.random.Generator, without: Collection[str] = ()) -> int:
        """The number of a random recording, of no group in `without` if there are others."""
        while True:
            index = min(int(np.searchsorted(self._cumulative, rng.random(), side="right")), len(self) - 1)
            if self.groups[index] not in without or set(self.groups) <= set(without):
                return index

    def piece(self, rng: np.random.Generator, index: int, length: int, loop: bool = False) -> np.ndarray:
        """A random piece of a recording, float32 [length].

        A recording that is too short is repeated if `loop`, else it stands at a random place in silence.
        """
        first, end = int(self.starts[index]), int(self.starts[index + 1])
        spare = end - first - length
        if spare >= 0:
            start = first + int(rng.integers(spare + 1))
            return self._float(start, start + length)
        whole = self._float(first, end)
        if loop:
            return np.resize(np.roll(whole, -int(rng.integers(len(whole)))), length)
        piece = np.zeros(length, np.float32)
        start = int(rng.integers(-spare + 1))
        piece[start : start + len(whole)] = whole
        return piece

    def _float(self, start: int, end: int) -> np.ndarray:
        return self.samples[start:end].astype(np.float32) * np.float32(1 / 32768)


def read_folder(folder: str | Path, kind: str = "speech", hours: float | None = None) -> Corpus:
    """All audio files below a folder, in the order of their names; if `hours` is given, files that last so long.

    The group of a file is its speaker (`speakers.speaker_of`); of one of another kind than speech, the file itself.

    Raises AudioError if the folder is missing or holds no audio, or nothing but silence, or a file cannot be read or
    holds no numbers.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise AudioError(f"{folder}: no such folder; expected one with {', '.join(AUDIO_SUFFIXES)} files")
    paths = files_below(folder, AUDIO_SUFFIXES)
    if hours is not None:
        paths = _some(paths, hours)
    return read_files(paths, str(folder), [_group(path, folder, kind) for path in paths])


def joined(corpora: Sequence[Corpus]) -> Corpus:
    """The recordings of several corpora in one."""
    if len(corpora) == 1:
        return corpora[0]
    lengths = np.concatenate([np.diff(corpus.starts) for corpus in corpora])
    return Corpus(
        np.concatenate([corpus.samples for corpus in corpora]),
        np.concatenate([[0], np.cumsum(lengths)]),
        [name for corpus in corpora for name in corpus.names],
        [group for corpus in corpora for group in corpus.groups],
    )


def read_manifest(manifest: str | Path, split: str, kind: str) -> Corpus:
    """The files of a split and kind in a CSV table with the columns path (relative to the table), split and kind.

    If it has them, the columns `speaker_id` and `group` say what must not be in two splits; else as in `read_folder`.
    """
    manifest = Path(manifest)
    try:
        with open(manifest, newline="", encoding="utf-8") as table:
            rows = list(csv.DictReader(table))
    except OSError as error:
        raise AudioError(f"{manifest}: cannot be read ({error.strerror})") from error
    missing = {"path", "split", "kind"} - set(rows[0] if rows else ())
    if missing:
        raise AudioError(f"{manifest}: column {', '.join(sorted(missing))} is missing; expected path, split, kind")
    chosen = sorted(
        (manifest.parent / row["path"], row.get("speaker_id") or row.get("group") or "")
        for row in rows
        if row["split"] == split and row["kind"] == kind
    )
    paths = [path for path, _ in chosen]
    groups = [group or _group(path, manifest.parent, kind) for path, group in chosen]
    return read_files(paths, f"{manifest}, split {split!r}, kind {kind!r}", groups)


def read_files(paths: Iterable[Path], where: str, groups: list[str] | None = None) -> Corpus:
    """Decode files to a corpus; `where` names their origin in messages, `groups` the speaker of each.

    Warns of recordings that are above full scale, silent, or of channels that cancel one another.
    """
    paths = list(paths)
    if not paths:
        raise AudioError(f"{where}: no audio; expected at least one {', '.join(AUDIO_SUFFIXES)} file")
    with ThreadPoolExecutor(os.cpu_count()) as decoders:
        recordings, remarks = zip(*decoders.map(_read, paths), strict=True)
    if not set(remarks) - {SILENT, CANCELLING}:
        which = "silent" if set(remarks) == {SILENT} else "silent, or their channels cancel one another"
        raise AudioError(f"{where}: all of its recordings, {len(paths)}, are {which}; expected sound")
    for remark in (LOUD, SILENT, CANCELLING):
        names = [str(path) for path, found in zip(paths, remarks, strict=True) if found == remark]
        if names:
            warnings.warn(f"{where}: {len(names)} of {len(paths)} recordings {remark}: {listed(names)}", stacklevel=2)
    starts = np.concatenate([[0], np.cumsum([len(recording) for recording in recordings])])
    return Corpus(np.concatenate(recordings), starts, [str(path) for path in paths], groups)


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _some(paths: list[Path], hours: float) -> list[Path]:
    """A random choice of files, always the same, that together last at least some hours."""
    chosen: list[Path] = []
    missing_s = 3600 * hours
    for index in np.random.default_rng(len(paths)).permutation(len(paths)):
        if missing_s <= 0:
            break
        try:
            missing_s -= soundfile.info(paths[index]).duration
        except RuntimeError as error:
            raise AudioError(f"{paths[index]}: not readable as audio ({error})") from error
        chosen.append(paths[index])
    return sorted(chosen)


def _group(path: Path, root: Path, kind: str) -> str:
    return speaker_of(path, root) if kind == "speech" else os.path.splitext(os.path.relpath(path, root))[0]


def _read(path: Path) -> tuple[np.ndarray, str]:
    """The samples as int16, and what is to be said of them, if anything."""
    try:
        audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, RuntimeError) as error:
        raise AudioError(f"{path}: not readable as audio ({error})") from error
    if len(audio) == 0:
        raise AudioError(f"{path}: holds no samples; expected audio")
    if not np.isfinite(audio).all():
        raise AudioError(f"{path}: holds samples that are not finite; expected numbers")
    mono = audio.mean(axis=1)
    cancels = power(mono) < CANCELLED * power(audio)
    if rate != SAMPLE_RATE:
        common = gcd(rate, SAMPLE_RATE)
        mono = resample_poly(mono, SAMPLE_RATE // common, rate // common)
    remark, peak = CANCELLING if cancels else SILENT if power(mono) < SILENT_POWER else "", np.abs(mono).max()
    if peak > 1:
        # Floating point holds what is above full scale. Cut off there it would be what is called clean; softer as a
        # whole it is the same voice, whose level is drawn anyway.
        mono, remark = mono / peak, remark or LOUD
    return np.round(np.minimum(mono, 32767 / 32768) * 32768).astype(np.int16), remark
