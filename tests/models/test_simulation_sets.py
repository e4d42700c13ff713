"""The fixed validation sets of separation, target speech hearing and echo cancellation."""

from dataclasses import fields

import numpy as np
import pytest

from hearloop.models.simulation.validation import echo_validation_set, pair_validation_set, scene_validation_set

SETS = {
    "pairs": (pair_validation_set, (4, 2, 2, 2, 1), (2, 1, 1, 1, 0)),
    "scenes": (scene_validation_set, (3, 2), (2, 1)),
    "echoes": (echo_validation_set, (2, 2, 2), (1, 1, 1)),
}


def same(first, second):
    return all(np.array_equal(getattr(first, field.name), getattr(second, field.name)) for field in fields(first))


@pytest.mark.parametrize("name", SETS)
def test_a_shorter_set_begins_a_longer_one_bit_for_bit(starter, name):
    make, longer, shorter = SETS[name]
    long, short = make(starter[1], *longer), make(starter[1], *shorter)
    for field, count in zip(fields(short), shorter, strict=True):
        items = getattr(short, field.name)
        assert len(items) == count
        assert all(same(first, second) for first, second in zip(getattr(long, field.name), items, strict=False))


def test_every_second_pair_is_noisy_and_each_kind_is_what_it_says(starter):
    made = pair_validation_set(starter[1], 6, 2, 2, 2, 1)
    assert [np.isfinite(pair.snr_db) for pair in made.overlap] == [False, True] * 3
    assert all(abs(pair.relative_db) <= 5 for pair in made.overlap)
    assert all("in a room" in pair.kind for pair in made.in_rooms)
    assert all(pair.kind.startswith("one talker") for pair in made.alone)
    assert not any(np.any(pair.sources) for pair in made.silence)
    assert made.conversations[0].mixture.shape == (60 * 16000,)


def test_the_target_reopens_after_two_silent_seconds(starter):
    scene = scene_validation_set(starter[1], 0, 1).reopening[0]
    energy = [float(np.sum(scene.target[:, int(a * 16000) : int(b * 16000)] ** 2)) for a, b in ((0, 1.5), (1.7, 3.4))]
    assert energy[1] < 1e-3 * energy[0]
    assert np.any(scene.target[:, int(3.6 * 16000) :])


def test_the_angle_of_the_look_changes_the_look_alone(starter, look_azimuths_deg):
    usual, turned = (scene_validation_set(starter[1], 4, 0, frontal_deg=degrees).scenes for degrees in (10.0, 30.0))
    for first_deg, second_deg in zip(look_azimuths_deg[:4], look_azimuths_deg[4:], strict=True):
        assert second_deg[0] == pytest.approx(3 * first_deg[0])
        assert second_deg[1:] == first_deg[1:]
    for first, second in zip(usual, turned, strict=True):
        assert first.look.shape == second.look.shape
        assert not np.array_equal(first.look, second.look)
        # The level of scene and look is a common one.
        scale = np.sum(first.mixture * second.mixture) / np.sum(first.mixture**2)
        np.testing.assert_allclose(second.mixture, scale * first.mixture, atol=1e-5)


def test_more_looks_change_nothing_else_and_each_is_another_one(starter):
    made = [scene_validation_set(starter[1], 3, 1, looks=looks) for looks in (1, 3)]
    for once, again in zip(*(each.scenes + each.reopening for each in made), strict=True):
        for name in ("mixture", "target", "interferers", "look", "clean_look"):
            assert np.array_equal(getattr(once, name), getattr(again, name)), name
        assert (len(once.looks()), len(again.looks())) == (1, 3)
        for clean in (False, True):
            first, second, third = again.looks(clean)
            assert first.shape == second.shape == third.shape
            assert not any(np.array_equal(*pair) for pair in ((first, second), (first, third), (second, third)))
        for noisy, alone in zip(again.looks(), again.looks(clean=True), strict=True):
            assert np.abs(noisy).max() <= 0.9901
            assert np.sum(alone**2, dtype=np.float64) > 0
            assert not np.array_equal(noisy, alone)
