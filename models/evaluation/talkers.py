"""Whether each talker keeps an output: swaps, and what comes out where there is one talker or none."""

import numpy as np

from ..simulation.corpus import SAMPLE_RATE

WINDOW_S = 0.25
CLEAR = 0.5  # correlation from which on a window says who is where
SILENT_DB = 40.0  # below the loudest window: nobody speaks
FLOOR_POWER = 1e-10  # -100 dBFS


def swaps_per_minute(estimates: np.ndarray, targets: np.ndarray) -> float:
    """How often two talkers change their outputs, per minute of recording; there and back is two swaps.

    Both float32 [2, samples], in any order. Who is where is told by the correlation of the difference of the outputs
    with the difference of the talkers, in windows of a quarter of a second: it does not depend on levels, and one
    talker alone is enough. Windows in which it is weak, or nobody speaks, tell nothing. Not a number if none does.
    """
    order = outputs_order(estimates, targets)
    known = order[order != 0]
    minutes = targets.shape[1] / SAMPLE_RATE / 60
    return float(np.count_nonzero(np.diff(known)) / minutes) if len(known) else float("nan")


def outputs_order(estimates: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Per window of a quarter of a second: 1 as in `targets`, -1 swapped, 0 if it cannot be told."""
    found, expected = (_windows(pair[0] - pair[1]) for pair in (estimates, targets))
    energy = np.square(expected).sum(axis=1)
    norm = np.sqrt(np.square(found).sum(axis=1) * energy)
    correlation = (found * expected).sum(axis=1) / np.maximum(norm, 1e-12)
    speaks = energy > energy.max(initial=0) * 10 ** (-SILENT_DB / 10)
    return np.where(speaks & (np.abs(correlation) >= CLEAR), np.sign(correlation), 0).astype(int)


def phantom_db(estimates: np.ndarray) -> float:
    """Where one talker speaks: the level of the quieter output over that of the louder, in dB; at least -100.

    float32 [2, samples]. Not a number if both are silent.
    """
    quieter, louder = sorted(np.square(estimates, dtype=np.float64).mean(axis=1))
    return float(10 * np.log10(max(quieter / louder, 1e-10))) if louder > FLOOR_POWER else float("nan")


def silence_db(estimates: np.ndarray, mixture: np.ndarray) -> float:
    """Where nobody speaks: the level of the loudest output over that of the mixture, in dB.

    float32 [2, samples] and [1, samples]. Below -100 dBFS is silence: not a number if both are silent.
    """
    loudest = max(np.square(estimates, dtype=np.float64).mean(axis=1).max(), FLOOR_POWER)
    heard = max(np.square(mixture, dtype=np.float64).mean(), FLOOR_POWER)
    return float(10 * np.log10(loudest / heard)) if max(loudest, heard) > FLOOR_POWER else float("nan")


def _windows(audio: np.ndarray) -> np.ndarray:
    length = round(WINDOW_S * SAMPLE_RATE)
    return audio[: len(audio) // length * length].astype(np.float64).reshape(-1, length)
