"""Training of separators and of target speech hearing: the same loop, other items, losses and measures."""

import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from hearloop.models import build
from hearloop.models.frontend import enhance
from hearloop.models.published.dvector import DVector
from hearloop.models.simulation.pairs import Pair
from hearloop.models.simulation.recipe import SceneRecipe
from hearloop.models.target.hearing import embed
from hearloop.models.training.checkpoint import load_weights, model_of_checkpoint, read_checkpoint, write_checkpoint
from hearloop.models.training.configuration import EnrollConfiguration, SeparateConfiguration, TargetConfiguration
from hearloop.models.training.loop import Training
from hearloop.models.training.loss import TargetLossWeights
from hearloop.models.training.machines import open_fabric, run_on
from hearloop.models.training.settings import Settings
from hearloop.models.training.talker_loss import SeparateLossWeights
from hearloop.models.training.tasks import enroll, open_task, separate, target
from hearloop.models.training.voice_loss import EnrollLossWeights, alignment, contrast
from hearloop.models.training.whereabouts import direction_error
from hearloop.runtime.errors import HearloopError

SETTINGS = Settings(steps=4, batch=2, seconds=0.5, validate_every=2, warmup_steps=0)
SEPARATE = SeparateConfiguration(
    "separate-mossformer-small",
    {"size": 8, "layers": 1, "keys": 4, "window": 8, "inner": 4},
    training=SETTINGS,
    loss=SeparateLossWeights(spectral=0, si_sdr=0, snr=1),
)
TARGET = TargetConfiguration(
    "target",
    {"channels": 4, "hidden": 2, "blocks": 2, "heads": 2, "memory": 4, "query": 2, "embedding": 8},
    training=SETTINGS,
    enroll={"channels": 4, "hidden": 2, "blocks": 1, "summary": 2, "embedding": 8},
    loss=TargetLossWeights(spectral=0, si_sdr=0, snr=1),
    recipe=SceneRecipe(look_s=(0.5, 0.7)),
)

ENROLL = EnrollConfiguration(
    "enroll",
    TARGET.enroll,
    training=replace(SETTINGS, batch=4),
    recipe=SceneRecipe(look_s=(0.4, 0.5), look_talkers=(0, 1)),
)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    for module, counts in (
        (separate, {"ROOMS": 2, "OVERLAPS": 2, "ALONE": 1}),
        (target, {"SCENES": 1, "REOPENING": 1}),
        (enroll, {"PAIRS": 5, "LOOK_S": (0.4, 0.5)}),
    ):
        for name, count in counts.items():
            monkeypatch.setattr(module, name, count)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def learned(starter, tmp_path_factory):
    """Trains as a configuration says and returns the content of last.pt."""

    def learn(configuration, out=None, processes=1, interrupt_at=None):
        out = out or tmp_path_factory.mktemp("run")
        training = Training(open_task(configuration, *starter), out, {})
        step = training._step

        def step_and_interrupt(items, progress):
            loss = step(items, progress)
            if training.step == interrupt_at:
                training.stop._set(signal.SIGTERM)
            return loss

        training._step = step_and_interrupt
        run_on(open_fabric(processes, "cpu"), training.run)
        return read_checkpoint(out / "last.pt")

    return learn


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> str:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("teacher") / "pretrained.pt"
    torch.save({"model_state": DVector().state_dict()}, path)
    return str(path)


def recognising(teacher: str) -> EnrollConfiguration:
    """With a loss that remembers what it has heard."""
    weights = EnrollLossWeights(contrast=0, recognition=1, teacher=teacher)
    return replace(ENROLL, config={**ENROLL.config, "embedding": 256}, loss=weights)


@pytest.mark.parametrize("name", ["separate", "target", "target, blurred", "enroll", "enroll, recognising"])
def test_an_interrupted_run_ends_with_the_weights_of_an_uninterrupted_one(learned, tmp_path, teacher, name):
    configuration = {
        "separate": SEPARATE,
        "target": TARGET,
        "target, blurred": replace(TARGET, blur=0.5),
        "enroll": ENROLL,
        "enroll, recognising": recognising(teacher),
    }[name]
    whole = learned(configuration)
    assert learned(configuration, tmp_path, interrupt_at=3)["training"]["steps"] == 3
    continued = learned(configuration, tmp_path)
    assert continued["training"]["steps"] == whole["training"]["steps"] == 4
    for name, value in whole["weights"].items():
        assert torch.equal(value, continued["weights"][name]), name
    assert whole["quality"] == continued["quality"]


@pytest.mark.parametrize("configuration", [SEPARATE, TARGET], ids=lambda configuration: configuration.task)
def test_two_processes_learn_what_one_does_from_the_same_batch(learned, configuration):
    one, two = (learned(configuration, processes=processes) for processes in (1, 2))
    for name, value in one["weights"].items():
        # Where a gradient is next to nothing, the optimiser makes a step of its sign, and rounding decides.
        assert (two["weights"][name] - value).norm() <= 1e-3 * value.norm() + 2e-4, name
    for name, value in one["quality"][0].items():
        if name != "test":
            assert two["quality"][0][name] == pytest.approx(value, abs=0.01)


@pytest.mark.parametrize("name", ["separate-small", "separate-tiger-small", "separate-mossformer-small"])
def test_the_talkers_add_up_to_the_mixture_that_they_are_trained_on(name):
    torch.manual_seed(0)
    model = build(name).train()
    mixture = 0.1 * torch.randn(2, 1, 4000)
    talkers = enhance(model, mixture)
    assert (talkers[:, :1] - mixture / 2).abs().max() > 1e-3
    torch.testing.assert_close(talkers.sum(1, keepdim=True), mixture, rtol=0, atol=1e-5)


def test_the_order_of_the_talkers_counts_neither_in_the_loss_nor_in_the_measure(starter):
    task = open_task(SEPARATE, *starter)
    items = task.simulator.items(1, 0, 2, 8000)
    network = task.build()
    loss = task.loss(network)
    expected = loss(network, items)
    torch.testing.assert_close(loss(network, items._replace(sources=items.sources[:, ::-1].copy())), expected)
    rng = np.random.default_rng(0)
    sources = rng.standard_normal((2, 8000)).astype(np.float32)
    pair = Pair(sources.sum(0), sources, 0.0, np.inf, (0, 1), "overlap")
    assert separate.improvement_db(pair.mixture * np.ones((2, 1), np.float32), pair) == pytest.approx(0, abs=1e-3)
    heard = sources + 0.1 * rng.standard_normal((2, 8000)).astype(np.float32)
    assert separate.improvement_db(heard[::-1].copy(), pair) == separate.improvement_db(heard, pair)
    assert separate.improvement_db(heard, pair) == pytest.approx(20, abs=1)


def gradients_of_enrolment(weights, starter):
    torch.manual_seed(0)
    task = open_task(replace(TARGET, loss=weights), *starter)
    network = task.build()
    task.loss(network)(network, task.simulator.items(1, 0, 3, 8000)).backward()
    return torch.cat([parameter.grad.flatten() for parameter in network.enroll.parameters()])


def test_the_enrolment_learns_from_what_is_heard_and_from_each_term_of_the_embeddings(starter):
    alone = TargetLossWeights(spectral=0, si_sdr=0, snr=1)
    plain = gradients_of_enrolment(alone, starter)
    assert plain.norm() > 0
    for term in ("alignment", "contrast"):
        more, twice = (gradients_of_enrolment(replace(alone, **{term: weight}), starter) - plain for weight in (1, 2))
        assert more.norm() > 1e-3 * plain.norm(), term
        torch.testing.assert_close(twice, 2 * more, rtol=1e-2, atol=1e-2 * float(more.abs().max()))


SEEKING = {"channels": 4, "hidden": 8, "bands": 8, "blocks": 2, "embedding": 8, "delays": 4}


@pytest.mark.parametrize(
    "configuration",
    [
        replace(TARGET, loss=TargetLossWeights(contrast=1.0)),
        replace(TARGET, model="target-small", config=SEEKING, loss=TargetLossWeights(whose=1.0)),
    ],
    ids=["contrast", "whose"],
)
def test_voices_need_others_to_compare_with(configuration, starter):
    task = open_task(configuration, *starter)
    network = task.build()
    loss, items = task.loss(network), task.simulator.items(1, 0, 1, 8000)
    with pytest.raises(HearloopError, match=r"a process has one item of a step; expected a larger training\.batch"):
        loss(network, items)


def test_embeddings_that_tell_talkers_apart_are_preferred():
    talker = torch.tensor([3, 5, 3])
    apart = torch.eye(4)[[0, 1, 0]]
    assert float(contrast(apart, apart, talker, 0.1)) == pytest.approx(0, abs=1e-3)
    assert float(contrast(apart, apart.flip(1), talker, 0.1)) > 0.5
    assert float(alignment(apart, apart)) == 0
    assert float(alignment(apart, -apart)) == 2


def test_the_clean_look_is_the_example_and_does_not_learn():
    noisy, clean = (torch.randn(3, 4, requires_grad=True) for _ in range(2))
    alignment(noisy, clean).backward()
    assert noisy.grad.norm() > 0
    assert clean.grad is None


def test_what_is_behind_a_look_is_not_heard(starter):
    task = open_task(TARGET, *starter)
    network = task.build()
    look = 0.1 * torch.randn(2, 2, 8000)
    samples = torch.tensor([4000, 6000])
    changed = look.clone()
    changed[0, :, 4000:] = 1
    changed[1, :, 6000:] = 1
    with torch.no_grad():
        expected = embed(network.enroll, look, samples)
        torch.testing.assert_close(embed(network.enroll, changed, samples), expected)
        assert not torch.allclose(embed(network.enroll, look, samples + 2000), expected, atol=1e-3)
        torch.testing.assert_close(embed(network.enroll, look[:1, :, :4000], samples[:1]), expected[:1])
    torch.testing.assert_close(expected.norm(dim=-1), torch.ones(2))


def test_networks_that_learn_together_begin_with_checkpoints_of_their_own(starter, tmp_path):
    torch.manual_seed(1)
    network = open_task(TARGET, *starter).build()
    before = {name: value.clone() for name, value in network.target.state_dict().items()}
    others = build("enroll", **TARGET.enroll)
    facts = {"model": "enroll", "config": TARGET.enroll, "training": {}, "quality": []}
    write_checkpoint(tmp_path / "enroll.pt", {**facts, "weights": others.state_dict()})
    load_weights(network, tmp_path / "enroll.pt")
    for name, value in others.state_dict().items():
        assert torch.equal(network.enroll.state_dict()[name], value), name
    for name, value in network.target.state_dict().items():
        assert torch.equal(before[name], value), name


def test_an_enrolment_network_that_does_not_learn_stays_as_it_is(starter, learned):
    front = {"channels": 4, "width": 8, "bands": 8, "blocks": 1, "hidden": 8, "layers": 1, "embedding": 8}
    configuration = replace(TARGET, enroll_model="enroll-frontal", enroll=front, enroll_learns=False)
    torch.manual_seed(configuration.training.seed)
    before = open_task(configuration, *starter).build().state_dict()
    after = learned(configuration)["weights"]
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("target.") for name in changed)
    with pytest.raises(HearloopError, match=r"alignment and contrast are \(0\.0, 1\.0\) and enroll_learns is false"):
        open_task(replace(configuration, loss=TargetLossWeights(contrast=1.0)), *starter)


def test_only_a_part_learns_where_a_configuration_says_so(starter, learned):
    loss = TargetLossWeights(spectral=0, si_sdr=0, snr=1, whose=1)
    configuration = replace(TARGET, model="target-small", config=SEEKING, loss=loss, learns="target.whereabouts.")
    torch.manual_seed(configuration.training.seed)
    before = open_task(configuration, *starter).build().state_dict()
    after = learned(configuration)["weights"]
    changed = {name for name in before if "running_" not in name and "num_batches" not in name}
    changed = {name for name in changed if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("target.whereabouts.") for name in changed)
    stays = replace(configuration, stays=("target.whereabouts.p", "target.whereabouts.e"))
    learn = {name for name, each in open_task(stays, *starter).build().named_parameters() if each.requires_grad}
    assert learn
    assert not [name for name in learn if not name.startswith("target.whereabouts.")]
    assert not [name for name in learn if name.startswith(stays.stays)]
    for key, value in (("learns", "target.ears"), ("stays", ("target.mask.", "target.ears"))):
        with pytest.raises(HearloopError, match=rf"{key} is 'target\.ears', and the name of no weight begins with it"):
            open_task(replace(configuration, **{key: value}), *starter).build()


def test_a_network_is_asked_where_the_target_is(starter):
    loss = TargetLossWeights(spectral=0, si_sdr=0, snr=1, whose=1, told_share=0.5)
    configuration = replace(TARGET, model="target-small", config=SEEKING, loss=loss)
    task = open_task(configuration, *starter)
    torch.manual_seed(0)
    network, items = task.build(), task.simulator.items(1, 0, 3, 8000)
    error = task.loss(network)
    error(network, items).backward()
    assert network.target.steering.wanted.weight.grad.abs().max() > 0
    there = error.finder(torch.from_numpy(items.mixture), torch.from_numpy(items.target))
    assert direction_error(20 * there, there) < direction_error(20 * there.flip(-1), there)
    with pytest.raises(HearloopError, match="target looks for no directions"):
        open_task(replace(TARGET, loss=loss), *starter).build()


def test_a_checkpoint_of_both_networks_gives_either(learned):
    content = learned(TARGET)
    for part in ("target", "enroll"):
        model = model_of_checkpoint(content, part)
        assert model.task == part
        for name, value in model.state_dict().items():
            assert torch.equal(value, content["weights"][f"{part}.{name}"])
    assert model_of_checkpoint(content).task == "target"
    with pytest.raises(HearloopError, match="part 'ears' is not in the checkpoint; known are target, enroll"):
        model_of_checkpoint(content, "ears")
    with pytest.raises(HearloopError, match="known are none, because separate-mossformer-small was trained alone"):
        model_of_checkpoint(learned(SEPARATE), "enroll")
