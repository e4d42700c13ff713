"""The training loop: its rate, its chance, what it clips, prices and shares, and that it keeps the average."""

import csv

import pytest
import torch
from torch import nn

from hearloop.models import build
from hearloop.models.streaming.lookahead import LookaheadAttention
from hearloop.models.training.checkpoint import read_checkpoint
from hearloop.models.training.configuration import SeparateConfiguration
from hearloop.models.training.loop import Training
from hearloop.models.training.machines import open_fabric, run_on
from hearloop.models.training.moving_average import WeightAverage
from hearloop.models.training.settings import Settings
from hearloop.models.training.tasks import open_task, separate

SIZES = {"channels": 4, "hidden": 4, "bands": 4, "blocks": 1}
FOUND = {"si_sdr_improvement_db": [1.0], "phantom_db": [-10.0]}
needs_forks = pytest.mark.skipif(torch.cuda.is_available(), reason="processes are forked on a CPU alone")


@pytest.fixture
def trained(starter, tmp_path, monkeypatch):
    """Trains a separator as `Settings` say, in a folder of its own or on in that of another run."""
    for name in ("ROOMS", "OVERLAPS", "ALONE"):
        monkeypatch.setattr(separate, name, 1)
    monkeypatch.setattr(separate.Separate, "measure", lambda *_: FOUND)
    runs = []

    def train(out=None, processes=1, network=None, **settings):
        settings = Settings(**{"batch": 1, "seconds": 0.5, "warmup_steps": 0, **settings})
        task = open_task(SeparateConfiguration("separate-small", SIZES, training=settings), *starter)
        if network is not None:
            monkeypatch.setattr(task, "build", network)
        runs.append(out or tmp_path / f"run-{len(runs)}")
        runs[-1].mkdir(exist_ok=True)
        training = Training(task, runs[-1], {})
        run_on(open_fabric(processes, accelerator="cpu"), training.run)
        return training

    return train


def learned(training):
    """The weights with which it would go on, not their average."""
    return read_checkpoint(training.out / "last.pt")["resume"]["weights"]


def column(training, name):
    with open(training.out / "log.csv", newline="", encoding="utf-8") as table:
        return [float(row[name]) for row in csv.DictReader(table)]


def equal(found, expected):
    return all(torch.equal(value, expected[name]) for name, value in found.items())


def test_to_judge_a_network_changes_nothing_that_it_learns(trained):
    often, never = (learned(trained(steps=3, validate_every=every)) for every in (1, 99))
    assert equal(often, never)


def test_what_is_judged_and_kept_is_the_average(trained, monkeypatch):
    judged = {}

    def measure(task, network, fabric):
        judged.update({name: value.clone() for name, value in network.state_dict().items()})
        return FOUND

    monkeypatch.setattr(separate.Separate, "measure", measure)
    training = trained(steps=2)
    average = training.average.weights
    assert not equal(average, learned(training))
    for kept in (judged, *(read_checkpoint(training.out / name)["weights"] for name in ("best.pt", "last.pt"))):
        assert equal(average, kept)


def test_the_average_has_a_short_memory_at_first():
    layer = nn.Linear(2, 2)
    average, before = WeightAverage(layer, 0.999), layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight += 1
    average.update(layer, 0)
    assert (average.weights["weight"] - before).min() > 0.8


def test_the_rate_warms_up_and_falls_to_the_last_one(trained):
    rates = column(
        trained(steps=32, warmup_steps=4, learning_rate=1e-3, last_learning_rate=1e-4, validate_every=1),
        "learning_rate",
    )
    assert rates[:4] == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3, 1e-3], rel=0.03)
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[16] == pytest.approx(0.55e-3)
    assert rates[-1] == pytest.approx(1e-4, rel=0.03)


def test_gradients_are_clipped(trained):
    model = trained(steps=1, largest_gradient=1e-3).model
    norms = torch.stack([parameter.grad.norm() for parameter in model.parameters() if parameter.grad is not None])
    assert norms.norm() == pytest.approx(1e-3, rel=1e-3)


def test_frames_of_lookahead_have_their_price(trained):
    def network():
        model = build("separate-small", **SIZES)
        model.looks = LookaheadAttention(8, 2, window=6, bands=3, most=3)
        return model

    price = network().looks.lookahead_price().item()
    free, costly = (trained(network=network, steps=1, lookahead_weight=weight) for weight in (0.0, 0.5))
    assert column(costly, "loss")[0] - column(free, "loss")[0] == pytest.approx(0.5 * price, abs=1e-3)
    assert (costly.model.looks.gates < free.model.looks.gates).all()


@needs_forks
def test_every_step_and_every_process_draws_something_else_and_after_an_interruption_the_same(
    trained, tmp_path, monkeypatch
):
    """Chance in a network or a loss, such as which items are told the direction."""
    forward = separate.SeparateLoss.forward

    def draws(loss, network, items):
        with open(tmp_path / "draws", "a", encoding="utf-8") as draws:
            draws.write(f"{float(torch.rand(()))}\n")
        return forward(loss, network, items)

    def drawn():
        lines = (tmp_path / "draws").read_text(encoding="utf-8").split()
        (tmp_path / "draws").unlink()
        return sorted(lines)

    monkeypatch.setattr(separate.SeparateLoss, "forward", draws)
    trained(steps=3, batch=2, processes=2)
    straight = drawn()
    assert len(set(straight)) == len(straight) == 6
    interrupted = trained(steps=2, batch=2, processes=2)
    trained(interrupted.out, steps=3, batch=2, processes=2)
    assert drawn() == straight


@needs_forks
def test_statistics_of_norms_are_those_of_all_processes(trained):
    one, two = (learned(trained(steps=1, batch=2, processes=processes)) for processes in (1, 2))
    first = next(name for name in one if name.endswith("running_mean"))  # what others hear depends on this one
    torch.testing.assert_close(two[first], one[first], rtol=1e-4, atol=1e-6)
