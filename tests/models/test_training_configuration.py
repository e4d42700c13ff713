"""Configuration files: the shipped ones are right, and every wrong key is named."""

import math
import re
from pathlib import Path

import pytest

from hearloop.models import MODEL_NAMES, build, task_of
from hearloop.models.training.configuration import SHIPPED, EnhanceConfiguration, read_configuration
from hearloop.runtime.errors import HearloopError


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.toml")), ids=lambda path: path.stem)
def test_a_shipped_configuration_builds_the_model_that_its_name_begins_with(path):
    configuration = read_configuration(path.stem)
    assert path.stem in {f"{configuration.model}{part}" for part in ("", "-first", "-around", "-beamformer")}
    assert build(configuration.model, **configuration.config).task == configuration.task


def test_a_model_without_a_file_has_the_defaults():
    assert not (SHIPPED / "gtcrn.toml").exists()
    assert read_configuration("gtcrn") == EnhanceConfiguration("gtcrn")


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_the_task_of_a_model_is_known_before_it_is_built(name):
    assert task_of(name) == build(name).task


def test_what_cannot_be_trained_is_named():
    with pytest.raises(HearloopError, match=r"'unheard-of' is unknown; .*, target-small-beamformer"):
        read_configuration("unheard-of")
    with pytest.raises(HearloopError, match="'echo' is for the task 'echo', which is not trained"):
        read_configuration("echo")


def test_a_file_says_everything(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'model = "enhance-small"\n[config]\nchannels = 8\n[training]\nminutes = 3\nseed = 7\n'
        "[loss]\nresolutions = [128, 512]\n[recipe]\nsnr_db = [0, 5]\n"
    )
    configuration = read_configuration(str(path))
    assert configuration.config == {"channels": 8}
    assert (configuration.training.minutes, configuration.training.seed) == (3.0, 7)
    assert configuration.loss.resolutions == (128, 512)
    assert configuration.recipe.snr_db == (0.0, 5.0)


def test_the_example_of_the_documentation_can_be_trained_as_it_stands(tmp_path):
    document = Path(__file__).parents[2] / "docs" / "training.md"
    (example,) = re.findall(r"```toml\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "mine.toml").write_text(example)
    read_configuration(str(tmp_path / "mine.toml")).check_start(processes=1, has_weights=False)


def test_the_local_term_may_stay_for_ever(tmp_path):
    (tmp_path / "mine.toml").write_text("model = 'separate-small'\n[loss]\nlocal = 1\nlocal_until = inf\n")
    assert read_configuration(str(tmp_path / "mine.toml")).loss.local_until == math.inf


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "key 'model' is missing"),
        ("model = 3", "key 'model' is 3; expected str"),
        ("model = 'separate-tiger-small'\n[selection]\npesq_wb = 1", r"key 'selection\.pesq_wb' is unknown"),
        ("model = 'gtcrn'\n[loss]\ncontrast = 1", r"key 'loss\.contrast' is unknown"),
        ("model = 'target-small'\n[loss]\ntemperature = 0", "temperature are"),
        ("model = 'gtcrn'\nspeed = 1", "key 'speed' is unknown; known are config"),
        ("model = 'gtcrn'\ntraining = 1", "key 'training' is 1; expected a table"),
        ("model = 'gtcrn'\n[training]\nbatch = 2.5", r"key 'training\.batch' is 2\.5; expected int"),
        ("model = 'gtcrn'\n[training]\nbatch = true", r"key 'training\.batch' is True; expected int"),
        ("model = 'gtcrn'\n[training]\nminute = 1", r"key 'training\.minute' is unknown"),
        ("model = 'gtcrn'\n[training]\nbatch = 8\nseconds = 0.1", "training: batch is 8, seconds is 0.1"),
        ("model = 'gtcrn'\n[training]\nprecision = 'half'", "precision is 'half'; expected one of 32-true"),
        ("model = 'gtcrn'\n[loss]\nspectral = -1", "loss: spectral, si_sdr, snr are"),
        ("model = 'gtcrn'\n[loss]\nresolutions = [30]", "resolutions has 30"),
        ("model = 'gtcrn'\n[recipe]\nsnr_db = [0]", r"key 'recipe\.snr_db' is \[0\]"),
        ("model = 'gtcrn'\n[recipe]\nsnr_db = ['a', 'b']", r"key 'recipe\.snr_db\[0\]' is 'a'; expected float"),
        (
            "model = 'gtcrn'\n[training]\nlearning_rate = inf",
            r"key 'training\.learning_rate' is inf; expected a finite",
        ),
        ("model = 'gtcrn'\n[training]\nlookahead_weight = 0.1", "lookahead_weight is 0.1; expected 0 with 'gtcrn'"),
        ("model = 'gtcrn'\n[training]\nsteps = -5", "training: steps is -5; expected zero or more"),
        ("model = 'gtcrn'\n[training]\nseed = -1", "training: seed is -1; expected at least 0"),
        ("model = 'gtcrn'\n[training]\nseed = 4294967296", "training: seed is 4294967296; expected at least 0"),
        ("model = 'gtcrn'\n[loss]\nspectral = nan", r"key 'loss\.spectral' is nan; expected a finite"),
        ("model = 'gtcrn'\n[selection]\npesq_wb = nan", r"key 'selection\.pesq_wb' is nan; expected a finite"),
        ("model = 'gtcrn'\n[recipe]\nsnr_db = [nan, 5]", r"key 'recipe\.snr_db\[0\]' is nan; expected a finite"),
        ("model = 'separate-small'\n[loss]\nlocal_until = nan", r"key 'loss\.local_until' is nan"),
        ("model = 'target-small'\nblur = -1", "blur is -1.0; expected zero or more"),
        ("model = 'target-small'\nenroll_model = 'gtcrn'", "enroll_model is 'gtcrn', for the task 'enhance'; expected"),
        ("model = 'target-small'\nenroll_model = 'none'", "the file: model 'none' is unknown"),
        ("model = 'target-small'\n[enroll]\nsize = 3", r"enroll is {'size': 3}; expected sizes of 'enroll' .*'size'"),
        ("model = 'separate'\n[config]\nsize = 3", r"config is {'size': 3}; expected sizes of 'separate' .*'size'"),
        ("model = 'separate-small'\n[config]\nbands = 0", "config is {'bands': 0}; expected sizes of"),
        ("model = 'enhance-small'\n[config]\nchannels = 'x'", "config is {'channels': 'x'}; expected sizes of"),
        ("model = 'enhance-small'\n[config]\nwindow = 'x'", "expected sizes of 'enhance-small' .*window pair 'x' is"),
        ("model = ", "not a TOML file"),
    ],
)
def test_a_wrong_key_is_named_with_its_value(tmp_path, text, message):
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(HearloopError, match=message):
        read_configuration(str(path))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(HearloopError, match=r"none\.toml: cannot be read"):
        read_configuration(str(tmp_path / "none.toml"))
