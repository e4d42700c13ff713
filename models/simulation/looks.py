"""Two looks at one talker, at different places, among different others: what an enrolment network learns from."""

from typing import NamedTuple

import numpy as np

from .corpus import SAMPLE_RATE
from .equalisation import equalise, random_equaliser, random_microphone
from .scenes import SceneSimulator, padded
from .turning import turned_to_the_talker


class LookItems(NamedTuple):
    """Training items in stacked arrays.

    looks : float32 [2 looks, items, 2 ears, samples], zeros behind each look
    alone : float32 [2 looks, items, 2 ears, samples], the talker in it, with 50 ms of reflections
    spoken : float32 [2 looks, items, samples], what the talker says in it, as recorded
    look_samples : int64 [2 looks, items], how long each look is
    talker : int64 [items], number of the speaker
    """

    looks: np.ndarray
    alone: np.ndarray
    spoken: np.ndarray
    look_samples: np.ndarray
    talker: np.ndarray


class LookSimulator(SceneSimulator):
    """Makes pairs of looks, as the looks of a `SceneSimulator` are, each with a head and microphones of its own.

    Raises AudioError if there is no head, or if there are too few speakers for the recipe.
    """

    def items(self, seed: int, first: int, count: int, length: int) -> LookItems:
        """Items `first` to `first + count`, of looks that are no longer than `length`.

        Item i depends on the seed and i alone.
        """
        pairs = [self.pair(np.random.default_rng([seed, index]), length) for index in range(first, first + count)]
        looks = np.array([[padded(look, length) for look in looks] for looks, _, _ in pairs]).transpose(2, 1, 0, 3, 4)
        return LookItems(
            looks[0],
            looks[1],
            np.array([[padded(piece, length) for piece in spoken] for _, spoken, _ in pairs]).swapaxes(0, 1),
            np.array([[look.shape[-1] for look in looks] for looks, _, _ in pairs]).T,
            np.array([talker for *_, talker in pairs]),
        )

    def pair(self, rng: np.random.Generator, longest: int) -> tuple[list[np.ndarray], list[np.ndarray], int]:
        """Two looks at one talker, each with the talker alone in it, float32 [2 (look, alone), 2, samples]; what is
        said in each, [samples]; and the number of the talker.
        """
        recipe = self.recipe
        lengths = [min(int(rng.uniform(*recipe.look_s) * SAMPLE_RATE), longest) for _ in range(2)]
        talker = int(self.voices.choose(rng, 1, sum(lengths))[0])
        pieces = self.voices.say(rng, talker, (lengths[0], lengths[1]), recipe.speech_speed)
        return [self._look_at(rng, talker, piece) for piece in pieces], pieces, talker

    def _look_at(self, rng: np.random.Generator, talker: int, spoken: np.ndarray) -> np.ndarray:
        recipe, length = self.recipe, len(spoken)
        is_clean = rng.random() < recipe.clean_look_share
        strangers = 0 if is_clean else int(rng.integers(recipe.look_talkers[0], recipe.look_talkers[1] + 1))
        microphone = random_microphone(rng, recipe.microphone_equalisation_db, recipe.band_limit_share)
        people = self.voices.choose(rng, strangers + 1)
        others = [int(person) for person in people if person != talker][:strangers]
        colour = random_equaliser(rng, recipe.speech_equalisation_db)
        voices = [equalise(spoken, np.concatenate([colour, microphone]))]
        voices += [self._say(rng, other, (length,), microphone)[0] for other in others]
        is_turned = recipe.turned_share > 0 and rng.random() < recipe.turned_share
        from_deg, to_deg = (0, 180) if is_turned else (recipe.elsewhere_deg, recipe.frontal_deg)
        azimuths_deg = rng.uniform(from_deg, 360 - from_deg, len(voices))
        azimuths_deg[0] = rng.uniform(-to_deg, to_deg)
        head = self.heads[rng.integers(len(self.heads))]
        heard = self._looked(rng, head, voices, azimuths_deg, microphone, is_clean, [talker, *people])
        recorded = self._recorded(rng, [heard[:2]])[0]
        return np.stack(turned_to_the_talker(rng, *recorded)) if is_turned else recorded
