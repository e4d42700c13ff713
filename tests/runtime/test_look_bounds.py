"""The bounds of a look that can be used, to either side of them."""

import numpy as np
import pytest

from hearloop.runtime.look import check_look

RATE = 16000


def ears(seconds: float, level: float = 0.1) -> np.ndarray:
    """Noise of its own at either ear."""
    return level * np.random.default_rng(1).standard_normal((2, round(seconds * RATE))).astype(np.float32)


def problems(look: np.ndarray) -> str:
    return "; ".join(check_look(look, RATE).problems)


@pytest.mark.parametrize(("seconds", "short"), [(1.8, True), (2.0, False)])
def test_it_lasts_two_seconds_at_least(seconds, short):
    assert (f"it lasts {seconds} s" in problems(ears(seconds))) == short


@pytest.mark.parametrize("louder", [0, 1])
def test_both_ears_count_for_its_level(louder):
    look = ears(1, level=1e-3)
    look[louder] *= 10
    assert check_look(look, RATE).level_dbfs == pytest.approx(-43, abs=0.1)


@pytest.mark.parametrize("ear", [0, 1])
@pytest.mark.parametrize(("share", "told"), [(2e-3, True), (5e-4, False)])
def test_a_thousandth_of_both_ears_may_be_clipped(ear, share, told):
    look = ears(1, level=1e-2)
    look[ear, : round(share * look.size)] = 1
    assert ("are clipped" in problems(look)) == told


@pytest.mark.parametrize("ear", [0, 1])
@pytest.mark.parametrize(("softer_db", "silent"), [(35, True), (25, False)])
def test_an_ear_that_is_30_db_softer_is_taken_for_silent(ear, softer_db, silent):
    look = ears(1)
    look[ear] *= 10 ** (-softer_db / 20)
    assert ("one ear is silent" in problems(look)) == silent
