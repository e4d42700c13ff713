"""Two talkers: sources sum to the mixture, levels as asked, turns that alternate, silence that is silent."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from signals import clipped_share

from hearloop.models.simulation.pairs import KINDS, PairSimulator
from hearloop.models.simulation.pitch import median_pitch_hz
from hearloop.models.simulation.recipe import PAIR_VALIDATION, PairRecipe
from hearloop.models.simulation.rooms import simulate_rooms
from hearloop.models.simulation.turns import take_turns
from hearloop.models.simulation.voices import Voices, quietest_near

LENGTH = 24000
QUIET = replace(PAIR_VALIDATION, noise_share=0.0)
ROOMS = simulate_rooms(np.random.default_rng(0), 2)


def simulator(material, recipe=QUIET):
    return PairSimulator(recipe, material.speech, material.noise, ROOMS)


def power(audio):
    return float(np.mean(audio.astype(np.float64) ** 2))


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), kind=st.sampled_from(KINDS))
def test_without_noise_and_room_the_sources_sum_to_the_mixture(starter, seed, kind):
    pair = simulator(starter[0]).pair(np.random.default_rng(seed), LENGTH, kind)
    assert np.abs(pair.sources.sum(axis=0) - pair.mixture).max() < 1e-5
    assert pair.talkers[0] != pair.talkers[1]


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_level_and_noise_are_as_told(starter, seed):
    pair = simulator(starter[0], replace(PAIR_VALIDATION, noise_share=1.0)).pair(
        np.random.default_rng(seed), LENGTH, "overlap"
    )
    first, second = pair.sources
    assert 10 * np.log10(power(second) / power(first)) == pytest.approx(pair.relative_db, abs=0.1)
    assert -5 <= pair.relative_db <= 5
    if not np.isfinite(pair.snr_db):
        return  # a silent piece of a recording of noise
    noise = pair.mixture - pair.sources.sum(axis=0)
    assert 10 * np.log10(power(first + second) / power(noise)) == pytest.approx(pair.snr_db, abs=0.1)
    assert 15 <= pair.snr_db <= 25


def test_one_more_talker_in_the_background_is_as_soft_as_told(starter):
    made = simulator(starter[0], replace(QUIET, crowd_share=1.0))
    for seed in range(4):
        pair = made.pair(np.random.default_rng(seed), LENGTH, "overlap")
        third = pair.mixture - pair.sources.sum(axis=0)
        assert -20.5 <= 10 * np.log10(power(third) / power(pair.sources[0])) <= -9.5


@pytest.mark.parametrize(("share", "clipped"), [(0.0, 0), (1.0, 4)])
def test_mixtures_of_talkers_are_clipped_as_often_as_the_recipe_says(starter, share, clipped):
    made = simulator(starter[0], replace(QUIET, clip_share=share))
    pairs = [made.pair(np.random.default_rng(seed), LENGTH, "overlap") for seed in range(4)]
    assert sum(clipped_share(pair.mixture) > 3e-4 for pair in pairs) == clipped


def test_who_says_nothing_is_silent(starter):
    made = simulator(starter[0], replace(PAIR_VALIDATION, noise_share=1.0))
    alone = made.pair(np.random.default_rng(1), LENGTH, "one talker")
    assert sorted(bool(np.any(source)) for source in alone.sources) == [False, True]
    nobody = made.pair(np.random.default_rng(1), LENGTH, "silence")
    assert not np.any(nobody.sources)
    assert power(nobody.mixture) > 0


def test_talkers_of_a_conversation_alternate_with_pauses(starter):
    pair = simulator(starter[0]).pair(np.random.default_rng(2), 30 * 16000, "conversation")
    frames = (pair.sources.reshape(2, -1, 1600) ** 2).mean(axis=2) > 1e-9
    both, none = np.mean(frames[0] & frames[1]), np.mean(~frames[0] & ~frames[1])
    assert np.all(frames.mean(axis=1) > 0.2)
    assert both < 0.35
    assert none > 0.02
    assert sum(np.diff(frames[0].astype(int)) != 0) >= 6


def test_a_turn_goes_on_where_the_last_one_ended():
    recipe = replace(PairRecipe(), overlap_share=0.0)
    words = [np.arange(1, 200001, dtype=np.float32), -np.arange(1, 200001, dtype=np.float32)]
    told = take_turns(np.random.default_rng(3), words, 20 * 16000, recipe)
    assert not np.any((told[0] != 0) & (told[1] != 0))
    for talker, sign in ((0, 1), (1, -1)):
        spoken = told[talker][told[talker] != 0] * sign
        assert np.mean(np.diff(spoken) == 1) > 0.98  # all but the ramps
        assert spoken.max() == pytest.approx(len(spoken), abs=1500)  # nothing left out


def test_the_quietest_place_is_found():
    audio = np.ones(16000, np.float32)
    audio[8000:8160] = 0
    assert 8000 <= quietest_near(audio, 7000, 3200) < 8160
    assert abs(quietest_near(audio, 2000, 800) - 2000) <= 960


def test_pieces_of_a_speaker_do_not_overlap(starter):
    corpus = starter[0].speech
    numbered = type(corpus)(
        (np.arange(len(corpus.samples)) % 30000).astype(np.int16), corpus.starts, corpus.names, corpus.groups
    )
    voices = Voices(numbered)
    for seed in range(10):
        first, second = voices.say(np.random.default_rng(seed), 2, (100000, 60000), (1.0, 1.0))
        heard = [np.round(piece[piece != 0] * 32768) for piece in (first, second)]
        ring = np.concatenate(heard)
        steps = np.diff(ring) % 30000
        assert np.mean(steps == 1) > 0.999  # the second piece begins where the first ends


def test_more_pieces_are_of_what_is_left_and_leave_the_others_as_they_are(starter):
    voices = Voices(starter[0].speech)
    available = int(voices.samples[2])
    lengths, more = (available // 2, available // 4), (available // 5, available // 5)
    for seed in range(5):
        alone = voices.say(np.random.default_rng(seed), 2, lengths, (1.0, 1.0))
        *before, third, fourth = voices.say(np.random.default_rng(seed), 2, lengths, (1.0, 1.0), more)
        assert all(np.array_equal(*pair) for pair in zip(alone, before, strict=True))
        left = (available - sum(lengths)) // 2
        assert left < more[0]
        assert third.shape == fourth.shape == more[:1]
        assert np.any(third[:left])
        assert np.any(fourth[:left])
        assert not np.any(third[left:])
        assert not np.any(fourth[left + 1 :])


def test_items_do_not_depend_on_how_they_are_grouped_and_the_recipe_has_every_kind(starter):
    made = simulator(starter[0], PairRecipe())
    together = made.items(seed=4, first=7, count=3, length=8000)
    apart = [made.items(seed=4, first=7 + index, count=1, length=8000) for index in range(3)]
    for field, *single in zip(together, *apart, strict=True):
        assert np.array_equal(field, np.concatenate(single))
    kinds = Counter(
        next(kind for kind in KINDS if made.pair(np.random.default_rng(seed), 2000).kind.startswith(kind))
        for seed in range(300)
    )
    assert kinds["overlap"] > kinds["conversation"] > kinds["one talker"] > kinds["silence"] > 0


def test_talkers_who_shall_be_alike_are_close_in_pitch(starter):
    speakers = len(Voices(starter[0].speech).names)

    def apart(share):
        made = simulator(starter[0], replace(QUIET, alike_share=share))
        pairs = [made.pair(np.random.default_rng(seed), 2000, "silence") for seed in range(40)]
        assert all(pair.talkers[0] != pair.talkers[1] for pair in pairs)
        pitches = [median_pitch_hz(made.voices.excerpt(number, 10**6)) for number in range(speakers)]
        return np.array([abs(np.log(pitches[one] / pitches[other])) for one, other in (pair.talkers for pair in pairs)])

    assert np.median(apart(1.0)) < 0.5 * np.median(apart(0.0))


def test_without_a_pitch_anybody_is_alike(starter):
    made = simulator(starter[0], replace(QUIET, alike_share=1.0))
    made.pitches_hz[:] = np.nan
    first, second = made.pair(np.random.default_rng(1), 2000, "overlap").talkers
    assert first != second
