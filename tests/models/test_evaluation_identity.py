"""Telling talkers apart: embeddings whose answer is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearloop.models.evaluation.identity import equal_error_interval


def likeness_of(embeddings):
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    return unit @ unit.T


def test_talkers_with_a_direction_each_are_never_confused():
    talkers = np.arange(60) % 10
    found = equal_error_interval(likeness_of(np.eye(10)[talkers]), talkers)
    assert (found.mean, found.low, found.high, found.count) == (0, 0, 0, 60)


def test_embeddings_that_know_nothing_are_right_half_of_the_time():
    rng = np.random.default_rng(1)
    found = equal_error_interval(likeness_of(rng.standard_normal((300, 64))), np.arange(300) % 15)
    assert found.mean == pytest.approx(50, abs=5)
    assert found.low < 50 < found.high


def test_what_is_alike_only_between_talkers_is_always_wrong():
    talkers = np.arange(40) % 8
    assert equal_error_interval(-likeness_of(np.eye(8)[talkers]), talkers).mean == 100


@pytest.mark.parametrize("seed", [0, 1])
def test_looks_that_are_all_equally_alike_are_right_half_of_the_time(seed):
    talkers = np.random.default_rng(seed).permutation(np.arange(100) % 20)
    assert equal_error_interval(np.ones((100, 100)), talkers).mean == 50


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 99), noise=st.floats(0.1, 2))
def test_neither_the_scale_nor_the_order_of_looks_matters(seed, noise):
    rng = np.random.default_rng(seed)
    talkers = rng.integers(0, 6, 50)
    talkers[:6] = np.arange(6)
    likeness = likeness_of(np.eye(6)[talkers] + noise * rng.standard_normal((50, 6)))
    expected = equal_error_interval(likeness, talkers).mean
    order = rng.permutation(50)
    assert equal_error_interval(3 * likeness - 1, talkers).mean == pytest.approx(expected)
    assert equal_error_interval(likeness[np.ix_(order, order)], talkers[order]).mean == pytest.approx(expected)


def test_the_interval_is_that_of_other_talkers():
    # Two of ten talkers sound alike: whether both are among those that were met decides.
    rng = np.random.default_rng(2)
    talkers = np.arange(100) % 10
    places = np.eye(10)[talkers]
    places[talkers == 1] = np.eye(10)[0]
    found = equal_error_interval(likeness_of(places + 0.05 * rng.standard_normal((100, 10))), talkers)
    assert found.low == 0
    assert found.high > found.mean > 0


def test_one_talker_alone_cannot_be_confused_with_anybody():
    for looks in (1, 4):
        assert np.isnan(equal_error_interval(np.ones((looks, looks)), np.zeros(looks, int)).mean)
