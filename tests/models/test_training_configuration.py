"""Configuration files: the shipped ones are right, and every wrong key is named."""

import pytest

from hearloop.models import MODEL_NAMES, build
from hearloop.models.training.configuration import SHIPPED, Configuration, read_configuration
from hearloop.runtime.errors import HearloopError


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.toml")), ids=lambda path: path.stem)
def test_a_shipped_configuration_builds_the_model_that_it_is_named_after(path):
    configuration = read_configuration(path.stem)
    assert configuration.model == path.stem
    assert build(configuration.model, **configuration.config).task == "enhance"


def test_a_model_without_a_file_has_the_defaults():
    other = next(name for name in MODEL_NAMES if not (SHIPPED / f"{name}.toml").exists())
    assert read_configuration(other) == Configuration(other)


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
        ("model = 'm'\nspeed = 1", "key 'speed' is unknown; known are config"),
        ("model = 'm'\ntraining = 1", "key 'training' is 1; expected a table"),
        ("model = 'm'\n[training]\nbatch = 2.5", r"key 'training\.batch' is 2\.5; expected int"),
        ("model = 'm'\n[training]\nbatch = true", r"key 'training\.batch' is True; expected int"),
        ("model = 'm'\n[training]\nminute = 1", r"key 'training\.minute' is unknown"),
        ("model = 'm'\n[training]\nseconds = 0.1", "training: batch is 8, seconds is 0.1"),
        ("model = 'm'\n[training]\nprecision = 'half'", "precision is 'half'; expected one of 32-true"),
        ("model = 'm'\n[loss]\nspectral = -1", "loss: spectral, si_sdr and snr are"),
        ("model = 'm'\n[loss]\nresolutions = [30]", "resolutions has 30"),
        ("model = 'm'\n[recipe]\nsnr_db = [0]", r"key 'recipe\.snr_db' is \[0\]"),
        ("model = 'm'\n[recipe]\nsnr_db = ['a', 'b']", r"key 'recipe\.snr_db\[0\]' is 'a'; expected float"),
        ("model = ", "not a TOML file"),
    ],
)
def test_a_wrong_key_is_named_with_its_value(tmp_path, text, message):
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(HearloopError, match=r"wrong\.toml: .*" + message):
        read_configuration(str(path))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(HearloopError, match=r"none\.toml: cannot be read"):
        read_configuration(str(tmp_path / "none.toml"))
