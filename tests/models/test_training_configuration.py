"""Configuration files: the shipped ones are right, and every wrong key is named."""

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
    with pytest.raises(HearloopError, match="'unheard-of' is unknown; known are enhance-small"):
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
        ("model = 'gtcrn'\n[loss]\nspectral = -1", "loss: spectral, si_sdr and snr are"),
        ("model = 'gtcrn'\n[loss]\nresolutions = [30]", "resolutions has 30"),
        ("model = 'gtcrn'\n[recipe]\nsnr_db = [0]", r"key 'recipe\.snr_db' is \[0\]"),
        ("model = 'gtcrn'\n[recipe]\nsnr_db = ['a', 'b']", r"key 'recipe\.snr_db\[0\]' is 'a'; expected float"),
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
