"""Measures systems on the validation set: SI-SDR, PESQ and ESTOI per SNR band, with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pesq import NoUtterancesError, pesq
from pystoi import stoi
from tqdm import tqdm

from ..simulation.corpus import SAMPLE_RATE
from ..simulation.validation import SNR_BANDS_DB, ValidationSet, snr_band
from .metrics import si_sdr_db
from .systems import System

RESAMPLINGS = 2000
ALL = "all"


@dataclass(frozen=True)
class Interval:
    """A mean over mixtures and the 95 % bootstrap interval of it (percentile method)."""

    mean: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Result:
    """What was found for one system.

    bands : SNR band (or "all") -> measure -> Interval; the measures are si_sdr_db, si_sdr_improvement_db, pesq_wb,
        pesq_wb_improvement, estoi
    clean_si_sdr_db : SI-SDR of clean voices through the system
    """

    name: str
    latency_ms: float
    bands: dict[str, dict[str, Interval]]
    clean_si_sdr_db: Interval


def evaluate(systems: Sequence[System], items: ValidationSet) -> list[Result]:
    """Measure every system on every item of a validation set."""
    bands = [band_name(snr_band(item)) for item in items.noisy]
    before = [_measure(item.noisy, item.target) for item in items.noisy]
    results = []
    for system in systems:
        rows = []
        for item, unprocessed in zip(tqdm(items.noisy, desc=system.name, unit="mixture"), before, strict=True):
            found = _measure(system.enhance(item.noisy), item.target)
            found["si_sdr_improvement_db"] = found["si_sdr_db"] - unprocessed["si_sdr_db"]
            found["pesq_wb_improvement"] = found["pesq_wb"] - unprocessed["pesq_wb"]
            rows.append(found)
        clean = [_si_sdr(system.enhance(item.noisy), item.target) for item in items.clean]
        results.append(Result(system.name, system.latency_ms, _by_band(rows, bands), interval(clean)))
    return results


def interval(values: Sequence[float]) -> Interval:
    """Mean and bootstrap interval; values that are not numbers (a measure that is undefined there) are left out."""
    known = np.array([value for value in values if np.isfinite(value)])
    if len(known) == 0:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    draws = np.random.default_rng(0).integers(len(known), size=(RESAMPLINGS, len(known)))
    low, high = np.percentile(known[draws].mean(axis=1), [2.5, 97.5])
    return Interval(float(known.mean()), float(low), float(high), len(known))


def band_name(band: tuple[float, float]) -> str:
    return f"{band[0]:g}..{band[1]:g} dB"


def markdown(results: Sequence[Result]) -> str:
    """Two tables: all mixtures with intervals, and the means per SNR band."""
    overall = [
        "| system | latency | SI-SDR improvement, dB | PESQ-WB | ESTOI | clean SI-SDR, dB |",
        "|---|---|---|---|---|---|",
    ]
    for result in results:
        found = result.bands[ALL]
        cells = [_with_interval(found[name], digits) for name, digits in _OVERALL]
        clean = "-" if result.latency_ms == 0 else _with_interval(result.clean_si_sdr_db, 1)
        overall.append(f"| {result.name} | {result.latency_ms:g} ms | {' | '.join(cells)} | {clean} |")
    names = [band_name(band) for band in SNR_BANDS_DB]
    by_band = [f"| SI-SDR improvement, dB / PESQ-WB | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for result in results:
        measured = [result.bands.get(name) for name in names]
        cells = [
            f"{found['si_sdr_improvement_db'].mean:.1f} / {found['pesq_wb'].mean:.2f}" if found else "-"
            for found in measured
        ]
        by_band.append(f"| {result.name} | {' | '.join(cells)} |")
    return "\n".join([*overall, "", *by_band])


_OVERALL = (("si_sdr_improvement_db", 1), ("pesq_wb", 2), ("estoi", 3))


def _with_interval(found: Interval, digits: int) -> str:
    return f"{found.mean:.{digits}f} ({found.low:.{digits}f} to {found.high:.{digits}f})"


def _by_band(rows: list[dict[str, float]], bands: list[str]) -> dict[str, dict[str, Interval]]:
    return {
        name: {
            measure: interval([row[measure] for row, band in zip(rows, bands, strict=True) if name in (ALL, band)])
            for measure in rows[0]
        }
        for name in (ALL, *dict.fromkeys(bands))
    }


def _measure(estimate: np.ndarray, target: np.ndarray) -> dict[str, float]:
    return {
        "si_sdr_db": _si_sdr(estimate, target),
        "pesq_wb": _pesq_wb(estimate, target),
        "estoi": float(stoi(target, estimate, SAMPLE_RATE, extended=True)),
    }


def _si_sdr(estimate: np.ndarray, target: np.ndarray) -> float:
    return float(si_sdr_db(torch.from_numpy(estimate), torch.from_numpy(target)))


def _pesq_wb(estimate: np.ndarray, target: np.ndarray) -> float:
    """PESQ wide-band (ITU-T P.862.2); not a number where it finds no utterance in the target."""
    try:
        return float(pesq(SAMPLE_RATE, target, estimate, "wb"))
    except NoUtterancesError:
        return float("nan")
