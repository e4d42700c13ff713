"""`hearloop export --published`: what authors offer becomes a bundle that gives what they published."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from hearloop.export.published import PUBLISHED, export_published, read_tensors
from hearloop.models.published import load
from hearloop.runtime.bundle import load_bundle
from hearloop.runtime.controls import Controls
from hearloop.runtime.engine import open_engine
from hearloop.runtime.errors import HearloopError
from hearloop.runtime.live import LiveLoop
from hearloop.runtime.processor import Processor
from hearloop.runtime.software_device import SoftwareDevice
from hearloop.runtime.voice import Voice, steering_map
from hearloop.runtime.wetpath import WetPath
from hearloop.tools.main import main

GOLDEN = Path(__file__).parents[1] / "models" / "golden"
TOLERANCE = 1e-4  # of the standard deviation


def golden_of(system: str) -> tuple[dict[str, np.ndarray], dict[str, torch.Tensor]]:
    golden = dict(np.load(GOLDEN / f"{system}.npz"))
    weights = {key.removeprefix("sd/"): torch.from_numpy(value) for key, value in golden.items() if key[:3] == "sd/"}
    return golden, weights


@pytest.fixture(scope="module")
def gtcrn(tmp_path_factory):
    """From the checkpoint of a training, by the command."""
    folder = tmp_path_factory.mktemp("gtcrn")
    golden, weights = golden_of("gtcrn")
    checkpoint, output = folder / "model.tar", folder / "gtcrn.onnx"
    torch.save({"epoch": 87, "optimizer": {"lr": 0.001}, "model": weights}, checkpoint)
    assert (
        main(
            ["export", "--published", "gtcrn", "--checkpoint", str(checkpoint), "--name", "by-its-authors", str(output)]
        )
        == 0
    )
    return output, golden


@pytest.mark.parametrize("engine", ["ort", "compiled"])
def test_gtcrn_gives_the_published_frames(gtcrn, engine):
    output, golden = gtcrn
    running = open_engine(output, engine)
    spectrum = golden["spec"].transpose(0, 2, 1, 3)[:, None]
    found = np.concatenate(
        [running.step({"spectrum": spectrum[:, :, [t]]})["enhanced"] for t in range(spectrum.shape[2])], axis=2
    )
    expected = golden["out_stream"].transpose(0, 2, 1, 3)[:, None]
    assert np.abs(found - expected).max() <= TOLERANCE * expected.std()


def test_the_bundle_of_gtcrn_says_whose_it_is_and_what_it_costs(gtcrn):
    info = load_bundle(gtcrn[0]).info
    assert (info.name, info.license, info.training["system"]) == ("by-its-authors", "MIT", "gtcrn")
    assert (info.parameters, info.macs_per_frame, info.latency_ms) == (48_245, 420_944, 32)
    assert info.level_reference.startswith("that of the training")


@pytest.fixture(scope="module")
def separator(tmp_path_factory):
    """The separator of Look Once to Hear, in the size of the golden vectors, from a checkpoint of Lightning."""
    folder = tmp_path_factory.mktemp("loth")
    golden, weights = golden_of("loth_separator")
    content = {
        "epoch": 3,
        "hyper_parameters": {"lr": 5e-4},
        "state_dict": {f"model.{key}": value for key, value in weights.items()},
    }
    torch.save(content, folder / "best.ckpt")
    config = json.loads(str(golden["config"]))
    export_published("look-once-to-hear", folder / "best.ckpt", folder / "loth.onnx", config=config)
    return folder, golden


@pytest.mark.parametrize("engine", ["ort", "compiled"])
def test_look_once_to_hear_in_blocks_of_8_ms_gives_the_published_sound_4_ms_later(separator, engine):
    folder, golden = separator
    steering = open_engine(folder / "loth-steering.onnx", "ort")
    voice = steering.step({"embedding": golden["embed"][:, 0]})["map"]
    running = open_engine(folder / "loth.onnx", engine)
    assert (running.info.front_end, running.info.frame, running.info.latency_samples) == ("waveform", 128, 192)
    # The authors' first frame begins with the sound; a block of 8 ms and the 4 ms before it are a frame.
    audio = np.pad(golden["mix"], ((0, 0), (0, 0), (0, 64)))
    running.load_state(running.save_state() | {"state.past": audio[:, :, :64]})
    blocks = audio[:, :, 64:].reshape(1, 2, -1, 128)
    frames = [running.step({"audio": blocks[:, :, [t]], "embedding": voice}) for t in range(blocks.shape[2])]
    found = np.concatenate([frame["enhanced"] for frame in frames], axis=2).reshape(1, 2, -1)
    expected = golden["out_stream"]
    assert np.abs(found - expected).max() <= TOLERANCE * expected.std()


def test_look_once_to_hear_runs_in_the_wet_path_in_any_blocks(separator):
    """The frames lie where the authors' lie for a sound that begins a block later."""
    folder, golden = separator
    network = load("loth_separator", golden_of("loth_separator")[1], json.loads(str(golden["config"])))
    mix, embedding = golden["mix"], golden["embed"]
    with torch.no_grad():
        later = torch.from_numpy(np.pad(mix, ((0, 0), (0, 0), (128, 0))))
        expected = network(later, torch.from_numpy(embedding)).numpy()[0, :, 128:]
    controls = Controls()
    controls.steer(steering_map(folder / "loth.onnx", Voice(embedding[0, 0], "published", "1")))
    path = WetPath(open_engine(folder / "loth.onnx", "compiled"), 2, 16000, controls=controls)
    sound = np.pad(mix[0], ((0, 0), (64, path.latency_samples)))
    found = np.zeros_like(sound)
    for part in np.array_split(np.arange(sound.shape[1]), 7):
        path.process(sound[:, part[0] : part[-1] + 1], found[:, part[0] : part[-1] + 1])
    found = found[:, 64 + path.latency_samples :]
    # The network cannot know what is behind the end.
    compared = slice(0, expected.shape[1] - 192)
    assert np.abs(found - expected)[:, compared].max() <= TOLERANCE * expected.std()


@pytest.mark.realtime
@pytest.mark.parametrize("path", ["native", "worker"])
def test_look_once_to_hear_sounds_live_as_in_the_processor(separator, path):
    folder, golden = separator
    sound = np.tile(0.1 * golden["mix"][0], (1, 10)).astype(np.float32)
    voice, model = Voice(golden["embed"][0, 0], "published", "1"), folder / "loth.onnx"
    device = SoftwareDevice(sound, 16000, 128)
    with LiveLoop(model, device, "compiled", path=path, voice=voice) as loop:
        loop.wait()
        misses = loop.stats()["misses"]
    if misses:
        pytest.skip(f"{misses} misses on this machine; nothing is known of the rest")
    made = Processor(model, 2, engine="compiled", block_size=128, voice=voice)
    expected = made.process(sound)[:, round(made.latency.total) :]
    heard = device.output[:, round(loop.latency.total) :][:, : expected.shape[1]]
    settled = slice(1600, expected.shape[1])
    assert np.std(expected[:, settled]) > 0.1
    np.testing.assert_allclose(heard[:, settled], expected[:, settled], atol=1e-5)


@pytest.mark.parametrize(
    "content",
    [
        {"a": torch.ones(2), "b": torch.zeros(3)},
        {"state_dict": {"model.a": torch.ones(2), "model.b": torch.zeros(3)}, "epoch": 1},
        {"generator": {"module.a": torch.ones(2), "module.b": torch.zeros(3)}},
        {"model": {"state_dict": {"a": torch.ones(2), "b": torch.zeros(3)}}},
    ],
)
def test_wrappers_and_prefixes_of_checkpoints_are_taken_off(content, tmp_path):
    torch.save(content, tmp_path / "x.pt")
    assert read_tensors(tmp_path / "x.pt").keys() == {"a", "b"}


def test_a_checkpoint_with_objects_is_refused_and_nothing_in_it_runs(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"state_dict": {"a": torch.ones(2)}, "extra": Trap()}, tmp_path / "trap.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Trap(), protocol=2))
    for name in ("trap.pt", "plain.pt"):
        with pytest.raises(HearloopError, match="not a checkpoint of tensors and plain data"):
            read_tensors(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("content", "named"),
    [({"epoch": 3}, "holds no weights"), ([1, 2], "holds no weights"), ({"a": torch.ones(2)}, "'a' has no place")],
)
def test_a_checkpoint_that_is_none_of_this_system_is_named(content, named, tmp_path):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(HearloopError, match=named):
        export_published("gtcrn", tmp_path / "x.pt", tmp_path / "out.onnx")


def test_an_unknown_system_is_named_with_those_that_are_known(tmp_path):
    with pytest.raises(HearloopError, match=rf"'tfgridnet' is unknown; known are {', '.join(PUBLISHED)}"):
        export_published("tfgridnet", tmp_path / "x.pt", tmp_path / "out.onnx")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--published", "gtcrn", "out.onnx"], "--published SYSTEM --checkpoint FILE OUTPUT"),
        (["--published", "gtcrn", "--checkpoint", "x.pt", "out.onnx", "--part", "target"], "--part is for a training"),
        (["out.onnx", "--license", "MIT"], "there is no checkpoint"),
        (["run.pt", "out.onnx"], "there is no --license"),
    ],
)
def test_what_is_missing_or_does_not_belong_on_the_command_line_is_named(
    arguments, named, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main(["export", *arguments]) == 1
    assert named in capsys.readouterr().err
