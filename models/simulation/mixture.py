"""One noisy recording and what should be left of it."""

from dataclasses import dataclass

import numpy as np

from .corpus import Corpus
from .equalisation import equalise, random_band_limit, random_equaliser
from .levels import SILENT_POWER, gain_to_level, gain_to_ratio, power
from .recipe import Recipe
from .rooms import RoomBank, early_part, reverberate
from .sources import Sources
from .variation import clip, pause


@dataclass(frozen=True)
class Mixture:
    """A mixture and its target, sample for sample aligned, float32 [samples] in -1..1.

    target : the voice with the first 50 ms of its room; zeros where no voice is
    snr_db : energy of the voice (with its whole room) over energy of the noise, before the microphone, whose response
        changes it by a decibel or two; infinite without noise, minus infinity without voice
    kind : "noise", "babble" or "clean", with " in a room" behind it where so
    """

    noisy: np.ndarray
    target: np.ndarray
    snr_db: float
    kind: str


class Simulator:
    """Makes mixtures of two corpora and a bank of rooms as a recipe says; all chance comes from the generator given."""

    def __init__(self, recipe: Recipe, speech: Corpus, noise: Corpus, rooms: RoomBank):
        self.recipe, self.rooms = recipe, rooms
        self.sources = Sources(recipe, speech, noise)

    def mixture(self, rng: np.random.Generator, length: int, snr_db: float | None = None) -> Mixture:
        """A mixture of `length` samples; the recipe draws the SNR unless it is given."""
        recipe = self.recipe
        if snr_db is None:
            snr_db = self._draw_snr_db(rng)
        responses = self.rooms.draw(rng) if rng.random() < recipe.room_share else None
        voice, target, talker = self._voice(rng, length, responses)
        noise, kind = self.sources.mixed_noise(rng, length, responses, [talker])
        voice, target, noise, snr_db = _at_snr(voice, target, noise, snr_db)

        both = np.stack([voice + noise, target])
        both = equalise(both, random_equaliser(rng, recipe.microphone_equalisation_db))
        if rng.random() < recipe.band_limit_share:
            both = equalise(both, random_band_limit(rng))
        both *= gain_to_level(both[0], rng.uniform(*recipe.level_dbfs))
        noisy, target = both
        if rng.random() < recipe.clip_share:
            noisy = clip(noisy, share=rng.uniform(0.0005, 0.01))
        kind = "clean" if snr_db == np.inf else kind
        return Mixture(noisy, target, snr_db, kind if responses is None else f"{kind} in a room")

    def items(self, seed: int, first: int, count: int, length: int) -> np.ndarray:
        """Training items `first` to `first + count`, float32 [count, 2, length]: mixtures and targets.

        Item i depends on the seed and i alone, so that any process can make it, and again after an interruption.
        """
        mixtures = (self.mixture(np.random.default_rng([seed, index]), length) for index in range(first, first + count))
        return np.stack([np.stack([mixture.noisy, mixture.target]) for mixture in mixtures])

    def _draw_snr_db(self, rng: np.random.Generator) -> float:
        recipe, chance = self.recipe, rng.random()
        if chance < recipe.clean_share:
            return np.inf
        if chance < recipe.clean_share + recipe.absent_speech_share:
            return -np.inf
        if chance < recipe.clean_share + recipe.absent_speech_share + recipe.nearly_clean_share:
            return float(rng.uniform(*recipe.nearly_clean_snr_db))
        return float(rng.uniform(*recipe.snr_db))

    def _voice(
        self, rng: np.random.Generator, length: int, responses: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, str]:
        """The voice as the microphone hears it, the part of it to keep, and whose it is."""
        voice, talker = self.sources.voice(rng, length)
        if rng.random() < self.recipe.pause_share:
            voice = voice * pause(rng, length)
        voice = equalise(voice, random_equaliser(rng, self.recipe.speech_equalisation_db))
        if responses is None:
            return voice, voice, talker
        return reverberate(voice, responses[0]), reverberate(voice, early_part(responses[0])), talker


def _at_snr(
    voice: np.ndarray, target: np.ndarray, noise: np.ndarray, snr_db: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Voice, target and noise at an SNR; and the SNR that they have, which is infinite where one of them is silent."""
    if snr_db == np.inf:
        return voice, target, np.zeros_like(noise), snr_db
    if snr_db == -np.inf:
        return np.zeros_like(voice), np.zeros_like(target), noise, snr_db
    if power(voice) < SILENT_POWER:
        return voice, target, noise, -np.inf
    if power(noise) < SILENT_POWER:
        return voice, target, noise, np.inf
    return voice, target, noise * gain_to_ratio(voice, noise, snr_db), snr_db
