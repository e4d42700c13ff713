"""A loudspeaker that its own microphone hears, for echo cancellation."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .corpus import SAMPLE_RATE, Corpus
from .equalisation import equalise, random_equaliser
from .levels import SILENT_POWER, gain_to_level, gain_to_ratio, power
from .loudspeakers import play
from .recipe import EchoRecipe
from .rooms import RoomBank, early_part, reverberate
from .sources import Sources
from .variation import clip, faded_gate
from .voices import Voices

CHANGE_SAMPLES = SAMPLE_RATE // 10
KINDS = ("double talk", "far end", "near end", "alternating")


@dataclass(frozen=True)
class EchoScene:
    """What a hands-free device has and wants, sample for sample aligned, float32 [samples] in -1..1.

    microphone : near voice, echo and noise; reference : what was sent to the loudspeaker
    target : the near voice with 50 ms of its room; zeros where nobody speaks here
    echo : the part of the microphone that is echo
    echo_db : energy of the near voice over the echo, both as if they sounded all the time
    snr_db : the same over the noise; infinite without noise
    kind : one of `KINDS`: "far end" and "near end" mean that only this end speaks
    """

    microphone: np.ndarray
    reference: np.ndarray
    target: np.ndarray
    echo: np.ndarray
    echo_db: float
    snr_db: float
    kind: str


class EchoItems(NamedTuple):
    """Training items: microphone, reference, target and echo, each float32 [items, samples]."""

    microphone: np.ndarray
    reference: np.ndarray
    target: np.ndarray
    echo: np.ndarray


class EchoSimulator:
    """Makes echo scenes of a corpus of speech, one of noise, and a bank of rooms.

    Raises AudioError if there are not two speakers.
    """

    def __init__(self, recipe: EchoRecipe, speech: Corpus, noise: Corpus, rooms: RoomBank):
        self.recipe, self.rooms = recipe, rooms
        self.sources = Sources(recipe, speech, noise)
        self.voices = Voices(speech, fewest=2)

    def items(self, seed: int, first: int, count: int, length: int) -> EchoItems:
        """Items `first` to `first + count`; item i depends on the seed and i alone."""
        scenes = [self.scene(np.random.default_rng([seed, index]), length) for index in range(first, first + count)]
        return EchoItems(*(np.stack([getattr(scene, name) for scene in scenes]) for name in EchoItems._fields))

    def scene(self, rng: np.random.Generator, length: int, kind: str | None = None) -> EchoScene:
        """A scene of `length` samples; the recipe draws its kind, one of `KINDS`, unless it is given."""
        recipe = self.recipe
        kind = self._draw_kind(rng) if kind is None else kind
        near_speaks, far_speaks = _activity(rng, length, kind)
        microphone = random_equaliser(rng, recipe.microphone_equalisation_db)
        near_person, far_person = people = self.voices.choose(rng, 2)
        names = [self.voices.names[person] for person in people]
        near, far = self._say(rng, near_person, length), self._say(rng, far_person, length)
        if rng.random() < recipe.noisy_far_share:
            noise, _ = self.sources.mixed_noise(rng, length, None, names)
            far = far + noise * gain_to_ratio(far, noise, rng.uniform(*recipe.far_snr_db))
        reference = far * gain_to_level(far, rng.uniform(*recipe.reference_dbfs)) * far_speaks

        # The microphone is in all sounds before their levels, so that ratios are those of the recording.
        near = equalise(near, microphone)
        responses = self.rooms.draw(rng)
        echo = equalise(self._echo(rng, reference, responses), microphone)
        voice = reverberate(near, responses[0])
        echo_db, snr_db = rng.uniform(*recipe.echo_db), np.inf
        # Both ratios are those of sounds without their silent stretches.
        share = power(far * far_speaks) / max(power(far), SILENT_POWER)
        echo = echo * gain_to_ratio(voice, echo, echo_db) * np.float32(np.sqrt(share))
        noise = np.zeros(length, np.float32)
        if rng.random() < recipe.noise_share:
            noise = equalise(self.sources.mixed_noise(rng, length, responses, names)[0], microphone)
            snr_db = rng.uniform(*recipe.snr_db) if power(noise) > SILENT_POWER else np.inf
            noise = noise * gain_to_ratio(voice, noise, snr_db)
        spoken = near * near_speaks
        target = reverberate(spoken, early_part(responses[0]))
        heard = self._recorded(rng, np.stack([reverberate(spoken, responses[0]) + echo + noise, target, echo]))
        return EchoScene(heard[0], reference, heard[1], heard[2], float(echo_db), float(snr_db), kind)

    def _draw_kind(self, rng: np.random.Generator) -> str:
        recipe, chance = self.recipe, rng.random()
        shares = (recipe.near_silent_share, recipe.far_silent_share, recipe.alternating_share)
        for kind, limit in zip(KINDS[1:], np.cumsum(shares), strict=True):
            if chance < limit:
                return kind
        return KINDS[0]

    def _say(self, rng: np.random.Generator, speaker: int, length: int) -> np.ndarray:
        (speech,) = self.voices.say(rng, speaker, (length,), self.recipe.speech_speed)
        return equalise(speech, random_equaliser(rng, self.recipe.speech_equalisation_db))

    def _echo(self, rng: np.random.Generator, reference: np.ndarray, responses: np.ndarray) -> np.ndarray:
        """The reference as the microphone hears it."""
        recipe, length = self.recipe, len(reference)
        distorts = rng.random() < recipe.saturation_share
        played = play(rng, reference, float(rng.uniform(*recipe.saturation_drive)) if distorts else 0.0)
        delay = int(rng.uniform(*recipe.delay_ms) * SAMPLE_RATE / 1000)
        delayed = np.concatenate([np.zeros(delay, np.float32), played])[:length]
        echo = reverberate(delayed, responses[1])
        if rng.random() < recipe.path_change_share:
            change = np.clip((np.arange(length) - rng.uniform(0.2, 0.8) * length) / CHANGE_SAMPLES, 0, 1)
            change = change.astype(np.float32)
            echo = echo * (1 - change) + reverberate(delayed, responses[2 % len(responses)]) * change
        return echo

    def _recorded(self, rng: np.random.Generator, heard: np.ndarray) -> np.ndarray:
        """Microphone (first row), target and echo at the level of the recording; the microphone may clip."""
        heard *= gain_to_level(heard[0], rng.uniform(*self.recipe.level_dbfs))
        if rng.random() < self.recipe.clip_share:
            heard[0] = clip(heard[0], share=rng.uniform(0.0005, 0.01))
        return heard


def _activity(rng: np.random.Generator, length: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """When the near and the far end speak, as gains [length]."""
    near = far = np.ones(length, np.float32)
    if kind == "far end":
        near = np.zeros(length, np.float32)
    if kind == "near end":
        far = np.zeros(length, np.float32)
    if kind == "alternating":
        # One falls silent when the other begins, give or take a little.
        change = int(rng.uniform(0.3, 0.7) * length)
        first = faded_gate(length, change + int(rng.uniform(-0.1, 0.2) * SAMPLE_RATE), 2 * length)
        second = faded_gate(length, -length, change)
        near, far = (first, second) if rng.random() < 0.5 else (second, first)
    return near, far
