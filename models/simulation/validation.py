"""The fixed validation set: made from a recipe and a seed, so that everybody measures on the same mixtures."""

from dataclasses import dataclass

import numpy as np

from .corpus import SAMPLE_RATE, Corpus
from .mixture import Mixture, Simulator
from .recipe import VALIDATION
from .rooms import simulate_rooms

SEED = 20261123
SECONDS = 4.0
SNR_BANDS_DB = ((-5.0, 0.0), (0.0, 5.0), (5.0, 10.0), (10.0, 15.0))
VALIDATION_ROOMS = 20
CLEAN_LEVELS_DBFS = (-35.0, -20.0)


@dataclass(frozen=True)
class ValidationSet:
    """noisy : the mixtures, the SNR bands in turn; clean : voices without noise or room, target = noisy."""

    noisy: tuple[Mixture, ...]
    clean: tuple[Mixture, ...]


def validation_set(speech: Corpus, noise: Corpus, mixtures: int = 120, clean: int = 24) -> ValidationSet:
    """Mixtures of 4 s at -5..15 dB, the same number in each band of 5 dB, and clean voices.

    Mixture i depends on the seed, i and the corpora alone, so a shorter set is the beginning of a longer one.
    """
    length = int(SECONDS * SAMPLE_RATE)
    simulator = Simulator(VALIDATION, speech, noise, simulate_rooms(np.random.default_rng(SEED), VALIDATION_ROOMS))
    noisy = []
    for index in range(mixtures):
        rng = np.random.default_rng([SEED, index])
        noisy.append(simulator.mixture(rng, length, float(rng.uniform(*SNR_BANDS_DB[index % len(SNR_BANDS_DB)]))))
    return ValidationSet(tuple(noisy), tuple(_clean_voice(speech, index, length) for index in range(clean)))


def snr_band(mixture: Mixture) -> tuple[float, float]:
    """The band of SNR_BANDS_DB that a mixture of the validation set was made for."""
    for low, high in SNR_BANDS_DB:
        if mixture.snr_db < high:
            return low, high
    return SNR_BANDS_DB[-1]


def _clean_voice(speech: Corpus, index: int, length: int) -> Mixture:
    rng = np.random.default_rng([SEED, 1, index])
    voice = speech.draw(rng, length)
    gain = 10 ** (rng.uniform(*CLEAN_LEVELS_DBFS) / 20) / np.sqrt(np.mean(voice**2))
    voice = voice * np.float32(min(gain, 0.99 / np.max(np.abs(voice))))
    return Mixture(voice, voice, np.inf, "clean")
