"""PESQ wide-band of recordings of any length; needs the package `pesq` alone."""

import numpy as np
from pesq import BufferTooShortError, NoUtterancesError, pesq

from ..simulation.corpus import SAMPLE_RATE
from ..simulation.levels import SILENT_POWER, power

# P.862 is made for 8 to 30 s. The package has room for 50 utterances and does not look whether more come; with the
# pause that parts them, an utterance takes 0.4 s at least.
LONGEST_SAMPLES = 20 * SAMPLE_RATE
LOWEST = 0.999 + 4 / (1 + np.exp(1.3669 * 0.5 + 3.8224))  # 1.04, what P.862.2 maps the end of the raw scale to, -0.5


def pesq_wb(estimate: np.ndarray, target: np.ndarray) -> float:
    """PESQ wide-band (ITU-T P.862.2), both float32 [samples] at 16 kHz; the mean over equal pieces of at most 20 s.

    An output that is silent, or not finite, has the lowest of the scale, 1.04, where the target sounds. Pieces are left
    out that have no utterance in the target or are shorter than 0.25 s; not a number if none is left.
    """
    pieces = -(-len(target) // LONGEST_SAMPLES)
    scores = [
        _score(*piece) for piece in zip(np.array_split(estimate, pieces), np.array_split(target, pieces), strict=True)
    ]
    known = [score for score in scores if np.isfinite(score)]
    return float(np.mean(known)) if known else float("nan")


def _score(estimate: np.ndarray, target: np.ndarray) -> float:
    if power(target) < SILENT_POWER:
        return float("nan")
    if not SILENT_POWER <= power(estimate) < np.inf:
        return float(LOWEST)
    try:
        return float(pesq(SAMPLE_RATE, target, estimate, "wb"))
    except (NoUtterancesError, BufferTooShortError):
        return float("nan")
