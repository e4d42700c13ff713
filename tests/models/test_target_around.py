"""A scene is turned to every direction, and who is heard there is told apart by an enrolment network."""

import numpy as np
import pytest
import torch

from hearloop.models import build, likeness
from hearloop.models.frontend import Stft
from hearloop.models.simulation.turning import FUZZY_S, later_at_the_right_s, turned_to_the_talker
from hearloop.models.target.around import FARTHEST_S
from hearloop.models.target.hearing import Hearing
from hearloop.models.training.checkpoint import take_over, write_checkpoint
from hearloop.runtime.errors import HearloopError
from hearloop.tools.train import start_with

LISTENER = {"channels": 4, "width": 8, "bands": 8, "blocks": 1, "hidden": 12, "layers": 1}
SIZES = {"channels": 8, "hidden": 12, "bands": 16, "blocks": 2, "embedding": 8, "pitches": 8, "delays": 16}


def around(**sizes):
    return build("target-around", **{**SIZES, **sizes}, listener=LISTENER).eval().requires_grad_(False)


def delayed(left_s: float) -> torch.Tensor:
    """Noise that the left ear hears later by so many seconds: [1, 2, samples]."""
    frequencies = torch.fft.rfftfreq(16000, 1 / 16000)
    noise = torch.fft.rfft(torch.randn(16000, generator=torch.Generator().manual_seed(3)))
    turns = torch.exp(-1j * np.pi * frequencies * left_s)
    return torch.fft.irfft(torch.stack([noise * turns, noise / turns]))[None]


def test_before_it_is_trained_it_hears_what_the_small_one_hears(monkeypatch):
    monkeypatch.setattr(likeness, "OWN", 1.0)
    torch.manual_seed(0)
    small, model = build("target-small", **SIZES).eval(), around()
    take_over(model, small.state_dict(), "the small one")
    spectrum, voice = torch.randn(1, 2, 5, 257, 2), torch.randn(1, SIZES["embedding"])
    expected, found = (each(spectrum, each.steering(voice), each.initial_state(1))[0] for each in (small, model))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("turn", [0, 3, 6, 9, 12])
def test_sound_that_comes_from_there_reaches_both_ears_at_once_when_turned(turn):
    model = around(turns=13)
    heard = []
    model.listener.front.register_forward_pre_hook(lambda module, given: heard.append(given[0]))
    delay_s = FARTHEST_S * (turn / 6 - 1)
    spectrum, _ = Stft(model.window).analysis(delayed(delay_s))
    model(spectrum, model.steering(torch.randn(1, 8)), model.initial_state(1))
    left, right = heard[0].unbind(1)
    apart = (left - right).square().sum((1, 2, 3)) / left.square().sum((1, 2, 3))
    assert int(apart.argmin()) == turn
    assert float(apart[turn]) < 0.05, "of white noise, in windows of 32 ms, which a delay leaves in part"


def test_directions_between_those_that_are_turned_to_take_a_share_of_both():
    whereabouts = around().whereabouts
    delays_s = torch.linspace(-8e-4, 8e-4, 31)  # every second one is a direction of its own
    values = torch.randn(31)
    torch.testing.assert_close(values @ whereabouts.between(delays_s), values[::2])
    own_s = torch.linspace(-8e-4, 8e-4, 16)
    few_s = torch.tensor([-6e-4, 0.0, 6e-4])
    torch.testing.assert_close(few_s @ whereabouts.between(few_s), own_s.clamp(-6e-4, 6e-4))


def test_a_direction_that_sounds_like_the_chosen_voice_is_preferred_once_trained():
    torch.manual_seed(0)
    model = around()
    with torch.no_grad():
        model.whereabouts.likely.worth.weight[0, 0] = 5.0
    heard = torch.zeros(1, 4, 16, 5)
    heard[0, :, 11, 0] = 1.0
    spectrum = torch.randn(1, 2, 4, 257, 2)
    map_ = model.steering(torch.randn(1, 8))[..., : model.columns]
    model.whereabouts.training = True  # keeps what was said
    model.kept(spectrum, map_, model.initial_state(1), heard)
    assert model.whereabouts.said[..., :16].argmax(-1).unique().tolist() == [11]


def test_a_sound_is_known_again_where_it_comes_from():
    """The listener is not trained; but what it makes of a sound from the front it makes of it from anywhere."""
    torch.manual_seed(0)
    model = around(turns=13)
    frontal, aside = (Stft(model.window).analysis(delayed(late_s))[0] for late_s in (0.0, FARTHEST_S / 2))
    wanted, _ = model.listener(frontal, model.listener.initial_state(1))
    heard, _ = model.listen(aside, wanted[0, :, -1], model.initial_state(1)["listener"])
    assert heard.shape == (1, aside.shape[2], 16, 5)
    alike = heard[0, -1, :, 0]
    directions_s = torch.linspace(-8e-4, 8e-4, 16)
    assert int(alike.argmax()) == int((directions_s - FARTHEST_S / 2).abs().argmin())
    assert 0.99 < float(alike.max()) <= 1 + 1e-5


def test_the_listener_begins_with_weights_of_its_own_and_does_not_learn(tmp_path):
    torch.manual_seed(0)
    target = build("target-around", **SIZES, listener=LISTENER)
    hearing = Hearing(target, build("enroll-frontal", **LISTENER, embedding=8)).train()
    looks, listens = (build("enroll-frontal", **LISTENER, embedding=8).state_dict() for _ in range(2))
    for name, weights in (("looks", looks), ("listens", listens)):
        facts = {"model": "enroll-frontal", "config": {}, "training": {}, "quality": []}
        write_checkpoint(tmp_path / f"{name}.pt", {**facts, "weights": weights})
    start_with([f"target.listener={tmp_path / 'listens.pt'}", str(tmp_path / "looks.pt")])(hearing)
    for name, value in looks.items():
        assert torch.equal(hearing.enroll.state_dict()[name], value), name
    heard, _ = hearing(torch.randn(2, 2, 4000), (torch.randn(2, 2, 4000), torch.tensor([4000, 3000])))
    heard.square().sum().backward()
    assert all(parameter.grad is None for parameter in target.listener.parameters())
    assert target.whereabouts.likely.worth.bias.grad is not None
    for name, value in listens.items():
        assert torch.equal(target.listener.state_dict()[name], value), name
    with pytest.raises(HearloopError, match=r"--from target\.ears=.*: the model has no part 'target\.ears'"):
        start_with([f"target.ears={tmp_path / 'looks.pt'}"])(hearing)


@pytest.mark.parametrize("late_us", [-700, -150, 0, 400])
def test_a_look_is_turned_to_the_talker_wherever_that_is(late_us):
    alone = 0.1 * delayed(-late_us * 1e-6)[0].numpy()  # the right ear is late
    assert later_at_the_right_s(alone) == pytest.approx(late_us * 1e-6, abs=1.3e-5)
    for seed in range(5):
        look, again = turned_to_the_talker(np.random.default_rng(seed), alone, alone)
        np.testing.assert_array_equal(look, again)
        assert abs(later_at_the_right_s(look)) <= FUZZY_S + 1.3e-5
