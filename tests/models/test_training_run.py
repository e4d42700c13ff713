"""A training run: it learns, it can be interrupted anywhere, and what it writes can be read."""

import argparse
import os
import signal
from itertools import islice

import numpy as np
import pytest
import soundfile
import torch

from hearloop.export.restore import restore
from hearloop.models import build
from hearloop.models.simulation.corpus import joined, read_folder
from hearloop.models.simulation.mixture import Simulator
from hearloop.models.simulation.recipe import Recipe
from hearloop.models.simulation.rooms import simulate_rooms
from hearloop.models.simulation.starter import NOTICE
from hearloop.models.training.checkpoint import load_weights, model_of_checkpoint, read_checkpoint, write_checkpoint
from hearloop.models.training.journal import Journal
from hearloop.models.training.loop import Training
from hearloop.models.training.moving_average import WeightAverage
from hearloop.models.training.stream import ROUND, batches
from hearloop.models.training.tasks import enhance
from hearloop.runtime.errors import HearloopError
from hearloop.tools import train


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Voices are harmonic tones that come and go; noises are noise."""
    root = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(0)
    time_s = np.arange(24000) / 16000
    for part in ("speech", "valid-speech"):
        (root / part).mkdir()
        for index in range(3):
            pitch_hz = rng.uniform(100, 250)
            voice = sum(np.sin(2 * np.pi * k * pitch_hz * time_s) / k for k in range(1, 12))
            voice *= 0.1 * (1 + np.sin(2 * np.pi * 3 * time_s + index))
            soundfile.write(root / part / f"{part}-{index}.wav", voice, 16000)
    for part in ("noise", "valid-noise"):
        (root / part).mkdir()
        for index in range(3):
            soundfile.write(root / part / f"{part}-{index}.wav", 0.1 * rng.standard_normal(24000), 16000)
    return root


def run(folders, out, *more):
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    sources = [f"--{kind}={folders / kind}" for kind in ("speech", "noise", "valid-speech", "valid-noise")]
    sizes = ["--batch=2", "--seconds=0.5"]
    return train.run(parser.parse_args(["enhance-small", f"--out={out}", *sources, *sizes, *more]))


@pytest.fixture(autouse=True)
def small(monkeypatch):
    for name, count in (("ROOMS", 2), ("MIXTURES", 4), ("CLEAN", 1)):
        monkeypatch.setattr(enhance, name, count)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def log_of(out):
    return np.genfromtxt(out / "log.csv", delimiter=",", names=True)


def test_a_short_run_lowers_the_loss_and_leaves_a_usable_checkpoint(folders, tmp_path):
    assert run(folders, tmp_path, "--steps=60", "--validate-every=15") == 0
    log = log_of(tmp_path)
    assert list(log["step"]) == [15, 30, 45, 60]
    assert log["loss"][-1] < log["loss"][0] - 2
    content = read_checkpoint(tmp_path / "best.pt")
    assert content["training"]["audio_hours"] == pytest.approx(content["training"]["steps"] * 2 * 0.5 / 3600)
    assert content["quality"][0]["si_sdr_improvement_db"] == pytest.approx(
        np.max(log["si_sdr_improvement_db"]), abs=0.01
    )
    model = model_of_checkpoint(content)
    assert not model.training


def test_mixed_precision_learns_almost_the_same_and_keeps_its_weights_in_float32(folders, tmp_path):
    learned = {}
    for precision in ("32-true", "bf16-mixed"):
        out = tmp_path / precision
        run(folders, out, "--steps=20", "--validate-every=20", f"--precision={precision}")
        learned[precision] = read_checkpoint(out / "last.pt")["resume"]["weights"]
    assert all(weight.dtype == torch.float32 for weight in learned["bf16-mixed"].values() if weight.is_floating_point())
    whole, mixed = (log_of(tmp_path / precision)["loss"] for precision in learned)
    assert mixed == pytest.approx(whole, abs=1.0)
    assert any(not torch.equal(weight, learned["bf16-mixed"][name]) for name, weight in learned["32-true"].items())


@pytest.mark.parametrize("processes", [1, 2])
def test_an_interrupted_run_ends_with_the_weights_of_an_uninterrupted_one(folders, tmp_path, monkeypatch, processes):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    more = ("--steps=8", "--validate-every=4", f"--processes={processes}")
    run(folders, whole, *more)
    step = Training._step

    def step_and_interrupt(self, items, progress):
        result = step(self, items, progress)
        if self.step == 5 and self.fabric.is_global_zero:
            os.kill(os.getpid(), signal.SIGTERM)
        return result

    monkeypatch.setattr(Training, "_step", step_and_interrupt)
    run(folders, parts, *more)
    assert read_checkpoint(parts / "last.pt")["training"]["steps"] == 5
    monkeypatch.setattr(Training, "_step", step)
    run(folders, parts, *more)
    first, second = read_checkpoint(whole / "last.pt"), read_checkpoint(parts / "last.pt")
    assert first["training"]["steps"] == second["training"]["steps"] == 8
    for name, value in first["weights"].items():
        assert torch.equal(value, second["weights"][name]), name


def test_two_processes_learn_what_one_does_from_the_same_batch(folders, tmp_path):
    # Statistics of batch norms are taken per process, so the two agree closely but not exactly.
    for processes in (1, 2):
        run(folders, tmp_path / str(processes), "--steps=4", "--validate-every=4", f"--processes={processes}")
    one, two = (log_of(tmp_path / str(processes)) for processes in (1, 2))
    assert float(two["loss"]) == pytest.approx(float(one["loss"]), rel=0.1)
    assert float(two["si_sdr_improvement_db"]) == pytest.approx(float(one["si_sdr_improvement_db"]), abs=0.5)


def test_missing_data_a_wrong_budget_and_another_model_are_refused(folders, tmp_path):
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    with pytest.raises(HearloopError, match="no data for train: give --speech and --noise"):
        train.run(parser.parse_args(["enhance-small", f"--out={tmp_path}", f"--speech={folders / 'speech'}"]))
    with pytest.raises(HearloopError, match=r"minutes is 0\.0"):
        run(folders, tmp_path, "--minutes=0")
    arguments = [f"--{kind}={folders / kind}" for kind in ("speech", "noise", "valid-speech", "valid-noise")]
    with pytest.raises(HearloopError, match="'unheard-of' is unknown"):
        train.run(parser.parse_args(["unheard-of", f"--out={tmp_path}", "--steps=1", *arguments]))
    write_checkpoint(
        tmp_path / "last.pt", {"model": "another", "config": {}, "weights": {}, "training": {}, "quality": []}
    )
    with pytest.raises(HearloopError, match=r"holds .*'another'"):
        run(folders, tmp_path, "--steps=1")


def test_what_is_validated_on_must_not_be_trained_on(folders, tmp_path):
    for kind, what in (("speech", "speaker valid-speech-0"), ("noise", "noise recording valid-noise-0")):
        with pytest.raises(HearloopError, match=f"{what}.* in both training and validation"):
            run(folders, tmp_path, "--steps=1", f"--{kind}={folders / f'valid-{kind}'}")


def test_several_folders_are_one_corpus(folders):
    noise, more = (read_folder(folders / kind, "noise") for kind in ("noise", "valid-noise"))
    both = joined([noise, more])
    assert both.names == noise.names + more.names
    assert both.groups == noise.groups + more.groups
    assert np.array_equal(both.recording(4), more.recording(1))


def test_without_any_recordings_synthetic_ones_stand_in(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    words = ["enhance-small", f"--out={tmp_path}", "--steps=2", "--validate-every=2", "--batch=2", "--seconds=0.5"]
    assert train.run(parser.parse_args(words)) == 0
    assert NOTICE in capsys.readouterr().out
    assert read_checkpoint(tmp_path / "best.pt")["training"]["steps"] == 2


def test_a_damaged_checkpoint_is_refused_and_a_failed_write_keeps_the_old_one(tmp_path):
    path = tmp_path / "model.pt"
    content = {"model": "enhance-small", "config": {}, "weights": {}, "training": {}, "quality": []}
    write_checkpoint(path, content)
    with pytest.raises(Exception, match="pickle"):
        write_checkpoint(path, {**content, "training": {"unpicklable": lambda: None}})
    assert read_checkpoint(path) == content
    for left in (200, 0):
        path.write_bytes(path.read_bytes()[:left])
        with pytest.raises(HearloopError, match=r"model\.pt: not a readable checkpoint \(."):
            read_checkpoint(path)
    torch.save({"model": "enhance-small"}, path)
    with pytest.raises(HearloopError, match="key 'config'"):
        read_checkpoint(path)
    with pytest.raises(HearloopError, match="no such checkpoint"):
        read_checkpoint(tmp_path / "none.pt")


def test_the_average_of_constant_weights_is_those_weights_and_follows_a_change():
    layer = torch.nn.Linear(2, 2)
    average = WeightAverage(layer, 0.9)
    for step in range(50):
        average.update(layer, step)
    assert torch.allclose(average.weights["weight"], layer.weight)
    with torch.no_grad():
        layer.weight += 1
    for step in range(200, 207):
        average.update(layer, step)
    assert torch.allclose(layer.weight - average.weights["weight"], torch.full((2, 2), 0.9**7), atol=1e-4)


def test_a_run_begins_with_the_weights_of_another_or_of_a_bundle(folders, tmp_path):
    first = tmp_path / "first"
    run(folders, first, "--steps=2", "--validate-every=2")
    weights = read_checkpoint(first / "best.pt")["weights"]
    model = build("enhance-small")
    load_weights(model, first / "best.pt")
    for name, value in model.state_dict().items():
        assert torch.equal(value, weights[name]), name
    # A rate of zero: the weights stay what they were in the bundle, and so does what the model computes.
    still = ["--steps=1", "--validate-every=1", "--learning-rate=0", "--from=enhance-small"]
    run(folders, tmp_path / "second", *still)
    content = read_checkpoint(tmp_path / "second" / "last.pt")
    assert content["training"]["began_with"] == "enhance-small"
    expected = build("enhance-small")
    restore(expected, "enhance-small")
    kernel = "split.0.weight"
    torch.testing.assert_close(content["weights"][kernel], expected.state_dict()[kernel], rtol=1e-3, atol=1e-4)
    with pytest.raises(HearloopError, match="none of its"):
        load_weights(torch.nn.Linear(3, 3), first / "best.pt")


def test_a_batch_is_the_same_whoever_makes_it_and_whatever_came_before(folders):
    corpora = [read_folder(folders / kind) for kind in ("speech", "noise")]
    simulator = Simulator(Recipe(), *corpora, simulate_rooms(np.random.default_rng(0), 2))
    how = {"seed": 3, "batch": 4, "samples": 4096}
    whole = batches(simulator, step=0, **how)
    next(whole)
    expected = next(whole)
    assert torch.equal(next(batches(simulator, step=1, workers=1, **how)), expected)
    halves = [next(batches(simulator, step=1, rank=rank, processes=2, **how)) for rank in range(2)]
    assert torch.equal(torch.cat(halves), expected)


class Counting:
    """Items that are their own numbers; `made` of them so far."""

    made = 0

    def items(self, seed, first, count, length):
        self.made += count
        return np.arange(first, first + count)


def test_batches_are_heard_as_often_as_wished_and_from_any_step_on():
    simulator, repeats = Counting(), 3
    how = {"seed": 0, "batch": 2, "samples": 1, "repeats": repeats}
    heard = [each.tolist() for each in islice(batches(simulator, step=0, **how), 2 * ROUND * repeats)]
    rounds = [[[2 * number, 2 * number + 1] for number in range(at, at + ROUND)] for at in (0, ROUND)]
    assert heard == rounds[0] * repeats + rounds[1] * repeats
    assert simulator.made == 2 * 2 * ROUND
    for step in (1, ROUND - 1, ROUND, 2 * ROUND + 5, 3 * ROUND, 4 * ROUND + 1):
        resumed = [each.tolist() for each in islice(batches(simulator, step=step, **how), ROUND)]
        assert resumed == heard[step : step + ROUND]


def test_the_log_goes_to_tensorboard_as_well_where_that_is_installed(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    Journal(tmp_path, tensorboard=True).write({"step": 1, "loss": 2.0})
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_a_log_that_an_older_version_began_keeps_its_columns(tmp_path):
    (tmp_path / "log.csv").write_text("step,loss\n1,3\n")
    Journal(tmp_path).write({"step": 2, "loss": 2.0, "score": 5.0})
    assert (tmp_path / "log.csv").read_text().split() == ["step,loss", "1,3", "2,2.0"]


def test_a_run_of_another_optimiser_is_not_continued_but_told_how_to_go_on(folders, tmp_path):
    run(folders, tmp_path / "old", "--steps=1")
    path = tmp_path / "old" / "last.pt"
    content = read_checkpoint(path)
    weights = [torch.nn.Parameter(torch.zeros(2))]
    content["resume"]["optimiser"] = torch.optim.AdamW(weights).state_dict()
    write_checkpoint(path, content)
    with pytest.raises(HearloopError, match=r"another optimiser.*--from"):
        run(folders, tmp_path / "old", "--steps=2")
    assert run(folders, tmp_path / "new", "--steps=1", f"--from={path}") == 0


def test_a_run_that_comes_to_no_numbers_stops_and_keeps_what_it_had(folders, tmp_path):
    run(folders, tmp_path, "--steps=1")
    before = (tmp_path / "last.pt").read_bytes()
    with pytest.raises(HearloopError, match=r"the loss is nan near step .*lower rate"):
        run(folders, tmp_path, "--steps=40", "--learning-rate=1e30")
    assert (tmp_path / "last.pt").read_bytes() == before


def test_weights_that_are_no_numbers_are_not_saved(folders, tmp_path):
    run(folders, tmp_path, "--steps=1")
    path = tmp_path / "last.pt"
    content = read_checkpoint(path)
    next(iter(content["resume"]["weights"].values())).fill_(float("nan"))
    write_checkpoint(path, content)
    before = path.read_bytes()
    with pytest.raises(HearloopError, match=r"is not finite at step 2.*lower rate"):
        run(folders, tmp_path, "--steps=2")
    assert path.read_bytes() == before


def test_a_run_that_is_stopped_before_a_validation_names_what_there_is(folders, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Training, "_decide", lambda self: (0.0, True))
    assert run(folders, tmp_path, "--steps=1") == 0
    assert f"{tmp_path / 'last.pt'}: 0 steps, and no score on validation yet" in capsys.readouterr().out
    assert not (tmp_path / "best.pt").exists()


def test_what_was_heard_is_counted_also_where_items_become_longer(folders, tmp_path):
    run(folders, tmp_path, "--steps=2", "--batch=2", "--seconds=0.6")
    run(folders, tmp_path, "--steps=3", "--batch=4", "--seconds=0.8")
    heard_h = read_checkpoint(tmp_path / "last.pt")["training"]["audio_hours"]
    assert heard_h == pytest.approx((2 * 2 * 0.6 + 4 * 0.8) / 3600)
