"""Whether the right talker comes through: leakage while nobody should, re-opening, and the wrong one."""

from collections.abc import Sequence

import numpy as np

from ..simulation.corpus import SAMPLE_RATE
from .ratio import si_sdr

FRAME_S = 0.01
SILENT_DB = 60.0  # below the loudest frame of the target: the talker is silent
SETTLING_S = 0.2  # after the talker stops, a model may still be closing
OPEN_DB = 6.0  # within this of the target's level, it has opened
LOUD_DB = 30.0  # below the loudest frame of the target: softer sound resembles the target by chance


def leakage_db(estimate: np.ndarray, target: np.ndarray, mixture: np.ndarray) -> float:
    """Level of the output over that of the mixture while the target is silent, in dB; lower is better.

    All float32 [samples], or [ears, samples]. Frames within 0.2 s after the target are left out. Not a number if the
    target never pauses or the mixture is silent there.
    """
    silent = _silent(target)
    settling = round(SETTLING_S / FRAME_S)
    spoken = np.flatnonzero(~silent)
    for start in spoken:
        silent[start : start + settling + 1] = False
    leaked, heard = (_energy(audio)[silent].sum() for audio in (estimate, mixture))
    return float(10 * np.log10((leaked + 1e-12) / heard)) if heard > 1e-9 else float("nan")


def reopening_s(estimate: np.ndarray, target: np.ndarray, pause_s: float = 0.5) -> float:
    """Mean time in seconds from when the target speaks again after a pause until it comes through within 6 dB.

    What comes through is the part of the output, in frames of 10 ms, that is the target: a projection, so that others
    who leak do not count. A pause is at least `pause_s` long, and over when the target is within 30 dB of its loudest
    frame. An onset that is never followed counts with the time until the next pause or the end. Not a number without
    such an onset.
    """
    silent, wanted = _silent(target), _energy(target)
    loud = wanted > max(wanted.max(initial=0) * 10 ** (-LOUD_DB / 10), 1e-12)
    is_open = loud & (_frames(estimate, target) >= wanted * 10 ** (-OPEN_DB / 20))
    quiet = round(pause_s / FRAME_S)
    pauses = [at for at in range(quiet, len(silent)) if not silent[at] and silent[at - quiet : at].all()]
    times = []
    for over in pauses:
        later = next((at for at in range(over, len(silent)) if silent[at : at + quiet].all()), len(silent))
        spoken, opened = np.flatnonzero(loud[over:later]), np.flatnonzero(is_open[over:later])
        if len(spoken):
            times.append((opened[0] if len(opened) else later - over) - spoken[0])
    return float(np.mean(times) * FRAME_S) if times else float("nan")


def is_wrong_talker(estimate: np.ndarray, target: np.ndarray, others: Sequence[np.ndarray]) -> bool:
    """Whether the output resembles one of the other talkers more than the target, by SI-SDR (mean over ears)."""
    return any(si_sdr(estimate, other) > si_sdr(estimate, target) for other in others)


def _energy(audio: np.ndarray) -> np.ndarray:
    """Of each frame, of all channels together."""
    return _frames(audio, audio)


def _frames(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The product of two sounds, summed over each frame and all channels."""
    frame = round(FRAME_S * SAMPLE_RATE)
    product = np.atleast_2d(one).astype(np.float64) * np.atleast_2d(other)
    whole = product.shape[1] // frame * frame
    return product[:, :whole].reshape(len(product), -1, frame).sum(axis=(0, 2))


def _silent(target: np.ndarray) -> np.ndarray:
    energy = _energy(target)
    return energy <= max(energy.max(initial=0) * 10 ** (-SILENT_DB / 10), 1e-12)
