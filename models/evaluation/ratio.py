"""Ratios of one sound, of both ears, and of several talkers in any order; needs NumPy alone."""

from itertools import permutations

import numpy as np

LEAST_RATIO = 1e-8  # +-80 dB: keeps silence and identity finite


def si_sdr(estimate: np.ndarray, target: np.ndarray) -> float:
    """SI-SDR in dB (Le Roux et al. 2019) without the means; of several channels [channels, samples] the mean over them.

    Limited to +-80 dB; with a silent target it is -80. Of two ears it is the binaural SI-SDR of Veluri et al., "Look
    Once to Hear", CHI 2024. `models.training.metrics` is the same with a gradient.
    """
    return float(_each(estimate, target).mean())


def in_best_order(estimates: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The estimates of all talkers in the one order, for the whole recording, whose mean SI-SDR is highest.

    Both float32 [talkers, samples]. Kolbaek et al., "Multitalker speech separation with utterance-level permutation
    invariant training", TASLP 2017.
    """
    scores = _each(estimates[:, np.newaxis], targets[np.newaxis])
    talkers = np.arange(len(targets))
    order = max(permutations(talkers), key=lambda order: float(scores[list(order), talkers].sum()))
    return estimates[list(order)]


def _each(estimate: np.ndarray, target: np.ndarray) -> np.ndarray:
    """[..., samples] -> [...]; both are spread over each other's leading axes."""
    estimate, target = (audio - audio.mean(-1, keepdims=True, dtype=np.float64) for audio in (estimate, target))
    energy = np.square(estimate).sum(-1)
    kept = np.square((estimate * target).sum(-1)) / np.maximum(np.square(target).sum(-1), np.finfo(np.float64).tiny)
    distortion = np.maximum(energy - kept, 0)
    whole = kept + distortion
    ratio = (kept + LEAST_RATIO * whole) / np.maximum(distortion + LEAST_RATIO * whole, 1e-30)
    return 10 * np.log10(np.clip(ratio, LEAST_RATIO, 1 / LEAST_RATIO))
