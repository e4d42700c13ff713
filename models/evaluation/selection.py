"""Whether the right talker comes through: leakage while nobody should, re-opening, and the wrong one."""

from collections.abc import Sequence

import numpy as np

from ..simulation.corpus import SAMPLE_RATE
from .ratio import si_sdr

FRAME_S = 0.01
SILENT_DB = 60.0  # below the loudest frame of the target: the talker is silent
SETTLING_S = 0.2  # after the talker stops, a model may still be closing
OPEN_DB = 6.0  # within this of the target's level, it has opened


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
    """Mean time in seconds from when the target speaks again after a pause until the output is within 6 dB of it.

    A pause is at least `pause_s` long. An onset that is never followed counts with the time until the next pause or
    the end. Not a number without such an onset.
    """
    silent, out, wanted = _silent(target), _energy(estimate), _energy(target)
    quiet = round(pause_s / FRAME_S)
    onsets = [at for at in range(quiet, len(silent)) if not silent[at] and silent[at - quiet : at].all()]
    times = []
    for onset in onsets:
        later = next((at for at in range(onset, len(silent)) if silent[at : at + quiet].all()), len(silent))
        opened = [at for at in range(onset, later) if not silent[at] and out[at] >= wanted[at] * 10 ** (-OPEN_DB / 10)]
        times.append((opened[0] if opened else later) - onset)
    return float(np.mean(times) * FRAME_S) if times else float("nan")


def is_wrong_talker(estimate: np.ndarray, target: np.ndarray, others: Sequence[np.ndarray]) -> bool:
    """Whether the output resembles one of the other talkers more than the target, by SI-SDR (mean over ears)."""
    return any(si_sdr(estimate, other) > si_sdr(estimate, target) for other in others)


def _energy(audio: np.ndarray) -> np.ndarray:
    """Of each frame, of all channels together."""
    frame = round(FRAME_S * SAMPLE_RATE)
    channels = np.atleast_2d(audio).astype(np.float64)
    whole = channels.shape[1] // frame * frame
    return np.square(channels[:, :whole]).reshape(len(channels), -1, frame).sum(axis=(0, 2))


def _silent(target: np.ndarray) -> np.ndarray:
    energy = _energy(target)
    return energy <= max(energy.max(initial=0) * 10 ** (-SILENT_DB / 10), 1e-12)
