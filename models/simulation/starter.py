"""A few synthetic voices, noises and heads, so that a first run works before any recording is at hand.

Voices are pulses and hiss through the resonances of a mouth that wanders from vowel to vowel (after Klatt, "Software
for a cascade/parallel formant synthesizer", JASA 67, 1980, very much simplified). A model trained on them has not
learnt to hear people.
"""

import warnings

import numpy as np
from scipy.signal import lfilter

from .corpus import SAMPLE_RATE, Corpus
from .material import Material
from .sphere import spherical_head
from .synthetic import clicks, coloured_noise, hum

NOTICE = (
    "no recordings were given: synthetic voices and noises stand in, to try how training works; expect no model that "
    "is of use on real speech"
)
SEED = 1980
SPEAKERS, UTTERANCES, SECONDS = (8, 4), 4, 5.0  # speakers of training and of validation
NOISES = (12, 6)
RADII_M = ((0.078, 0.083, 0.088, 0.093), (0.0855,))
FORMANTS_HZ = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410))
BANDWIDTHS_HZ = (80, 100, 140)


def starter_material() -> tuple[Material, Material]:
    """Material of training and of validation, made by formula; warns that it is only to try things."""
    warnings.warn(NOTICE, stacklevel=2)
    rng = np.random.default_rng(SEED)
    splits = []
    for split, name in enumerate(("train", "valid")):
        voices = [
            (f"{name}-voice-{speaker}", utterance)
            for speaker in range(SPEAKERS[split])
            for utterance in _utterances(rng)
        ]
        makers = (coloured_noise, hum, clicks)
        length = int(2 * SECONDS * SAMPLE_RATE)
        noises = [(f"{name}-noise-{index}", makers[index % 3](rng, length)) for index in range(NOISES[split])]
        heads = tuple(spherical_head(radius_m) for radius_m in RADII_M[split])
        splits.append(Material(_corpus(voices), _corpus(noises), heads))
    return splits[0], splits[1]


def synthetic_voice(rng: np.random.Generator, length: int, pitch_hz: float, size: float) -> np.ndarray:
    """Syllables of a voice with a mean pitch, float32 [length]; `size` of the mouth is about one."""
    sound = np.zeros(length, np.float32)
    at = 0
    while at < length:
        lasts = int(rng.uniform(0.12, 0.35) * SAMPLE_RATE)
        time = np.arange(lasts) / SAMPLE_RATE
        course_hz = pitch_hz * (1 + 0.15 * rng.uniform(-1, 1) * np.linspace(-1, 1, lasts) + 0.01 * np.sin(35 * time))
        phase = np.cumsum(course_hz / SAMPLE_RATE)
        pulses = np.diff(np.floor(phase), prepend=0) + 0.02 * rng.standard_normal(lasts)
        vowel = np.array(FORMANTS_HZ[rng.integers(len(FORMANTS_HZ))]) * size * rng.uniform(0.93, 1.07, 3)
        for centre_hz, width_hz in zip(vowel, BANDWIDTHS_HZ, strict=True):
            pulses = lfilter(*_resonance(centre_hz, width_hz), pulses)
        pulses = lfilter([1], [1, -0.9], pulses) * np.sin(np.pi * np.linspace(0, 1, lasts)) ** 0.5
        hiss_lasts = int(rng.uniform(0, 0.12) * SAMPLE_RATE)
        hiss = lfilter([1, -0.95], [1], rng.standard_normal(hiss_lasts)) * np.hanning(hiss_lasts)
        syllable = np.concatenate([0.1 * hiss, pulses / max(np.abs(pulses).max(), 1e-9) * rng.uniform(0.4, 1)])
        syllable = syllable[: length - at]
        sound[at : at + len(syllable)] += syllable.astype(np.float32)
        at += len(syllable) + (int(rng.uniform(0.2, 0.6) * SAMPLE_RATE) if rng.random() < 0.15 else 0)
    return sound


def _utterances(rng: np.random.Generator) -> list[np.ndarray]:
    size = rng.uniform(0.9, 1.2)
    pitch_hz = 110 * size**3 * rng.uniform(0.9, 1.3)
    return [synthetic_voice(rng, int(SECONDS * SAMPLE_RATE), pitch_hz, size) for _ in range(UTTERANCES)]


def _resonance(centre_hz: float, width_hz: float) -> tuple[list[float], list[float]]:
    radius = np.exp(-np.pi * width_hz / SAMPLE_RATE)
    cosine = np.cos(2 * np.pi * centre_hz / SAMPLE_RATE)
    return [1 - 2 * radius * cosine + radius**2], [1, -2 * radius * cosine, radius**2]


def _corpus(named: list[tuple[str, np.ndarray]]) -> Corpus:
    sounds = [(8000 * sound / np.abs(sound).max()).astype(np.int16) for _, sound in named]
    starts = np.cumsum([0, *[len(sound) for sound in sounds]])
    groups = [group for group, _ in named]
    return Corpus(np.concatenate(sounds), starts, [f"{group}.{index}" for index, group in enumerate(groups)], groups)
