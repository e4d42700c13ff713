"""The way of a voice: from a look to its embedding, from that to the map, and into the target model."""

import numpy as np
import pytest
import torch

from hearloop.export import export_bundle
from hearloop.export.steering import export_steering
from hearloop.export.verify import excitation_inputs
from hearloop.models import build
from hearloop.runtime.bundle import load_bundle
from hearloop.runtime.engine import open_engine

SMALL = {"channels": 8, "hidden": 6, "blocks": 1}


@pytest.fixture(scope="module")
def enroll():
    torch.manual_seed(0)
    return build("enroll", **SMALL, embedding=12).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def enroll_bundle(enroll, tmp_path_factory):
    path = tmp_path_factory.mktemp("voice") / "enroll.onnx"
    export_bundle(enroll, path, name="enroll", license="CC0-1.0")
    return load_bundle(path)


@pytest.mark.parametrize("engine", ["ort", "compiled"])
def test_the_embedding_grows_with_every_frame_and_has_unit_norm(enroll, enroll_bundle, engine):
    spectrum = excitation_inputs(enroll, 60)["spectrum"]
    expected, _ = enroll(spectrum, enroll.initial_state(1))
    running = open_engine(enroll_bundle, engine)
    for index, frame in enumerate(spectrum.split(1, dim=2)):
        found = running.step({"spectrum": frame.numpy()})["embedding"]
        np.testing.assert_allclose(found, expected[:, :, [index]].numpy(), atol=1e-5)
        assert np.linalg.norm(found) == pytest.approx(1, abs=1e-4)


def test_the_bundle_of_an_enrolment_gives_an_embedding_and_no_spectrum(enroll_bundle):
    info = enroll_bundle.info
    assert (info.task, info.channels_in) == ("enroll", 2)
    assert [(port.name, port.role, port.shape) for port in info.outputs] == [("embedding", "embedding", (1, 1, 1, 12))]


def test_the_level_of_a_look_does_not_change_the_voice(enroll):
    spectrum = excitation_inputs(enroll, 120)["spectrum"]
    loud, _ = enroll(spectrum, enroll.initial_state(1))
    quiet, _ = enroll(spectrum / 30, enroll.initial_state(1))
    np.testing.assert_allclose(loud[:, :, -1], quiet[:, :, -1], atol=1e-4)


def test_the_map_of_a_voice_has_the_shape_that_the_step_takes_and_steers_it(enroll, tmp_path):
    torch.manual_seed(1)
    model = build("target", channels=8, hidden=6, blocks=2, heads=2, memory=5, query=2, embedding=12).eval()
    export_steering(model, tmp_path / "steering.onnx")
    steering = open_engine(tmp_path / "steering.onnx", "ort")
    spectrum = excitation_inputs(model, 20)["spectrum"]
    maps, outputs = [], []
    for voice in np.eye(12, dtype=np.float32)[:2]:
        maps.append(steering.step({"embedding": voice[None]})["map"])
        assert maps[-1].shape == model.extra_inputs[0].shape
        with torch.no_grad():
            np.testing.assert_allclose(maps[-1], model.steering(torch.from_numpy(voice[None])), atol=1e-4)
            outputs.append(model(spectrum, torch.from_numpy(maps[-1]), model.initial_state(1))[0].numpy())
    assert np.abs(outputs[0] - outputs[1]).max() > 1e-3 * np.abs(outputs[0]).max()
