"""Two talkers at one microphone, for separation."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .corpus import SAMPLE_RATE, Corpus
from .equalisation import equalise, random_equaliser, random_microphone
from .levels import SILENT_POWER, gain_to_level, gain_to_ratio, power
from .pitch import median_pitch_hz
from .recipe import PairRecipe
from .rooms import RoomBank, early_part, reverberate
from .sources import Sources
from .turns import take_turns
from .variation import clip
from .voices import Voices

KINDS = ("overlap", "conversation", "one talker", "silence")
ALIKE_AMONG = 8  # people, of whom one has a pitch that is close to any
PITCH_S = 20  # of what somebody says, to tell the pitch


@dataclass(frozen=True)
class Pair:
    """A mixture of two talkers and each of them alone, sample for sample aligned, float32 in -1..1.

    mixture : [samples]
    sources : [2, samples] each with 50 ms of its room; zeros for one who says nothing
    relative_db : level of the second over the first, while they speak
    snr_db : energy of the direct sound of both, as if they spoke all the time, over the noise; infinite without
    talkers : numbers of the speakers in the simulator's `voices.names`
    kind : one of `KINDS`, with " in noise" and " in a room" behind where so
    """

    mixture: np.ndarray
    sources: np.ndarray
    relative_db: float
    snr_db: float
    talkers: tuple[int, int]
    kind: str


class PairItems(NamedTuple):
    """Training items: mixture float32 [items, samples], sources float32 [items, 2, samples] in no special order."""

    mixture: np.ndarray
    sources: np.ndarray


class PairSimulator:
    """Makes pairs of talkers of a corpus of speech, one of noise, and a bank of rooms.

    Raises AudioError if there are not enough speakers.
    """

    def __init__(self, recipe: PairRecipe, speech: Corpus, noise: Corpus, rooms: RoomBank):
        self.recipe, self.rooms = recipe, rooms
        self.sources = Sources(recipe, speech, noise)
        self.voices = Voices(speech, fewest=3 if recipe.crowd_share else 2)
        self.pitches_hz = self._pitches_hz() if recipe.alike_share else np.zeros(0)

    def items(self, seed: int, first: int, count: int, length: int) -> PairItems:
        """Items `first` to `first + count`; item i depends on the seed and i alone."""
        pairs = [self.pair(np.random.default_rng([seed, index]), length) for index in range(first, first + count)]
        return PairItems(np.stack([pair.mixture for pair in pairs]), np.stack([pair.sources for pair in pairs]))

    def pair(self, rng: np.random.Generator, length: int, kind: str | None = None) -> Pair:
        """A mixture of `length` samples; the recipe draws its kind, one of `KINDS`, unless it is given."""
        recipe = self.recipe
        kind = self._draw_kind(rng) if kind is None else kind
        # In all sounds before their levels, so that ratios are those of the recording.
        microphone = random_microphone(rng, recipe.microphone_equalisation_db, recipe.band_limit_share)
        has_crowd = rng.random() < recipe.crowd_share
        people = self.voices.choose(rng, 3 if has_crowd else 2)
        if recipe.alike_share and rng.random() < recipe.alike_share:
            people[1] = self._one_like(rng, people)
        speech = [self._say(rng, person, length, microphone) for person in people]
        relative_db = rng.uniform(*recipe.relative_db)
        speech[1] = speech[1] * gain_to_ratio(speech[0], speech[1], -relative_db)
        voices = self._arranged(rng, speech[:2], length, kind)
        if has_crowd:
            third = speech[2] * gain_to_ratio(speech[0], speech[2], -rng.uniform(*recipe.crowd_db))
            voices = np.concatenate([voices, _fitted(third, length)[np.newaxis]])

        responses = self.rooms.draw(rng) if rng.random() < recipe.room_share else None
        whole, kept = voices, voices[:2]
        if responses is not None:
            places = list(zip(voices, responses, strict=False))
            whole = np.stack([reverberate(voice, response) for voice, response in places])
            kept = np.stack([reverberate(voice, early_part(response)) for voice, response in places[:2]])
        mixture, snr_db = whole.sum(axis=0), np.inf
        if rng.random() < recipe.noise_share:
            names = [self.voices.names[person] for person in people]
            noise = equalise(self.sources.mixed_noise(rng, length, responses, names)[0], microphone)
            snr_db = rng.uniform(*recipe.snr_db) if power(noise) > SILENT_POWER else np.inf
            both = _fitted(speech[0], length) + _fitted(speech[1], length)
            mixture = mixture + noise * gain_to_ratio(both, noise, snr_db)
        heard = self._recorded(rng, np.concatenate([mixture[np.newaxis], kept]))
        kind += (" in noise" if np.isfinite(snr_db) else "") + (" in a room" if responses is not None else "")
        return Pair(heard[0], heard[1:], float(relative_db), float(snr_db), (int(people[0]), int(people[1])), kind)

    def _pitches_hz(self) -> np.ndarray:
        """Of every speaker; not a number where it is not known."""
        return np.array(
            [median_pitch_hz(self.voices.excerpt(n, PITCH_S * SAMPLE_RATE)) for n in range(len(self.voices.names))]
        )

    def _one_like(self, rng: np.random.Generator, people: np.ndarray) -> int:
        """Whose pitch, of a few people who do not speak yet, is closest to that of the first of those who do."""
        others = rng.permutation(np.delete(np.arange(len(self.pitches_hz)), people))[:ALIKE_AMONG]
        apart = np.abs(np.log(self.pitches_hz[others] / self.pitches_hz[people[0]]))
        return int(others[np.nan_to_num(apart, nan=np.inf).argmin()]) if len(others) else int(people[1])

    def _draw_kind(self, rng: np.random.Generator) -> str:
        recipe, chance = self.recipe, rng.random()
        shares = (recipe.conversation_share, recipe.one_talker_share, recipe.silence_share)
        for kind, limit in zip(KINDS[1:], np.cumsum(shares), strict=True):
            if chance < limit:
                return kind
        return KINDS[0]

    def _say(self, rng: np.random.Generator, speaker: int, length: int, microphone: np.ndarray) -> np.ndarray:
        """What a speaker has to say, at most `length` samples, through the microphone."""
        recipe = self.recipe
        length = min(length, int(self.voices.samples[speaker] / recipe.speech_speed[1]))
        (speech,) = self.voices.say(rng, speaker, (length,), recipe.speech_speed)
        colour = random_equaliser(rng, recipe.speech_equalisation_db)
        return equalise(speech, np.concatenate([colour, microphone]))

    def _arranged(self, rng: np.random.Generator, speech: list[np.ndarray], length: int, kind: str) -> np.ndarray:
        """Who speaks when, float32 [2, length]."""
        if kind == "conversation":
            return take_turns(rng, speech, length, self.recipe)
        voices = np.stack([_fitted(words, length) for words in speech])
        if kind == "one talker":
            voices[rng.integers(2)] = 0
        if kind == "silence":
            voices[:] = 0
        return voices

    def _recorded(self, rng: np.random.Generator, heard: np.ndarray) -> np.ndarray:
        """The mixture (first row) and the sources at the level of the recording; the mixture may clip."""
        recipe = self.recipe
        heard *= gain_to_level(heard[0], rng.uniform(*recipe.level_dbfs))
        if rng.random() < recipe.clip_share:
            heard[0] = clip(heard[0], share=rng.uniform(0.0005, 0.01))
        return heard


def _fitted(speech: np.ndarray, length: int) -> np.ndarray:
    """Speech again and again until it lasts `length` samples."""
    return speech if len(speech) == length else np.resize(speech, length)
