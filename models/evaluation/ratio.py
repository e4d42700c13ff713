"""Ratios of one sound, of both ears, and of several talkers in any order; needs none of the packages of `[eval]`."""

from itertools import permutations

import numpy as np
import torch

from ..training.metrics import si_sdr_db


def si_sdr(estimate: np.ndarray, target: np.ndarray) -> float:
    """SI-SDR in dB, see `models.training.metrics`; of several channels [channels, samples] the mean over them.

    Of two ears it is the binaural SI-SDR of Veluri et al., "Look Once to Hear", CHI 2024.
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
    """[..., samples] -> [...]; copied, because workers of a pool share arrays that PyTorch may not write to."""
    return si_sdr_db(torch.tensor(estimate), torch.tensor(target)).numpy()
