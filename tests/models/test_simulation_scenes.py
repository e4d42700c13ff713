"""Scenes at two ears: parts sum to the mixture, levels are as asked, looks are frontal, nothing depends on grouping."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from signals import clipped_share

from hearloop.models.simulation.material import Material
from hearloop.models.simulation.recipe import SCENE_VALIDATION, SceneRecipe
from hearloop.models.simulation.scenes import SceneSimulator
from hearloop.runtime.errors import AudioError

LENGTH = 24000
OPEN = replace(SCENE_VALIDATION, room_share=0.0, moving_share=0.0, ear_mismatch_db=0.0)


def simulator(material: Material, recipe: SceneRecipe = SCENE_VALIDATION) -> SceneSimulator:
    return SceneSimulator(recipe, material.speech, material.noise, material.heads)


def power(audio):
    return float(np.mean(audio.astype(np.float64) ** 2))


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6))
def test_in_the_open_target_others_and_noise_are_the_mixture_at_the_snr_told(starter, seed):
    scene = simulator(starter[0], OPEN).scene(np.random.default_rng(seed), LENGTH)
    if not np.isfinite(scene.snr_db):
        return  # a silent piece of a recording of noise
    noise = scene.mixture - scene.target - scene.interferers.sum(axis=0)
    assert 10 * np.log10(power(scene.target) / power(noise)) == pytest.approx(scene.snr_db, abs=0.1)
    assert -5.01 <= scene.snr_db <= 15.01
    for talker in scene.interferers:
        assert -5.1 < 10 * np.log10(power(talker) / power(noise)) < 15.1
        assert abs(10 * np.log10(power(talker) / power(scene.target))) < 10.1


@pytest.mark.parametrize(("share", "clipped"), [(0.0, 0), (1.0, 4)])
def test_what_the_ears_hear_is_clipped_as_often_as_the_recipe_says(starter, share, clipped):
    made = simulator(starter[0], replace(OPEN, clip_share=share))
    scenes = [made.scene(np.random.default_rng(seed), LENGTH) for seed in range(4)]
    assert sum(clipped_share(scene.mixture) > 1.5e-4 for scene in scenes) == clipped


def test_the_microphones_of_both_ears_differ_by_no_more_than_told(starter):
    recipes = [replace(OPEN, ear_mismatch_db=mismatch_db) for mismatch_db in (0.0, 6.0)]
    alike, unlike = (
        [simulator(starter[0], recipe).scene(np.random.default_rng(seed), LENGTH) for seed in range(4)]
        for recipe in recipes
    )

    def differences_db(scenes):
        return np.array([10 * np.log10(power(scene.target[0]) / power(scene.target[1])) for scene in scenes])

    added_db = np.abs(differences_db(unlike) - differences_db(alike))
    assert 0.5 < added_db.max() <= 6.01


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6))
def test_every_item_of_the_training_recipe_is_finite_and_within_full_scale(starter, seed):
    scene = simulator(starter[0], SceneRecipe()).scene(np.random.default_rng(seed), LENGTH)
    for sound in (scene.mixture, scene.look):
        assert np.all(np.isfinite(sound))
        assert np.abs(sound).max() <= 0.9901
        assert power(sound) > 0
    assert scene.mixture.shape == scene.target.shape == (2, LENGTH)
    assert scene.mixture.dtype == scene.target.dtype == scene.look.dtype == np.float32
    assert 2 * 16000 <= scene.look.shape[1] <= 5 * 16000
    assert scene.look.shape == scene.clean_look.shape


def test_the_target_of_a_look_is_in_front_and_nobody_else_is(starter, look_azimuths_deg):
    made = simulator(starter[0])
    for seed in range(40):
        made.scene(np.random.default_rng(seed), 4000)
        front_deg, *others_deg = look_azimuths_deg[-1]
        assert abs(front_deg) <= 10
        assert all(25 <= azimuth_deg <= 335 for azimuth_deg in others_deg)
        assert len(others_deg) in (1, 2)


def test_the_clean_look_is_heard_from_the_front(starter):
    """At most a tenth of a millisecond between the ears, and little level."""
    made = simulator(starter[0], OPEN)
    for seed in range(8):
        look = made.scene(np.random.default_rng(seed), 4000).clean_look
        assert abs(10 * np.log10(power(look[0]) / power(look[1]))) < 3.5
        cross = np.fft.irfft(np.fft.rfft(look[1], 2**18) * np.fft.rfft(look[0], 2**18).conj())
        lag = int(np.argmax(cross))
        assert min(lag, len(cross) - lag) <= 2


def test_look_and_scene_are_of_one_speaker_but_not_the_same_words(starter):
    made = simulator(starter[0], replace(OPEN, speech_equalisation_db=0.0))
    for seed in range(4):
        scene = made.scene(np.random.default_rng(seed), LENGTH)
        size = 2**18
        first, second = (np.fft.rfft(sound[0], size) for sound in (scene.target, scene.clean_look))
        cross = np.abs(np.fft.irfft(first * second.conj()))
        energy = np.sqrt(np.sum(scene.target[0] ** 2) * np.sum(scene.clean_look[0] ** 2))
        assert cross.max() < 0.7 * energy


def test_a_target_that_is_absent_or_silent_leaves_nothing(starter):
    made = simulator(starter[0], replace(OPEN, absent_share=1.0))
    scene = made.scene(np.random.default_rng(0), LENGTH)
    assert not np.any(scene.target)
    assert power(scene.mixture) > 0
    assert power(scene.clean_look) > 0
    gate = np.ones(LENGTH, np.float32)
    gate[8000:16000] = 0
    broken = simulator(starter[0], OPEN).scene(np.random.default_rng(0), LENGTH, gate)
    assert np.abs(broken.target[:, 8300:16000]).max() < 1e-6
    assert power(broken.target[:, 16500:]) > 0


def test_in_a_room_the_mixture_holds_more_of_the_target_than_its_early_sound(starter):
    made = simulator(starter[0], replace(OPEN, room_share=1.0))
    scene = made.scene(np.random.default_rng(3), LENGTH)
    assert scene.kind.endswith("in a room")
    rest = scene.mixture - scene.interferers.sum(axis=0) - scene.target
    spectra = [np.fft.rfft(sound[0], 2 * LENGTH) for sound in (scene.mixture, scene.target)]
    assert np.argmax(np.fft.irfft(spectra[0] * spectra[1].conj())) == 0  # aligned
    assert power(rest) > 0


def test_items_do_not_depend_on_how_they_are_grouped(starter):
    made = simulator(starter[0], SceneRecipe())
    together = made.items(seed=9, first=10, count=3, length=8000)
    apart = [made.items(seed=9, first=10 + index, count=1, length=8000) for index in range(3)]
    for field, *single in zip(together, *apart, strict=True):
        assert np.array_equal(field, np.concatenate(single))
    assert together.look.shape == (3, 2, 80000)
    for look, samples in zip(together.look, together.look_samples, strict=True):
        assert not np.any(look[:, samples:])
        assert np.any(look[:, samples - 100 : samples])


@pytest.mark.parametrize("moving_share", [0.0, 1.0])
@pytest.mark.parametrize("room_share", [0.0, 1.0])
def test_one_scene_makes_an_item_for_each_of_its_talkers(starter, moving_share, room_share):
    always = replace(
        SceneRecipe(),
        silent_share=0.0,
        absent_share=0.0,
        moving_share=moving_share,
        room_share=room_share,
        clip_share=0,
    )
    made = simulator(starter[0], replace(always, target_talkers=2))
    items = made.items(seed=3, first=4, count=4, length=16000)
    for one, other in ((0, 1), (2, 3)):
        np.testing.assert_allclose(items.mixture[one], items.mixture[other], atol=1e-6)
        assert items.talker[one] != items.talker[other]
        assert power(items.target[one] - items.target[other]) > 0.1 * power(items.target[one])
        assert not np.array_equal(items.look[one], items.look[other])
        if not room_share:  # there all sound of a talker is direct
            np.testing.assert_allclose(
                items.target[one] + items.interferers[one], items.target[other] + items.interferers[other], atol=1e-6
            )
    assert not np.allclose(items.mixture[0], items.mixture[2])
    with pytest.raises(AudioError, match="target_talkers is 3 and as few as 1 others talk"):
        simulator(starter[0], replace(always, target_talkers=3))


def test_speakers_of_a_scene_differ_and_too_few_are_refused(starter):
    made = simulator(starter[0])
    seen = {made.scene(np.random.default_rng(seed), 2000).talker for seed in range(40)}
    assert len(seen) == 8
    speech = starter[1].speech
    alone = replace(starter[1], speech=type(speech)(speech.samples, speech.starts, speech.names, ["one"] * len(speech)))
    with pytest.raises(AudioError, match="1 speakers; expected at least 3"):
        simulator(alone)
    with pytest.raises(AudioError, match="at least one head"):
        simulator(replace(starter[0], heads=()))
