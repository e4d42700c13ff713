"""The gate against phantom talkers: it takes nothing from two who talk, and nothing from the sum."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from hearloop.models import build
from hearloop.models.frontend import enhance
from hearloop.models.separation.gate import PhantomGate
from hearloop.models.training.norms import hold_norms

FRAMES = 60


def through(levels_db, seed=0):
    """Noise of so many dB as the outputs of a separator [1, talkers, T, F, 2], and what the gate makes of them."""
    noise = torch.randn(1, len(levels_db), FRAMES, 33, 2, generator=torch.Generator().manual_seed(seed))
    talkers = noise * 10 ** (torch.tensor(levels_db)[:, None, None, None] / 20)
    gate = PhantomGate(len(levels_db), 128)
    return talkers, gate(talkers, gate.initial_state(1))[0]


def level_db(talkers):
    return 10 * torch.log10(talkers.square().mean((0, 2, 3, 4)))


def second_over_first_db(talkers):
    first, second = talkers[0].square().mean(-1)
    return float(10 * torch.log10(second / first))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(-80, 40), min_size=1, max_size=4), st.integers(0, 99))
def test_the_sum_stays(levels_db, seed):
    talkers, found = through(levels_db, seed)
    largest = float(talkers.abs().max())
    torch.testing.assert_close(found.sum(1), talkers.sum(1), rtol=0, atol=1e-5 * largest)


@pytest.mark.parametrize("below_db", [0.0, 5.0, 12.0])
def test_two_who_talk_pass_as_they_are(below_db):
    talkers, found = through([0.0, -below_db])
    torch.testing.assert_close(found, talkers, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("below_db", "least_db"), [(20.0, 30.0), (30.0, 55.0)])
def test_what_is_far_below_another_goes_back_to_it(below_db, least_db):
    talkers, found = through([0.0, -below_db])
    louder, softer = level_db(found)
    assert louder - softer > least_db
    torch.testing.assert_close(louder, level_db(talkers)[0], rtol=0, atol=0.5)


def test_one_who_begins_to_talk_is_heard_within_three_frames():
    talkers, _ = through([0.0, 0.0])
    talkers[:, 1, :30] *= 1e-3
    gate = PhantomGate(2, 128)
    found, _ = gate(talkers, gate.initial_state(1))
    assert level_db(found[:, :, :30])[1] < -100
    torch.testing.assert_close(found[:, :, 32:], talkers[:, :, 32:], rtol=0, atol=1e-6)


def test_one_who_stops_is_turned_down_when_a_tenth_of_a_second_has_faded_below_four_percent():
    talkers = torch.ones(1, 2, 2 * FRAMES, 33, 2)
    talkers[:, 1, FRAMES:] *= 1e-3
    gate = PhantomGate(2, 128)
    found, _ = gate(talkers, gate.initial_state(1))
    passes = (found[0, 1] / talkers[0, 1] > 0.999).all(dim=(-1, -2))
    after_s = (int(passes.sum()) - FRAMES) * 128 / 16000
    assert passes[:FRAMES].all()
    assert after_s == pytest.approx(0.1 * math.log(0.96 / 0.04), abs=0.01)


def test_silence_stays_silence():
    gate = PhantomGate(2, 128)
    found, _ = gate(torch.zeros(1, 2, FRAMES, 33, 2), gate.initial_state(1))
    assert not found.any()


@torch.no_grad()
def test_a_separator_learns_without_the_gate_and_runs_with_it():
    torch.manual_seed(2)
    model = build("separate-small", channels=8, hidden=8, bands=16, blocks=1)
    model.mask.bias.copy_(torch.tensor([0.4, 0.0, -0.4, 0.0]))  # nearly all of the sound goes to the first output
    sound = 0.1 * torch.randn(1, 1, 8000)
    hold_norms(model.train())
    learned = enhance(model, sound)
    run = enhance(model.eval(), sound)
    assert second_over_first_db(run) < second_over_first_db(learned) - 5
    model.gate.forward = lambda talkers, state: (talkers, state)
    torch.testing.assert_close(enhance(model, sound), learned)
