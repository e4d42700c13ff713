"""Law 3: the model in PyTorch over a whole signal, and its bundle in the processor in odd blocks, say the same."""

import numpy as np
import pytest

from hearloop.runtime import Processor

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def model_and_bundle(tmp_path_factory):
    """enhance-small with weights far from the gain of one that it starts with, so that every layer counts."""
    from hearloop.export import export_bundle
    from hearloop.models import build

    torch.manual_seed(3)
    model = build("enhance-small").eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "mask" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    path = tmp_path_factory.mktemp("agree") / "random.onnx"
    export_bundle(model, path, name="random", license="CC0-1.0")
    return model, path


@pytest.mark.parametrize("block", [1, 100, 1000])
@pytest.mark.parametrize("level", [1e-3, 0.3])
def test_the_processor_gives_what_pytorch_gives(model_and_bundle, block, level, rng):
    from hearloop.models.frontend import enhance

    model, path = model_and_bundle
    speech_like = rng.standard_normal(8000) * (1 + np.sin(2 * np.pi * 4 * np.arange(8000) / 16000))
    samples = (level * speech_like / 4).astype(np.float32)
    with torch.no_grad():
        expected = enhance(model, torch.from_numpy(samples)[None, None])[0, 0].numpy()
    processor = Processor(path, ceiling_dbfs=0)
    parts = [processor.process(samples[start : start + block]) for start in range(0, len(samples), block)]
    out = np.concatenate([*parts, processor.flush()[0]])[round(processor.latency.total) :]
    assert np.std(expected - samples) > 0.05 * np.std(samples), "the model must change something to prove anything"
    np.testing.assert_allclose(out, expected, atol=1e-4 * np.abs(expected).max())
