"""`hearloop export --published` of networks that hear whole recordings, and what `hearloop process` makes of them."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from hearloop.export.published import PUBLISHED, export_published
from hearloop.models.published import load
from hearloop.runtime import EngineError, load_bundle, open_engine
from hearloop.runtime.files import source_files
from hearloop.tools.main import main

GOLDEN = Path(__file__).parents[1] / "models" / "golden"
# In the size of the golden vectors; what it is called there.
SYSTEMS = {"tiger-small": "tiger_speech", "mossformer2": "mossformer2", "mambattention": "mambattention"}
TOLERANCE = 1e-3  # of the standard deviation


@pytest.fixture(scope="module", params=SYSTEMS)
def exported(request, tmp_path_factory):
    """A bundle from a checkpoint with Lightning's prefix, and the PyTorch model that it must be."""
    folder, system = tmp_path_factory.mktemp(request.param), SYSTEMS[request.param]
    golden = dict(np.load(GOLDEN / f"{system}.npz"))
    weights = {key[3:]: torch.from_numpy(value) for key, value in golden.items() if key.startswith("sd/")}
    config = json.loads(str(golden["config"]))
    torch.save({"state_dict": {f"model.{key}": value for key, value in weights.items()}}, folder / "best.ckpt")
    export_published(request.param, folder / "best.ckpt", folder / "model.onnx", config=config)
    model = PUBLISHED[request.param].model(load(system, weights, config), config)
    return folder / "model.onnx", model.eval().requires_grad_(False)


def test_a_file_of_one_piece_comes_out_as_pytorch_has_it(exported, tmp_path):
    path, model = exported
    sound = (0.05 * np.random.default_rng(0).standard_normal(model.piece)).astype(np.float32)
    sound[:512] = 0  # so that no phase is that of rounding noise
    soundfile.write(tmp_path / "in.wav", sound, 16000, "FLOAT")
    # The limiter would hold back what weights that were never trained make of the sound.
    assert main(["process", "--model", str(path), str(tmp_path / "in.wav"), str(tmp_path / "out.wav")]) == 0
    written = source_files(tmp_path / "out.wav", load_bundle(path).info, remixed=False)
    found = np.stack([soundfile.read(each, dtype="float32")[0] for each in written], axis=1)
    expected = model(torch.from_numpy(sound)[None, None])[0].numpy().T
    quiet = np.abs(expected).max() < 0.8
    assert quiet, "choose a quieter sound"
    assert np.abs(found - expected).max() <= TOLERANCE * expected.std()


def test_the_bundle_says_that_it_is_for_files_and_nothing_live_takes_it(exported, tmp_path, capsys):
    path, model = exported
    info = load_bundle(path).info
    assert (info.mode, info.frame, info.channels_out, info.states) == ("file", model.piece, model.channels_out, ())
    assert info.macs_per_frame > 0
    with pytest.raises(EngineError, match="hears whole recordings"):
        open_engine(path)
    soundfile.write(tmp_path / "in.wav", np.zeros(16000), 16000)
    assert main(["live", "--model", str(path), "--software", str(tmp_path / "in.wav")]) == 1
    assert "hears whole recordings" in capsys.readouterr().err
    assert main(["inspect", str(path)]) == 0
    assert f"whole recordings, {model.piece / 16000:g} s at once" in capsys.readouterr().out


def test_nothing_in_the_file_tells_of_the_machine_that_made_it(exported):
    path, _ = exported
    assert str(Path.cwd()).encode() not in path.read_bytes()
