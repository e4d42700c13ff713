"""What a run leaves in its folder: last.pt and best.pt, whatever happened before, and errors that say what is wrong."""

import resource

import pytest
import torch

from hearloop.models import build
from hearloop.models.training.checkpoint import read_checkpoint, write_checkpoint
from hearloop.models.training.configuration import SeparateConfiguration
from hearloop.models.training.loop import Training
from hearloop.models.training.machines import open_fabric, run_on
from hearloop.models.training.settings import SeparateSelection, Settings
from hearloop.models.training.tasks import open_task, separate
from hearloop.runtime.errors import HearloopError

SIZES = {"channels": 4, "hidden": 4, "bands": 4, "blocks": 1}


@pytest.fixture
def trained(starter, tmp_path, monkeypatch):
    """Trains up to some step and finds so much at each validation; returns the steps and the best score."""
    for name in ("ROOMS", "OVERLAPS", "ALONE"):
        monkeypatch.setattr(separate, name, 1)

    def train(steps, improvement_db, seed=1, validate_every=1, save_every=50, **weights):
        every = {"validate_every": validate_every, "save_every": save_every}
        settings = Settings(steps=steps, batch=1, seconds=0.5, seed=seed, **every)
        selection = SeparateSelection(**weights)
        configuration = SeparateConfiguration("separate-small", SIZES, training=settings, selection=selection)
        training = Training(open_task(configuration, *starter), tmp_path, {})
        found = {"si_sdr_improvement_db": [improvement_db], "phantom_db": [-10.0]}
        monkeypatch.setattr(training.task, "measure", lambda *_: found)
        return run_on(open_fabric(accelerator="cpu"), training.run)

    return train


@pytest.fixture
def file_size_limit():
    """Sets how many bytes a file may have: what is beyond fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda count: resource.setrlimit(resource.RLIMIT_FSIZE, (count, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def steps_of(path):
    return read_checkpoint(path)["training"]["steps"]


@pytest.mark.parametrize("room", [0, 5000, 40_000])
def test_a_full_disk_is_told_and_keeps_the_old_checkpoint(tmp_path, file_size_limit, room):
    path = tmp_path / "last.pt"
    content = {"model": "", "config": {}, "weights": {"w": torch.ones(10_000)}, "training": {"steps": 1}, "quality": []}
    write_checkpoint(path, content)
    file_size_limit(room)
    with pytest.raises(HearloopError, match=r"last\.pt: cannot be written \("):
        write_checkpoint(path, {**content, "training": {"steps": 2}})
    assert [each.name for each in tmp_path.iterdir()] == ["last.pt"]
    assert steps_of(path) == 1


def test_what_has_weights_alone_is_not_continued_but_told_how_to_go_on(trained, tmp_path):
    content = {"model": "separate-small", "config": SIZES, "weights": build("separate-small", **SIZES).state_dict()}
    write_checkpoint(tmp_path / "last.pt", {**content, "training": {}, "quality": []})
    with pytest.raises(HearloopError, match=r"last\.pt holds weights and no run.*--from"):
        trained(1, 5.0)


@pytest.mark.parametrize("kept", ["selection", None])
def test_the_best_stays_the_best_when_a_run_is_continued(trained, tmp_path, kept):
    assert trained(1, 5.0) == (1, 5.0)
    content = read_checkpoint(tmp_path / "last.pt")
    if kept is None:  # as an earlier version wrote it
        del content["resume"]["selection"]
        write_checkpoint(tmp_path / "last.pt", content)
    assert trained(2, 3.0) == (2, 5.0)
    assert steps_of(tmp_path / "best.pt") == 1


def test_what_is_no_longer_there_is_not_the_best(trained, tmp_path):
    trained(1, 5.0)
    (tmp_path / "best.pt").unlink()
    assert trained(2, 3.0) == (2, 3.0)
    assert steps_of(tmp_path / "best.pt") == 2


def test_scores_of_another_selection_are_not_compared(trained, tmp_path):
    trained(1, 5.0)
    assert trained(2, 4.0, phantom_db=-0.01) == (2, pytest.approx(4.1))
    assert steps_of(tmp_path / "best.pt") == 2


@pytest.mark.parametrize("seed", [0, 20260101, 2**32 - 1])
def test_a_seed_may_be_a_date(trained, seed):
    assert trained(1, 5.0, seed) == (1, 5.0)


@pytest.mark.parametrize("error", [HearloopError("the loss is nan"), FileNotFoundError(2, "No such file", "a.wav")])
@pytest.mark.parametrize("where", [0, 1])
def test_a_known_error_of_any_process_comes_through(error, where):
    def work(fabric):
        if fabric.global_rank == where:
            raise error
        fabric.barrier()

    threads = torch.get_num_threads()
    with pytest.raises(type(error)) as caught:
        run_on(open_fabric(2, "cpu"), work)
    torch.set_num_threads(threads)
    assert str(caught.value) == str(error)


@pytest.mark.parametrize("validate_every", [1, 99])
def test_a_run_whose_last_validation_was_cut_off_has_it_when_the_command_is_given_again(
    trained, tmp_path, monkeypatch, validate_every
):
    """There was no best.pt, ever: last.pt is of the last step, and so the run was taken for finished."""
    validate = Training._validate

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Training, "_validate", killed)
    with pytest.raises(KeyboardInterrupt):
        trained(2, 5.0, validate_every=99, save_every=1)
    assert steps_of(tmp_path / "last.pt") == 2
    monkeypatch.setattr(Training, "_validate", validate)
    assert trained(2, 5.0, validate_every=validate_every) == (2, 5.0)
    assert steps_of(tmp_path / "best.pt") == 2
    log = (tmp_path / "log.csv").read_text()
    assert trained(2, 4.0, validate_every=validate_every) == (2, 5.0)  # and once only
    assert (tmp_path / "log.csv").read_text() == log


def test_so_has_a_run_that_was_stopped_in_its_last_step(trained, tmp_path, monkeypatch):
    decide = Training._decide

    def decide_and_stop(self):
        progress, _ = decide(self)
        return progress, progress >= 1

    monkeypatch.setattr(Training, "_decide", decide_and_stop)
    trained(2, 5.0, validate_every=99)
    assert not (tmp_path / "best.pt").exists()
    monkeypatch.setattr(Training, "_decide", decide)
    assert trained(2, 5.0, validate_every=99) == (2, 5.0)
    assert steps_of(tmp_path / "best.pt") == 2


def test_the_best_of_a_finished_run_is_chosen_anew_where_it_is_gone_or_the_selection_is_another(trained, tmp_path):
    trained(2, 5.0)
    (tmp_path / "best.pt").unlink()
    assert trained(2, 3.0) == (2, 3.0)
    assert trained(2, 4.0, phantom_db=-0.01) == (2, pytest.approx(4.1))
    for name in ("best.pt", "last.pt"):
        assert read_checkpoint(tmp_path / name)["quality"][0]["si_sdr_improvement_db"] == 4.0
