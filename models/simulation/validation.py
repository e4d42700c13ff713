"""The fixed validation sets: made from a recipe and a seed, so that everybody measures on the same mixtures.

In every set, item i of a kind depends on the seed, i and the recordings alone: a shorter set begins a longer one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from ...runtime.errors import AudioError
from .corpus import SAMPLE_RATE, Corpus
from .echoes import EchoScene, EchoSimulator
from .levels import SILENT_POWER, power
from .material import Material
from .mixture import Mixture, Simulator
from .pairs import Pair, PairSimulator
from .recipe import ECHO_VALIDATION, PAIR_VALIDATION, SCENE_VALIDATION, VALIDATION
from .rooms import RoomBank, simulate_rooms
from .scenes import Scene, SceneSimulator
from .variation import faded_gate

SEED = 20261123
SECONDS = 4.0
SNR_BANDS_DB = ((-5.0, 0.0), (0.0, 5.0), (5.0, 10.0), (10.0, 15.0))
VALIDATION_ROOMS = 20
CONVERSATION_SECONDS, SCENE_SECONDS, ECHO_SECONDS = 60.0, 5.0, 8.0
SILENT_FROM_S, SILENT_TO_S = 1.5, 3.5
CLEAN_LEVELS_DBFS = (-35.0, -20.0)
DRAWS = 100  # until voice and noise sound
Sound = TypeVar("Sound")


@dataclass(frozen=True)
class ValidationSet:
    """noisy : the mixtures, the SNR bands in turn; clean : voices without noise or room, target = noisy."""

    noisy: tuple[Mixture, ...]
    clean: tuple[Mixture, ...]


def validation_set(speech: Corpus, noise: Corpus, mixtures: int = 120, clean: int = 24) -> ValidationSet:
    """Mixtures of 4 s at -5..15 dB, the same number in each band of 5 dB, and clean voices.

    Mixture i depends on the seed, i and the corpora alone, so a shorter set is the beginning of a longer one. Where the
    voice or the noise is silent, others are drawn; raises AudioError if all are.
    """
    length = int(SECONDS * SAMPLE_RATE)
    simulator = Simulator(VALIDATION, speech, noise, _rooms())
    noisy = []
    for index in range(mixtures):
        rng = np.random.default_rng([SEED, index])
        snr_db = float(rng.uniform(*SNR_BANDS_DB[index % len(SNR_BANDS_DB)]))
        drawn = (simulator.mixture(rng, length, snr_db) for _ in range(DRAWS))
        noisy.append(_first(mixture for mixture in drawn if np.isfinite(mixture.snr_db)))
    return ValidationSet(tuple(noisy), tuple(_clean_voice(speech, index, length) for index in range(clean)))


def snr_band(item: Mixture | Scene) -> tuple[float, float]:
    """The band of SNR_BANDS_DB that an item of a validation set was made for."""
    for low, high in SNR_BANDS_DB:
        if item.snr_db < high:
            return low, high
    return SNR_BANDS_DB[-1]


@dataclass(frozen=True)
class PairValidationSet:
    """Two talkers in 4 s, and what else a separator must not fail at.

    overlap : both speak all the time, within 5 dB of one another; every second with noise at 15 to 25 dB
    in_rooms : the same in a room; alone : one talker only; silence : nobody speaks, noise in every second
    conversations : 60 s each, in turns with pauses
    """

    overlap: tuple[Pair, ...]
    in_rooms: tuple[Pair, ...]
    alone: tuple[Pair, ...]
    silence: tuple[Pair, ...]
    conversations: tuple[Pair, ...]


def pair_validation_set(
    material: Material,
    overlap: int = 120,
    in_rooms: int = 30,
    alone: int = 100,
    silence: int = 10,
    conversations: int = 16,
) -> PairValidationSet:
    """The set for separation; raises AudioError if there are not two speakers."""
    rooms, speech, noise = _rooms(), material.speech, material.noise

    def made(number: int, kind: str, count: int, seconds: float = SECONDS, room_share: float = 0.0) -> tuple[Pair, ...]:
        without, with_noise = (
            PairSimulator(replace(PAIR_VALIDATION, noise_share=share, room_share=room_share), speech, noise, rooms)
            for share in (0.0, 1.0)
        )
        return tuple(
            (with_noise if index % 2 else without).pair(_generator(number, index), int(seconds * SAMPLE_RATE), kind)
            for index in range(count)
        )

    return PairValidationSet(
        made(10, "overlap", overlap),
        made(11, "overlap", in_rooms, room_share=1.0),
        made(12, "one talker", alone),
        made(13, "silence", silence),
        made(14, "conversation", conversations, CONVERSATION_SECONDS),
    )


@dataclass(frozen=True)
class SceneValidationSet:
    """Scenes of 5 s at both ears with noisy looks.

    scenes : the target speaks all the time; reopening : it is silent from 1.5 to 3.5 s
    """

    scenes: tuple[Scene, ...]
    reopening: tuple[Scene, ...]


def scene_validation_set(
    material: Material,
    scenes: int = 120,
    reopening: int = 30,
    *,
    frontal_deg: float = SCENE_VALIDATION.frontal_deg,
    looks: int = 1,
) -> SceneValidationSet:
    """The set for target speech hearing, where looks meet the target within `frontal_deg` of the front.

    Nothing else in it depends on that angle, nor on how many `looks` there are. Raises AudioError without heads or with
    too few speakers.
    """
    recipe = replace(SCENE_VALIDATION, frontal_deg=frontal_deg)
    simulator = SceneSimulator(recipe, material.speech, material.noise, material.heads)
    length = int(SCENE_SECONDS * SAMPLE_RATE)
    gate = faded_gate(length, int(SILENT_FROM_S * SAMPLE_RATE), int(SILENT_TO_S * SAMPLE_RATE))
    return SceneValidationSet(
        tuple(simulator.scene(_generator(20, index), length, looks=looks) for index in range(scenes)),
        tuple(simulator.scene(_generator(21, index), length, gate, looks=looks) for index in range(reopening)),
    )


@dataclass(frozen=True)
class EchoValidationSet:
    """Echo scenes of 8 s: both speak, only the far end, only the near end."""

    double_talk: tuple[EchoScene, ...]
    far_end: tuple[EchoScene, ...]
    near_end: tuple[EchoScene, ...]


def echo_validation_set(
    material: Material, double_talk: int = 60, far_end: int = 20, near_end: int = 20
) -> EchoValidationSet:
    """The set for echo cancellation; raises AudioError if there are not two speakers."""
    simulator = EchoSimulator(ECHO_VALIDATION, material.speech, material.noise, _rooms())
    length = int(ECHO_SECONDS * SAMPLE_RATE)

    def made(number: int, kind: str, count: int) -> tuple[EchoScene, ...]:
        return tuple(simulator.scene(_generator(number, index), length, kind) for index in range(count))

    return EchoValidationSet(
        made(30, "double talk", double_talk), made(31, "far end", far_end), made(32, "near end", near_end)
    )


def _rooms() -> RoomBank:
    return simulate_rooms(np.random.default_rng(SEED), VALIDATION_ROOMS)


def _generator(kind: int, index: int) -> np.random.Generator:
    return np.random.default_rng([SEED, kind, index])


def _clean_voice(speech: Corpus, index: int, length: int) -> Mixture:
    rng = np.random.default_rng([SEED, 1, index])
    drawn = (speech.draw(rng, length) for _ in range(DRAWS))
    voice = _first(voice for voice in drawn if power(voice) >= SILENT_POWER)
    gain = 10 ** (rng.uniform(*CLEAN_LEVELS_DBFS) / 20) / np.sqrt(np.mean(voice**2))
    voice = voice * np.float32(min(gain, 0.99 / np.max(np.abs(voice))))
    return Mixture(voice, voice, np.inf, "clean")


def _first(sounding: Iterator[Sound]) -> Sound:
    for found in sounding:
        return found
    raise AudioError(f"voice or noise is silent in {DRAWS} pieces of {SECONDS:g} s; expected recordings that sound")
