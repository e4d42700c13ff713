"""Training of an enrolment network alone: looks at talkers, a teacher, and who is taken for whom."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hearloop.models.published.dvector import DVector
from hearloop.models.simulation.looks import LookSimulator
from hearloop.models.simulation.recipe import SceneRecipe
from hearloop.models.simulation.turning import later_at_the_right_s
from hearloop.models.training.configuration import EnrollConfiguration
from hearloop.models.training.settings import Settings
from hearloop.models.training.tasks import enroll, open_task
from hearloop.models.training.voice_loss import EnrollLossWeights, Recognition
from hearloop.runtime.errors import HearloopError

ENROLL = EnrollConfiguration(
    "enroll",
    {"channels": 4, "hidden": 2, "blocks": 1, "summary": 2, "embedding": 8},
    training=Settings(steps=4, batch=4, seconds=0.5, validate_every=2, warmup_steps=0),
    recipe=SceneRecipe(look_s=(0.4, 0.5), look_talkers=(0, 1)),
)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(enroll, "PAIRS", 5)
    monkeypatch.setattr(enroll, "LOOK_S", (0.4, 0.5))


def test_a_look_is_not_taken_for_what_was_remembered_of_others():
    recognition = Recognition(embedding=4, remembered=3)
    voice, ada, ben = torch.eye(4)[:1], torch.tensor([3]), torch.tensor([5])
    assert float(recognition(voice, voice, ada, 0.1)) == 0, "nobody else is known"
    recognition.remember(voice, ada)
    assert float(recognition(voice, voice, ada, 0.1)) == 0, "what the same talker said elsewhere is no mistake"
    recognition.remember(voice, ben)
    assert float(recognition(voice, voice, ada, 0.1)) == pytest.approx(np.log(2)), "two who cannot be told apart"
    recognition.remember(torch.eye(4)[1:], torch.tensor([5, 6, 7]))
    assert float(recognition(voice, voice, ada, 0.1)) == pytest.approx(3 * np.exp(-10), rel=1e-2), "the oldest is gone"


def test_an_enrolment_network_alone_learns_to_find_the_other_look_at_a_talker(starter):
    """Over and over the same looks, so that it can learn them."""
    torch.manual_seed(0)
    task = open_task(ENROLL, *starter)
    network = task.build()
    loss, items = task.loss(network), task.simulator.items(1, 0, 4, 8000)
    assert len(set(items.talker.tolist())) > 1
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    before = float(loss(network, items).detach())
    for _ in range(30):
        optimiser.zero_grad()
        loss(network, items).backward()
        optimiser.step()
    assert float(loss(network, items).detach()) < 0.5 * before
    with pytest.raises(HearloopError, match="one item of a step"):
        loss(network, task.simulator.items(1, 0, 1, 8000))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A file of random weights in the published form."""
    torch.manual_seed(2)
    path = tmp_path_factory.mktemp("teacher") / "pretrained.pt"
    torch.save({"model_state": DVector().state_dict()}, path)
    return path


def test_an_enrolment_network_begins_with_what_its_teacher_knows_and_learns_from_it(starter, teacher):
    configuration = replace(ENROLL, model="enroll-frontal", config={"channels": 4, "width": 8, "bands": 8, "blocks": 1})
    with_teacher = EnrollLossWeights(contrast=0, alignment=1, teacher=str(teacher))
    task = open_task(replace(configuration, loss=with_teacher), *starter)
    torch.manual_seed(0)
    network = task.build()
    heard = torch.rand(1, 20, 40)
    with torch.no_grad():
        expected, _ = task.teacher.lstm(heard)
        found, _ = network.voice(heard[:, :, None], network.voice.initial_state(1))
        torch.testing.assert_close(found[:, :, 0], expected)
        torch.testing.assert_close(network.linear(found[:, :, 0]), task.teacher.linear(expected))
    items = task.simulator.items(1, 0, 3, 8000)
    loss = task.loss(network)
    loss(network, items).backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in network.parameters())
    assert 0 < float(loss(network, items).detach()) < 2
    swapped = items._replace(spoken=items.spoken[:, ::-1].copy())
    assert not torch.equal(loss(network, swapped), loss(network, items))


def test_an_enrolment_network_learns_to_recognise_what_its_teacher_says_of_the_other_look(starter, teacher):
    configuration = replace(ENROLL, model="enroll-frontal", config={"channels": 4, "width": 8, "bands": 8, "blocks": 1})
    weights = EnrollLossWeights(contrast=0, recognition=1, teacher=str(teacher))
    task = open_task(replace(configuration, loss=weights), *starter)
    network = task.build()
    loss, items = task.loss(network), task.simulator.items(1, 0, 4, 8000)
    found = loss(network, items)
    found.backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in network.parameters())
    with torch.no_grad():
        said = task.teacher(*(torch.as_tensor(each).flatten(0, 1) for each in (items.spoken, items.look_samples)))
        torch.testing.assert_close(loss.recognition.voices[:8], said)
        assert not torch.equal(loss(network, items._replace(spoken=items.spoken[:, ::-1].copy())), found)


def test_the_front_of_an_enrolment_network_learns_to_let_the_talker_pass(starter):
    """Over and over the same looks; the rest of the network stays as it is."""
    torch.manual_seed(0)
    configuration = replace(ENROLL, model="enroll-frontal", config={"channels": 8, "width": 8, "bands": 8, "hidden": 8})
    task = open_task(replace(configuration, loss=EnrollLossWeights(contrast=0, front=1)), *starter)
    network = task.build()
    loss, items = task.loss(network), task.simulator.items(1, 0, 4, 8000)
    optimiser = torch.optim.Adam(network.front.parameters(), 0.01)
    before = float(loss(network, items).detach())
    for _ in range(40):
        optimiser.zero_grad()
        loss(network, items).backward()
        optimiser.step()
    assert float(loss(network, items).detach()) < before - 3, "dB"
    assert network.linear.weight.grad is None
    with pytest.raises(HearloopError, match="enroll has no such part"):
        open_task(replace(ENROLL, loss=EnrollLossWeights(front=1)), *starter).build()


def test_a_teacher_is_needed_to_learn_from_one():
    for term in ("alignment", "recognition"):
        with pytest.raises(HearloopError, match="without a teacher"):
            EnrollLossWeights(**{term: 1})


def test_looks_are_turned_to_talkers_anywhere(starter):
    """A delay turns the face; the level at the ears still tells that the talker is at the side."""

    def ears(turned_share):
        recipe = replace(ENROLL.recipe, turned_share=turned_share, clean_look_share=1.0, room_share=0.0)
        simulator = LookSimulator(recipe, starter[0].speech, starter[0].noise, starter[0].heads)
        alone = simulator.items(3, 0, 6, 8000).alone.reshape(-1, 2, 8000)
        left, right = np.square(alone).sum(axis=-1).T
        return np.abs([later_at_the_right_s(each) for each in alone]), np.abs(10 * np.log10(left / right))

    late_s, level_db = ears(turned_share=1.0)
    assert late_s.max() < 1e-4
    _, frontal_db = ears(turned_share=0.0)
    assert np.median(level_db) > frontal_db.max()


def test_looks_are_confused_where_another_talker_is_more_alike():
    voices = np.eye(4, dtype=np.float32)[[0, 0, 1, 1, 2]]
    assert enroll.confused_percent(voices, np.array([7, 7, 5, 5, 5]))[:4] == [0, 0, 0, 0]
    assert enroll.confused_percent(voices, np.array([7, 5, 7, 5, 2]))[0] == pytest.approx(100 / 3)
    assert np.isnan(enroll.confused_percent(voices, np.array([7, 7, 5, 5, 2]))[4])


def test_two_looks_are_at_one_talker_and_no_longer_than_an_item(starter):
    simulator = LookSimulator(ENROLL.recipe, starter[0].speech, starter[0].noise, starter[0].heads)
    items, again = simulator.items(3, 2, 3, 7000), simulator.items(3, 4, 1, 7000)
    assert items.looks.shape == (2, 3, 2, 7000)
    assert items.looks.dtype == np.float32
    assert items.alone.shape == items.looks.shape
    assert items.spoken.shape == (2, 3, 7000)
    assert (items.looks - items.alone).std() > 1e-3
    np.testing.assert_array_equal(items.looks[:, 2:], again.looks)
    assert items.look_samples.min() >= 6400
    assert items.look_samples.max() <= 7000
    for looks, samples in zip(items.looks, items.look_samples, strict=True):
        for look, many in zip(looks, samples, strict=True):
            assert np.abs(look[:, :many]).max() > 1e-3
            assert np.all(look[:, many:] == 0)
    for piece, many in zip(items.spoken.reshape(6, -1), items.look_samples.reshape(6), strict=True):
        assert np.abs(piece[:many]).max() > 1e-3
        assert np.all(piece[many:] == 0)
    assert not np.allclose(items.looks[0], items.looks[1])
