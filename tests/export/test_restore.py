"""The weights of a bundle return into the model that it was made of."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hearloop.export import ExportError, export_bundle
from hearloop.export.restore import reproduce, restore, restored, version_of
from hearloop.export.steering import export_steering
from hearloop.models import build
from hearloop.models.frontend import enhance
from hearloop.models.target.hearing import Hearing
from hearloop.runtime.bundle import load_bundle
from hearloop.runtime.voice import steering_path
from hearloop.tools.train import start_with


def stirred(name, seed=3, **config):
    """A model that differs from a new one in every weight, as a trained one does."""
    torch.manual_seed(seed)
    model = build(name, **config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    return model


SMALL = {"channels": 16, "blocks": 1, "depth": 1, "memory": 4}


SHIPPED = ["enhance", "enhance-small", "separate", "separate-small", "enroll", "target", "target-small"]


@pytest.mark.parametrize("name", SHIPPED)
def test_what_ships_returns_and_computes_the_same(name):
    # `restore` compares with the golden vectors of the bundle itself.
    assert restored(name) is not None


def test_every_weight_of_a_state_space_model_returns(tmp_path):
    model = stirred("enhance-mamba-small", **SMALL)
    export_bundle(model, tmp_path / "model.onnx", name="model", license="Apache-2.0")
    other = build("enhance-mamba-small", **SMALL)
    restore(other, tmp_path / "model.onnx")
    for (name, expected), value in zip(model.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6, msg=name)
    audio = torch.randn(1, 1, 4000)
    with torch.no_grad():
        torch.testing.assert_close(enhance(other.eval(), audio), enhance(model, audio), rtol=1e-4, atol=1e-5)


def test_batch_norms_after_convolutions_with_an_offset_compute_the_same(tmp_path):
    export_bundle(stirred("gtcrn-8ms"), tmp_path / "model.onnx", name="model", license="Apache-2.0")
    restore(build("gtcrn-8ms"), tmp_path / "model.onnx")


def test_a_bundle_of_another_architecture_is_refused():
    with pytest.raises(ExportError, match=r"enhance-small: .* expected \["):
        restore(build("enhance-small", channels=8), "enhance-small")


ENROLL = {"channels": 4, "hidden": 4, "blocks": 1, "summary": 2, "embedding": 8}
TARGET = {"channels": 4, "hidden": 4, "bands": 8, "blocks": 1, "embedding": 8}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """An enrolment and a target network, and the bundles of both, which say what they were made of."""
    models = {"enroll": stirred("enroll", **ENROLL), "target-small": stirred("target-small", **TARGET)}
    folder = tmp_path_factory.mktemp("pair")
    for (name, model), config in zip(models.items(), (ENROLL, TARGET), strict=True):
        facts = {"model": name, "config": config}
        export_bundle(model, folder / f"{name}.onnx", name="any", license="Apache-2.0", training=facts)
    export_steering(models["target-small"], steering_path(folder / "target-small.onnx"))
    return models, folder


def test_a_bundle_that_says_what_it_was_made_of_becomes_that_model_with_its_steering(pair):
    models, folder = pair
    again = restored(folder / "target-small.onnx")
    voice, audio = torch.nn.functional.normalize(torch.randn(1, 8), dim=-1), torch.randn(1, 2, 4000)
    with torch.no_grad():
        expected, found = (
            enhance(model, audio, model.steering(voice)) for model in (models["target-small"], again.eval())
        )
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_networks_that_learn_together_begin_with_the_bundle_of_each(pair):
    models, folder = pair
    hearing = Hearing(target=build("target-small", **TARGET), enroll=build("enroll", **ENROLL))
    start_with([str(folder / f"{name}.onnx") for name in models])(hearing)
    for part, name in (("enroll", "enroll"), ("target", "target-small")):
        for key, value in getattr(hearing, part).named_parameters():
            if "gru" in key or "lstm" in key or "linear" in key:
                torch.testing.assert_close(value, models[name].get_parameter(key), rtol=1e-5, atol=1e-6, msg=key)


def test_weights_are_known_by_the_bundle_that_computes_the_same(pair):
    """Batch norms are folded into a bundle, so the numbers that come back are others."""
    _, folder = pair
    again = restored(folder / "enroll.onnx").eval()
    assert version_of(again, folder / "enroll.onnx") == load_bundle(folder / "enroll.onnx").info.version
    with pytest.raises(ExportError, match="the output of these weights differs"):
        version_of(stirred("enroll", **ENROLL, seed=4), folder / "enroll.onnx")
    with pytest.raises(ExportError, match="has task 'target'; expected 'enroll'"):
        version_of(again, folder / "target-small.onnx")


def test_golden_vectors_allow_their_tolerance_and_no_more(pair):
    models, folder = pair
    info = load_bundle(folder / "enroll.onnx").info
    ((name, expected),) = info.golden.outputs.items()
    allowed = info.golden.tolerance * np.abs(expected).max()
    reproduce(models["enroll"], info, replace(info.golden, outputs={name: expected + 0.5 * allowed}))
    with pytest.raises(ExportError, match="the output of these weights differs"):
        reproduce(models["enroll"], info, replace(info.golden, outputs={name: expected + 2 * allowed}))


def test_a_larger_network_goes_on_from_the_bundle_of_a_smaller_one(tmp_path):
    small = {"channels": 8, "hidden": 8, "bands": 8, "blocks": 1}
    model = stirred("separate-small", **small)
    facts = {"model": "separate-small", "config": small}
    export_bundle(model, tmp_path / "small.onnx", name="any", license="Apache-2.0", training=facts)
    grown, audio = build("separate", **small, attentive=1).eval(), torch.randn(1, 1, 4000)
    start_with([str(tmp_path / "small.onnx")])(grown)
    with torch.no_grad():
        torch.testing.assert_close(enhance(grown, audio), enhance(model, audio), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("nonsense", [{"ears": 3}, {"channels": -1}, [1]])
def test_a_bundle_that_tells_nonsense_of_what_it_was_made_of_is_refused(nonsense, tmp_path):
    config = {"channels": 8, "hidden": 8, "bands": 8, "blocks": 1}
    facts = {"model": "separate-small", "config": nonsense}
    model = build("separate-small", **config).eval()
    export_bundle(model, tmp_path / "odd.onnx", name="any", license="Apache-2.0", training=facts)
    with pytest.raises(ExportError, match=r"odd.onnx: says .* separate-small with [\[{]"):
        restored(tmp_path / "odd.onnx")


def test_a_target_bundle_without_its_steering_is_refused(pair, tmp_path):
    _, folder = pair
    alone = tmp_path / "target-small.onnx"
    alone.write_bytes((folder / "target-small.onnx").read_bytes())
    with pytest.raises(ExportError, match=r"target-small-steering.onnx: the steering"):
        restored(alone)
    steering_path(alone).write_bytes(b"no graph")
    with pytest.raises(ExportError, match=r"target-small-steering.onnx: the steering .* cannot be read"):
        restored(alone)
