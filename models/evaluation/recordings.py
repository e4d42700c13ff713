"""What is measured on: the fixed validation set, or pairs of files that somebody has."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...runtime.errors import AudioError
from ..simulation.corpus import AUDIO_SUFFIXES, read_files
from ..simulation.validation import SNR_BANDS_DB, ValidationSet, snr_band


@dataclass(frozen=True)
class Recording:
    """noisy, target : float32 [samples] at 16 kHz; groups : what it belongs to, such as its SNR band and condition."""

    name: str
    noisy: np.ndarray
    target: np.ndarray
    groups: tuple[str, ...] = field(default=())


def of_validation(items: ValidationSet) -> tuple[list[Recording], list[Recording]]:
    """The mixtures, grouped by SNR band and by what disturbs, and the clean voices."""
    noisy = [
        Recording(f"mixture {number}", item.noisy, item.target, (band_name(snr_band(item)), item.kind))
        for number, item in enumerate(items.noisy)
    ]
    return noisy, [Recording(f"voice {number}", item.noisy, item.target) for number, item in enumerate(items.clean)]


def read_pairs(folder: Path) -> list[Recording]:
    """The files of `noisy/` with those of the same name in `clean/`; at any rate, the first samples line up.

    The groups are the SNR band, from the energies of the clean file and of the difference, and the subfolder, if any.

    Raises
    ------
    AudioError
        If a folder is missing or empty, a file has no partner, or two partners differ in length.
    """
    noisy_folder, clean_folder = folder / "noisy", folder / "clean"
    for part in (noisy_folder, clean_folder):
        if not part.is_dir():
            raise AudioError(f"{part}: no such folder; expected {folder.name} to hold noisy/ and clean/")
    paths = sorted(path for path in noisy_folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
    partners = {path.relative_to(clean_folder).with_suffix(""): path for path in clean_folder.rglob("*.*")}
    names = [path.relative_to(noisy_folder).with_suffix("") for path in paths]
    lonely = [str(name) for name in names if name not in partners]
    if lonely:
        raise AudioError(f"{clean_folder}: no file for {', '.join(lonely[:3])}; expected one per file of noisy/")
    noisy = read_files(paths, str(noisy_folder))
    clean = read_files([partners[name] for name in names], str(clean_folder))
    recordings = []
    for number, name in enumerate(names):
        pair = noisy.recording(number), clean.recording(number)
        if len(pair[0]) != len(pair[1]):
            raise AudioError(
                f"{name}: noisy has {len(pair[0])} samples at 16 kHz, clean {len(pair[1])}; expected as many"
            )
        condition = () if name.parent == Path() else (str(name.parent),)
        recordings.append(Recording(str(name), *pair, (_snr_name(*pair), *condition)))
    return recordings


def band_name(band: tuple[float, float]) -> str:
    return f"{band[0]:g}..{band[1]:g} dB"


def _snr_name(noisy: np.ndarray, clean: np.ndarray) -> str:
    noise, speech = np.square(noisy - clean).sum(), np.square(clean).sum()
    snr_db = 10 * np.log10((speech + 1e-12) / (noise + 1e-12))
    if snr_db < SNR_BANDS_DB[0][0]:
        return f"below {SNR_BANDS_DB[0][0]:g} dB"
    return next((band_name(band) for band in SNR_BANDS_DB if snr_db < band[1]), f"from {SNR_BANDS_DB[-1][1]:g} dB")
