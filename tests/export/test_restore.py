"""The weights of a bundle return into the model that it was made of."""

import pytest
import torch

from hearloop.export import ExportError, export_bundle
from hearloop.export.restore import restore
from hearloop.models import build
from hearloop.models.frontend import enhance


def stirred(name, **config):
    """A model that differs from a new one in every weight, as a trained one does."""
    torch.manual_seed(3)
    model = build(name, **config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    return model


SMALL = {"channels": 16, "blocks": 1, "depth": 1, "memory": 4}


def test_the_shipped_bundle_returns_and_computes_the_same():
    # `restore` compares with the golden vectors of the bundle itself.
    restore(build("enhance-small"), "enhance-small")


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
