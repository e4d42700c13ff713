"""Voices and noises before anything hears them: drawn from corpora and varied as a recipe says."""

from collections.abc import Collection

import numpy as np

from .corpus import Corpus
from .equalisation import equalise, random_equaliser
from .levels import gain_to_level
from .recipe import Variation
from .rooms import reverberate
from .synthetic import clicks, coloured_noise, hum
from .variation import change_speed, random_loudness, source_length


class Sources:
    """What sounds: all chance comes from the generator given.

    A babble is made of others than the `people` whose voices are to be told from it.
    """

    def __init__(self, recipe: Variation, speech: Corpus, noise: Corpus):
        self.recipe, self.speech, self.noise = recipe, speech, noise

    def voice(self, rng: np.random.Generator, length: int) -> tuple[np.ndarray, str]:
        """A piece of any recording of speech at a random speed, float32 [length], and who speaks."""
        voice, recording = self._at_random_speed(rng, self.speech, length, self.recipe.speech_speed, loop=False)
        return voice, self.speech.groups[recording]

    def noise_layers(
        self, rng: np.random.Generator, length: int, people: Collection[str]
    ) -> tuple[list[np.ndarray], str]:
        """Noises that sound together, the first of them recorded or babble; and "noise" or "babble"."""
        recipe = self.recipe
        is_babble = rng.random() < recipe.babble_share
        layers = [self.babble(rng, length, people) if is_babble else self.recorded(rng, length)]
        while len(layers) < 3 and rng.random() < recipe.extra_noise_share:
            layers.append(self.recorded(rng, length))
        if rng.random() < recipe.synthetic_share:
            layers.append((coloured_noise, hum, clicks)[rng.integers(3)](rng, length))
        return layers, "babble" if is_babble else "noise"

    def mixed_noise(
        self, rng: np.random.Generator, length: int, responses: np.ndarray | None, people: Collection[str]
    ) -> tuple[np.ndarray, str]:
        """All layers at one microphone, float32 [length], and their kind.

        responses : of a room [places, taps], the first place being the voice's; None in the open
        """
        layers, kind = self.noise_layers(rng, length, people)
        noise = np.zeros(length, np.float32)
        for order, layer in enumerate(layers):
            layer = self.levelled(rng, layer, order)
            if responses is not None:
                layer = reverberate(layer, responses[1 + order % (len(responses) - 1)])
            noise += self.equalised_noise(rng, layer)
        return noise, kind

    def levelled(self, rng: np.random.Generator, layer: np.ndarray, order: int) -> np.ndarray:
        """A layer at the level it has beside the first (order 0), perhaps with a course of loudness."""
        if rng.random() < self.recipe.loudness_share:
            layer = layer * random_loudness(rng, len(layer), self.recipe.loudness_range_db)
        return layer * gain_to_level(layer, rng.uniform(-9, 0) if order else 0.0, may_clip=True)

    def equalised_noise(self, rng: np.random.Generator, noise: np.ndarray) -> np.ndarray:
        return equalise(noise, random_equaliser(rng, self.recipe.noise_equalisation_db))

    def recorded(self, rng: np.random.Generator, length: int) -> np.ndarray:
        """A piece of a recording of noise, at a random speed, perhaps backwards, float32 [length]."""
        noise, _ = self._at_random_speed(rng, self.noise, length, self.recipe.noise_speed, loop=True)
        return noise[::-1] if rng.random() < self.recipe.reversed_share else noise

    def everywhere(
        self, rng: np.random.Generator, length: int, directions: tuple[int, int], people: Collection[str]
    ) -> tuple[np.ndarray, str]:
        """Sounds that come from all around, float32 [directions, length], and "noise" or "babble".

        Talkers of a babble, or the same recording of noise from different times.
        """
        recipe = self.recipe
        if rng.random() < recipe.babble_share:
            count = int(rng.integers(recipe.babble_talkers[0], recipe.babble_talkers[1] + 1))
            talkers = [self.speech.draw(rng, length, loop=True, without=people) for _ in range(count)]
            levels = [gain_to_level(talker, rng.uniform(-6, 0), may_clip=True) for talker in talkers]
            return np.stack([talker * level for talker, level in zip(talkers, levels, strict=True)]), "babble"
        count = int(rng.integers(directions[0], directions[1] + 1))
        noise = self.levelled(rng, self.equalised_noise(rng, self.recorded(rng, length)), order=0)
        twice = np.concatenate([noise, noise])
        times = ((np.arange(count) + rng.random(count)) * length / count).astype(int)
        return np.stack([twice[time : time + length] for time in rng.permutation(times)]), "noise"

    def babble(self, rng: np.random.Generator, length: int, people: Collection[str]) -> np.ndarray:
        """Many talkers at once, float32 [length]."""
        low, high = self.recipe.babble_talkers
        babble = np.zeros(length, np.float32)
        for _ in range(rng.integers(low, high + 1)):
            talker = self.speech.draw(rng, length, loop=True, without=people)
            babble += talker * gain_to_level(talker, rng.uniform(-6, 0), may_clip=True)
        return babble

    def _at_random_speed(
        self, rng: np.random.Generator, corpus: Corpus, length: int, speeds: tuple[float, float], loop: bool
    ) -> tuple[np.ndarray, int]:
        """A piece of a recording, and which one."""
        speed = random_speed(rng, speeds)
        index = corpus.choose(rng)
        if speed == 1:
            return corpus.piece(rng, index, length, loop), index
        return change_speed(corpus.piece(rng, index, source_length(length, speed), loop), length), index


def random_speed(rng: np.random.Generator, speeds: tuple[float, float]) -> float:
    """Log-uniform: slower and faster by the same factor are equally likely."""
    return float(np.exp(rng.uniform(*np.log(speeds))))
