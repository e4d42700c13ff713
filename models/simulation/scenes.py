"""Target speech hearing: a scene around a head, and the look at the talker to be heard.

A head among one target, some interfering talkers and noise, in the open or in a room; and a recording of some seconds
with the same head, made while it faced the target: the noisy look (Veluri et al., "Look Once to Hear", CHI 2024).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ...runtime.errors import AudioError
from .binaural_rooms import Room, random_room
from .corpus import SAMPLE_RATE, Corpus
from .equalisation import equalise, random_equaliser, random_microphone
from .heads import Head
from .levels import SILENT_POWER, gain_to_level, gain_to_ratio, power
from .motion import course
from .recipe import SceneRecipe
from .sources import Sources
from .surroundings import Place, Surroundings
from .variation import clip, stretch
from .voices import Voices


@dataclass(frozen=True)
class Scene:
    """What both ears hear; all sound is float32 [2 (left, right), samples] in -1..1.

    mixture : target, interferers and noise together
    target : the target with 50 ms of reflections; zeros while it says nothing
    interferers : [talkers, 2, samples] each of the others with its whole room
    look : the target from the front among others; clean_look : the target alone in it, with 50 ms of reflections
    more_looks : each [2, 2, samples], another look at the target and the target alone in it
    talker : number of the target in the simulator's `voices.names`; head : name of the head
    snr_db : energy of the target with its whole room over the noise, while it speaks
    kind : such as "diffuse noise in a room, moving"
    """

    mixture: np.ndarray
    target: np.ndarray
    interferers: np.ndarray
    look: np.ndarray
    clean_look: np.ndarray
    talker: int
    head: str
    snr_db: float
    kind: str
    more_looks: tuple[np.ndarray, ...] = ()

    def looks(self, clean: bool = False) -> tuple[np.ndarray, ...]:
        """All looks at the target, noisy or clean, each [2, samples]."""
        return (self.clean_look if clean else self.look, *(each[int(clean)] for each in self.more_looks))


class SceneItems(NamedTuple):
    """Training items in stacked arrays.

    mixture, target, interferers : float32 [items, 2, samples]; the interferers are summed
    look, clean_look : float32 [items, 2, longest look], zeros behind the look
    look_samples : int64 [items], how long each look is
    talker : int64 [items], number of the target's speaker
    """

    mixture: np.ndarray
    target: np.ndarray
    interferers: np.ndarray
    look: np.ndarray
    clean_look: np.ndarray
    look_samples: np.ndarray
    talker: np.ndarray


class SceneSimulator:
    """Makes scenes of a corpus of speech, one of noise, and heads.

    Raises AudioError if there is no head, or too few speakers for the recipe, or too few talkers for `target_talkers`.
    """

    def __init__(self, recipe: SceneRecipe, speech: Corpus, noise: Corpus, heads: Sequence[Head]):
        if not heads:
            raise AudioError("no head-related responses; expected at least one head")
        self.recipe, self.heads = recipe, tuple(heads)
        for head in self.heads:
            head.prepare()
        self.sources = Sources(recipe, speech, noise)
        if not 1 <= recipe.target_talkers <= 1 + recipe.interfering_talkers[0]:
            raise AudioError(
                f"target_talkers is {recipe.target_talkers} and as few as {recipe.interfering_talkers[0]} others talk; "
                "expected 1, or no more than there are talkers"
            )
        self.voices = Voices(speech, fewest=1 + max(recipe.interfering_talkers[1], recipe.look_talkers[1]))

    def items(self, seed: int, first: int, count: int, length: int) -> SceneItems:
        """Items `first` to `first + count`; item i depends on the seed and i alone."""
        scenes = [self._item(seed, index, length) for index in range(first, first + count)]
        longest = int(self.recipe.look_s[1] * SAMPLE_RATE)
        return SceneItems(
            np.stack([scene.mixture for scene in scenes]),
            np.stack([scene.target for scene in scenes]),
            np.stack([scene.interferers.sum(axis=0) for scene in scenes]),
            np.stack([padded(scene.look, longest) for scene in scenes]),
            np.stack([padded(scene.clean_look, longest) for scene in scenes]),
            np.array([scene.look.shape[1] for scene in scenes]),
            np.array([scene.talker for scene in scenes]),
        )

    def _item(self, seed: int, index: int, length: int) -> Scene:
        scene, target = divmod(index, self.recipe.target_talkers)
        return self.scene(np.random.default_rng([seed, scene]), length, target=target)

    def scene(
        self,
        rng: np.random.Generator,
        length: int,
        speaks: np.ndarray | None = None,
        target: int = 0,
        looks: int = 1,
    ) -> Scene:
        """A scene of `length` samples with its look.

        `speaks` is a gain [length] that says when the target speaks; the recipe draws it unless it is given.
        `target` is the number of the talker to be heard, below `target_talkers`; the scene is the same with any.
        With more `looks` there are others, of the same length but elsewhere, among others, and of something else that
        the target says; all the rest is the same.
        """
        recipe = self.recipe
        head = self.heads[rng.integers(len(self.heads))]
        look_length = int(rng.uniform(*recipe.look_s) * SAMPLE_RATE)
        is_clean = rng.random() < recipe.clean_look_share
        others = int(rng.integers(recipe.interfering_talkers[0], recipe.interfering_talkers[1] + 1))
        strangers = 0 if is_clean else int(rng.integers(recipe.look_talkers[0], recipe.look_talkers[1] + 1))
        microphone = random_microphone(rng, recipe.microphone_equalisation_db, recipe.band_limit_share)
        people = self.voices.choose(rng, 1 + max(others, strangers), length + look_length)
        more = (looks - 1) * (look_length,)
        told = [
            self._say(rng, talker, (length, look_length), microphone, more)
            for talker in people[: recipe.target_talkers]
        ]
        voices = [pieces[0] for pieces in told]
        voices += [self._say(rng, other, (length,), microphone)[0] for other in people[len(told) : 1 + others]]
        look_others = [person for person in people[::-1] if person != people[target]][:strangers]
        look_voices = [told[target][1]]
        look_voices += [self._say(rng, other, (look_length,), microphone)[0] for other in look_others]

        azimuths_deg = rng.uniform(-180, 180, len(voices))
        looks_deg = self._look_azimuths_deg(rng, len(look_voices))
        around = self._surroundings(rng, head, length)
        speaks = self._draw_speaks(rng, length) if speaks is None else speaks
        noise, kind = self._noise(rng, around, length, microphone, people)
        heard, snr_db = self._hear(rng, around, voices, azimuths_deg, noise, speaks, target)
        looked = [self._looked(rng, head, look_voices, looks_deg, microphone, is_clean, people)]
        for again, spoken in zip(rng.spawn(looks - 1), told[target][2:], strict=True):
            others_there = [each for each in self.voices.choose(again, strangers + 2) if each != people[target]]
            voices_there = [spoken]
            voices_there += [self._say(again, each, (look_length,), microphone)[0] for each in others_there[:strangers]]
            there_deg = self._look_azimuths_deg(again, len(voices_there))
            there = [people[target], *others_there]
            looked.append(self._looked(again, head, voices_there, there_deg, microphone, is_clean, there))
        scene, look, *more_looks = self._recorded(rng, [heard, *looked])
        return Scene(
            mixture=scene[0],
            target=scene[1],
            interferers=scene[2:],
            look=look[0],
            clean_look=look[1],
            talker=int(people[target]),
            head=head.name,
            snr_db=snr_db,
            kind=kind + (" in a room" if around.room else "") + (", moving" if around.yaw_deg is not None else ""),
            more_looks=tuple(each[:2] for each in more_looks),
        )

    def _look_azimuths_deg(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Where `count` talkers of a look are: the first in front, everybody else elsewhere."""
        recipe = self.recipe
        azimuths_deg = rng.uniform(recipe.elsewhere_deg, 360 - recipe.elsewhere_deg, count)
        azimuths_deg[0] = rng.uniform(-recipe.frontal_deg, recipe.frontal_deg)
        return azimuths_deg

    def _looked(
        self,
        rng: np.random.Generator,
        head: Head,
        voices: list[np.ndarray],
        azimuths_deg: np.ndarray,
        microphone: np.ndarray,
        is_clean: bool,
        people: Iterable[int],
    ) -> np.ndarray:
        """A look at the first of some voices, at a place of its own, as `_hear` returns it; without noise if clean."""
        around = Surroundings(head, self._draw_room(rng))
        noise, _ = self._noise(rng, around, len(voices[0]), microphone, people)
        return self._hear(rng, around, voices, azimuths_deg, noise * np.float32(not is_clean))[0]

    def _say(
        self,
        rng: np.random.Generator,
        speaker: int,
        lengths: tuple[int, ...],
        microphone: np.ndarray,
        more: tuple[int, ...] = (),
    ) -> list[np.ndarray]:
        """Different pieces of what a speaker says, with one colour, as `Voices.say`.

        The response of the microphones is in it already: before the ears it is one channel, behind them many.
        """
        colour = random_equaliser(rng, self.recipe.speech_equalisation_db)
        pieces = self.voices.say(rng, speaker, lengths, self.recipe.speech_speed, more)
        return [equalise(piece, np.concatenate([colour, microphone])) for piece in pieces]

    def _draw_speaks(self, rng: np.random.Generator, length: int) -> np.ndarray | None:
        chance, recipe = rng.random(), self.recipe
        if chance < recipe.absent_share:
            return np.zeros(length, np.float32)
        return stretch(rng, length, recipe.silent_s) if chance < recipe.absent_share + recipe.silent_share else None

    def _draw_room(self, rng: np.random.Generator) -> Room | None:
        return random_room(rng) if rng.random() < self.recipe.room_share else None

    def _surroundings(self, rng: np.random.Generator, head: Head, length: int) -> Surroundings:
        room = self._draw_room(rng)
        if rng.random() >= self.recipe.moving_share:
            return Surroundings(head, room)
        return Surroundings(head, room, course(rng, length, rng.uniform(*self.recipe.turning_deg_per_s)))

    def _place(self, rng: np.random.Generator, around: Surroundings, azimuth_deg: float, length: int) -> Place:
        recipe = self.recipe
        elevation_deg, distance_m = rng.uniform(*recipe.elevation_deg), rng.uniform(*recipe.distance_m)
        walks = around.yaw_deg is not None and rng.random() < 0.5
        walk_deg = course(rng, length, rng.uniform(*recipe.turning_deg_per_s) / 2) if walks else None
        return Place(azimuth_deg, elevation_deg, distance_m, walk_deg)

    def _hear(
        self,
        rng: np.random.Generator,
        around: Surroundings,
        voices: list[np.ndarray],
        azimuths_deg: np.ndarray,
        noise: np.ndarray,
        speaks: np.ndarray | None = None,
        target: int = 0,
    ) -> tuple[np.ndarray, float]:
        """Talkers, one of them the target, at the ears, at their levels against the noise [2, n].

        Returns float32 [2 + others, 2, n]: the mixture, the target with 50 ms of reflections, and each of the others;
        and the SNR of the target.
        """
        recipe, length = self.recipe, len(voices[0])
        middle_db = rng.uniform(recipe.snr_db[0] + recipe.spread_db, recipe.snr_db[1] - recipe.spread_db)
        snrs_db = middle_db + rng.uniform(-recipe.spread_db, recipe.spread_db, len(voices))
        heard = np.zeros((2 + len(voices) - 1, 2, length), np.float32)
        heard[0] = noise
        rows = np.argsort(_first(target, len(voices)))
        for index, voice in enumerate(voices):
            place = self._place(rng, around, azimuths_deg[index], length)
            spoken = voice if index != target or speaks is None else voice * speaks
            if index != target:
                kept = whole = around.hear(rng, spoken, place)
            else:
                kept, late = around.hear_apart(rng, spoken, place)
                whole = kept if late is None else kept + late
            # The SNR is that of the voice without its silent stretches.
            share = power(spoken) / max(power(voice), SILENT_POWER)
            gain = gain_to_ratio(noise, whole, -snrs_db[index]) * np.float32(np.sqrt(share))
            heard[0] += gain * whole
            heard[1 + rows[index]] = gain * kept
        return heard, float(snrs_db[target]) if power(noise) > SILENT_POWER else np.inf

    def _noise(
        self,
        rng: np.random.Generator,
        around: Surroundings,
        length: int,
        microphone: np.ndarray,
        people: Iterable[int],
    ) -> tuple[np.ndarray, str]:
        """Noise at the ears, from everywhere or each layer from its direction, at a level of 0 dB; not of `people`."""
        names = [self.voices.names[person] for person in people]
        if rng.random() < self.recipe.diffuse_share:
            sounds, kind = self.sources.everywhere(rng, length, self.recipe.noise_directions, names)
            noise, kind = around.everywhere(rng, sounds), f"diffuse {kind}"
        else:
            layers, kind = self.sources.noise_layers(rng, length, names)
            noise = np.zeros((2, length), np.float32)
            for order, layer in enumerate(layers):
                layer = self.sources.equalised_noise(rng, self.sources.levelled(rng, layer, order))
                noise += around.hear(rng, layer, self._place(rng, around, rng.uniform(-180, 180), length))
        noise = equalise(noise, microphone)
        return noise * gain_to_level(noise, 0.0, may_clip=True), kind

    def _recorded(self, rng: np.random.Generator, sounds: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Recordings with the same two microphones, each at its level; the first row of each may clip."""
        recipe = self.recipe
        mismatch_db = rng.uniform(-0.5, 0.5) * recipe.ear_mismatch_db
        ears = 10 ** (np.array([[mismatch_db], [-mismatch_db]]) / 20)
        recorded = []
        for heard in sounds:
            sound = heard * ears.astype(np.float32)
            sound *= gain_to_level(sound[0], rng.uniform(*recipe.level_dbfs))
            if rng.random() < recipe.clip_share:
                sound[0] = clip(sound[0], share=rng.uniform(0.0005, 0.01))
            recorded.append(sound)
        return recorded


def _first(target: int, count: int) -> np.ndarray:
    """Numbers of `count` talkers, the target before the others."""
    return np.array([target, *(index for index in range(count) if index != target)])


def padded(sound: np.ndarray, length: int) -> np.ndarray:
    """With zeros behind it, as long as said."""
    return np.pad(sound, [(0, 0)] * (sound.ndim - 1) + [(0, length - sound.shape[-1])])
