"""Measured heads from files: SOFA (AES69, "spatially oriented format for acoustics"), and NumPy archives."""

import csv
import zipfile
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
from scipy.signal import resample_poly

from ...runtime.errors import AudioError, HearloopError
from .corpus import SAMPLE_RATE
from .files import files_below
from .heads import TAPS, Head

HEAD_SUFFIXES = (".sofa", ".npz")
LEAD_SAMPLES = 10  # kept before the earliest arrival when a long response is cut
FADE_SAMPLES = 32
ARRAYS = ("ir", "azimuth", "elevation", "fs")


def read_heads(folder: str | Path) -> tuple[Head, ...]:
    """All .sofa and .npz files below a folder, in the order of their names."""
    folder = Path(folder)
    paths = files_below(folder, HEAD_SUFFIXES) if folder.is_dir() else []
    if not paths:
        raise AudioError(f"{folder}: no heads; expected at least one {' or '.join(HEAD_SUFFIXES)} file")
    return tuple(read_head(path) for path in paths)


def read_manifest_heads(manifest: str | Path, split: str) -> tuple[Head, ...]:
    """The heads (kind `hrir`) of a split in a table as `corpus.read_manifest` takes it; none if it has none."""
    manifest = Path(manifest)
    with open(manifest, newline="", encoding="utf-8") as table:
        rows = [row for row in csv.DictReader(table) if row.get("split") == split and row.get("kind") == "hrir"]
    return tuple(read_head(manifest.parent / row["path"]) for row in sorted(rows, key=lambda row: row["path"]))


def read_head(path: str | Path) -> Head:
    """One head at 16 kHz, its level such that sound from the front has a mean gain of one from 300 Hz to 4 kHz.

    An .npz file holds `ir` [positions, 2 (left, right), taps], `azimuth` (+90 is left) and `elevation` in degrees,
    `fs`, and optionally `scale`. Raises AudioError naming what is missing or wrong.
    """
    path = Path(path)
    read = _read_sofa if path.suffix.lower() == ".sofa" else _read_archive
    try:
        azimuth_deg, elevation_deg, responses, rate = read(path)
    except (OSError, ValueError, EOFError, TypeError, IndexError, zipfile.BadZipFile) as error:
        raise AudioError(f"{path}: not readable as head-related responses ({error})") from error
    if responses.ndim != 3 or responses.shape[1] != 2:
        raise AudioError(f"{path}: responses have the shape {responses.shape}; expected [positions, 2, taps]")
    if rate <= 0:
        raise AudioError(f"{path}: the sampling rate is {rate} Hz; expected more than 0")
    if rate != SAMPLE_RATE:
        common = gcd(rate, SAMPLE_RATE)
        responses = resample_poly(responses, SAMPLE_RATE // common, rate // common, axis=-1)
    head = Head(path.stem, azimuth_deg, elevation_deg, _cut(responses))
    head.responses /= _frontal_gain(head)
    return head


def _read_archive(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    found = np.load(path, allow_pickle=False)
    if isinstance(found, np.ndarray):
        raise AudioError(f"{path}: holds one array without a name; expected {', '.join(ARRAYS)}")
    with found as archive:
        missing = [name for name in ARRAYS if name not in archive]
        if missing:
            raise AudioError(f"{path}: array {', '.join(missing)} is missing; expected {', '.join(ARRAYS)}")
        responses = archive["ir"].astype(np.float32) * (archive["scale"] if "scale" in archive else np.float32(1))
        azimuth_deg, elevation_deg, rate = (np.ravel(archive[name]) for name in ARRAYS[1:])
        return azimuth_deg, elevation_deg, responses, round(float(rate[0]))


def _read_sofa(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    try:
        import h5py  # an extra: only who has SOFA files needs it
    except ImportError as error:
        raise HearloopError(f"{path}: SOFA files need the package h5py: pip install 'hearloop[train]'") from error

    with h5py.File(path, "r") as file:
        missing = [name for name in ("Data.IR", "Data.SamplingRate", "SourcePosition") if name not in file]
        if missing:
            raise AudioError(f"{path}: {', '.join(missing)} is missing; expected a SOFA file with impulse responses")
        responses = np.asarray(file["Data.IR"], np.float64)
        rate = round(float(np.ravel(file["Data.SamplingRate"])[0]))
        place = _spherical(file["SourcePosition"])
        delays = np.asarray(file["Data.Delay"], np.float64) if "Data.Delay" in file else np.zeros((1, 2))
        first_ear_is_right = "ReceiverPosition" in file and _first_is_right(file["ReceiverPosition"])
    if len(place) != len(responses):
        raise AudioError(f"{path}: has {len(place)} source positions of {len(responses)} responses; expected as many")
    if responses.ndim == 3 and responses.shape[1] == 2:
        responses = _delayed(responses, np.broadcast_to(delays.reshape(-1, 2), responses.shape[:2]))
        responses = responses[:, ::-1] if first_ear_is_right else responses
    radius, counts = np.unique(np.round(place[:, 2], 2), return_counts=True)
    chosen = np.round(place[:, 2], 2) == radius[np.argmax(counts)]
    return place[chosen, 0], place[chosen, 1], responses[chosen], rate


def _spherical(dataset: Any) -> np.ndarray:
    """Azimuth and elevation in degrees, and radius in metres, of each position [n, 3] of a SOFA variable."""
    kind = dataset.attrs.get("Type", b"spherical")
    values = np.asarray(dataset, np.float64)
    if (kind.decode() if isinstance(kind, bytes) else str(kind)) != "cartesian":
        return values
    x, y, z = values[:, 0], values[:, 1], values[:, 2]
    across = np.hypot(x, y)
    return np.stack([np.degrees(np.arctan2(y, x)), np.degrees(np.arctan2(z, across)), np.hypot(across, z)], axis=1)


def _first_is_right(dataset: Any) -> bool:
    azimuth_deg, _, radius = _spherical(dataset).reshape(-1, 3)[0]
    return radius > 0 and 180 < azimuth_deg % 360 < 360


def _delayed(responses: np.ndarray, delays: np.ndarray) -> np.ndarray:
    """Whole-sample delays that the file keeps apart, put back."""
    delays = np.round(delays - delays.min()).astype(int)
    longer = np.zeros((*responses.shape[:2], responses.shape[2] + delays.max()))
    for position, ear in np.ndindex(*delays.shape):
        start = delays[position, ear]
        longer[position, ear, start : start + responses.shape[2]] = responses[position, ear]
    return longer


def _cut(responses: np.ndarray) -> np.ndarray:
    """At most `TAPS` taps from shortly before the earliest arrival on, faded out; short responses stay."""
    if responses.shape[-1] <= TAPS:
        return responses
    loudest = np.abs(responses).max(axis=(0, 1))
    start = max(int(np.argmax(loudest > 0.1 * loudest.max())) - LEAD_SAMPLES, 0)
    cut = responses[..., start : start + TAPS].copy()
    cut[..., -FADE_SAMPLES:] *= np.linspace(1, 0, FADE_SAMPLES)
    return cut


def _frontal_gain(head: Head) -> np.float32:
    spectrum = np.abs(np.fft.rfft(head.responses[head.nearest(np.array([[1.0, 0.0, 0.0]]))[0]], SAMPLE_RATE))
    gain = np.sqrt(np.mean(spectrum[:, 300:4000] ** 2))
    if not gain > 0:
        raise AudioError(f"{head.name}: the response to sound from the front is silent")
    return np.float32(gain)
