"""Law 3 for every model: PyTorch over a whole signal and each engine frame by frame give the same."""

import os

import numpy as np
import pytest
import torch
from torch import nn

from hearloop.export import ExportError, export_bundle
from hearloop.export.verify import excitation_inputs, frame_of
from hearloop.models import MODEL_NAMES, build
from hearloop.models.streaming.conv2d import CausalConv2d
from hearloop.runtime.bundle import load_bundle
from hearloop.runtime.bundle_info import Port
from hearloop.runtime.engine import open_engine
from hearloop.runtime.golden import golden_error

FRAMES = 500
# Three quarters of an hour: HEARLOOP_MINUTES=45 pytest tests/export/test_export_models.py -k however_long
MINUTES = float(os.environ.get("HEARLOOP_MINUTES", "4"))
TOLERANCE = 1e-4  # of the largest output

# Name of the model, and sizes that make it small enough for a quick test.
MODELS: dict[str, dict] = {
    "enhance-small": {"channels": 8, "hidden": 12, "bands": 16, "blocks": 1},
    "gtcrn": {},
    "gtcrn-8ms": {},
    "echo-small": {"channels": 3, "blocks": 2, "layers": 3},
    "enhance-mamba-small": {"channels": 8, "blocks": 2, "depth": 2, "memory": 6, "heads": 2},
    "separate-mossformer-small": {"size": 24, "layers": 2, "keys": 8, "window": 12, "inner": 12},
    "separate": {"channels": 8, "hidden": 12, "bands": 16, "blocks": 1, "attentive": 1, "pitches": 8},
    "separate-tiger-small": {"size": 8, "channels": 12, "rounds": 2, "scales": 3, "heads": 2, "query": 3, "memory": 9},
    "enroll": {"channels": 8, "hidden": 6, "blocks": 1, "summary": 4, "embedding": 12},
    "enroll-frontal": {"channels": 8, "width": 8, "bands": 8, "hidden": 12, "layers": 2, "embedding": 12},
    "target-small": {
        **{"channels": 8, "hidden": 12, "bands": 16, "blocks": 2, "pitches": 8, "delays": 6},
        "beamforming": True,
    },
    "target-around": {
        **{"channels": 8, "hidden": 12, "bands": 16, "blocks": 1, "pitches": 8, "delays": 6, "embedding": 12},
        **{"turns": 3, "listener": {"channels": 4, "width": 8, "bands": 8, "blocks": 1, "hidden": 12, "layers": 2}},
    },
    "target": {"channels": 8, "hidden": 6, "blocks": 2, "heads": 2, "memory": 20, "query": 2},
}


class Listens(nn.Module):
    """A model with every kind of input: microphones, a reference, an embedding."""

    task, window, channels_in, channels_out = "echo", "symmetric-192", 2, 1
    extra_inputs = (
        Port("far_end", "reference", (1, 1, 1, 97, 2), "what the loudspeaker plays"),
        Port("voice", "embedding", (1, 3), "whom to keep"),
    )

    def __init__(self):
        super().__init__()
        self.mix = CausalConv2d(6, 2, (2, 3), 97, padding=1)
        self.weigh = nn.Linear(3, 2)

    def initial_state(self, batch):
        return {"past": self.mix.initial_state(batch)}

    def forward(self, spectrum, far_end, voice, state):
        together = torch.cat([spectrum, far_end], dim=1).permute(0, 1, 4, 2, 3).flatten(1, 2)
        mixed, past = self.mix(together, state["past"])
        weighed = mixed * self.weigh(voice)[:, :, None, None]
        return weighed.permute(0, 2, 3, 1).unsqueeze(1), {"past": past}


@pytest.fixture(scope="module", params=MODELS)
def model(request) -> nn.Module:
    torch.manual_seed(5)
    model = build(request.param, **MODELS[request.param]).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def bundle(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "model.onnx"
    export_bundle(model, path, name="model", license="CC0-1.0")
    return load_bundle(path)


def test_no_architecture_is_left_out():
    """The other names are these classes in other sizes."""
    assert {type(build(name)) for name in MODEL_NAMES} == {type(build(name, **sizes)) for name, sizes in MODELS.items()}


@pytest.mark.parametrize("engine", ["ort", "compiled"])
def test_each_engine_gives_frame_by_frame_what_pytorch_gives_at_once(model, bundle, engine):
    assert_agrees(model, bundle, engine)


@pytest.mark.slow
def test_however_long_it_runs_the_same_sound_gives_the_same(model, bundle):
    """Eight seconds over and over, in machine code: nothing grows, drifts, or runs out of numbers."""
    if bundle.info.task == "enroll":
        pytest.skip("hears a look of some seconds")
    signal, passes = excitation_inputs(model, 1000), round(MINUTES * 60 * 125 / 1000)
    frames = {
        port.name: [frame_of(port, signal[port.name], frame).numpy().copy() for frame in range(1000)]
        for port in bundle.info.inputs
    }
    engine = open_engine(bundle, "compiled")
    shapes = {name: value.shape for name, value in engine.save_state().items()}
    heard = []
    for number in range(passes):
        outputs = []
        for frame in range(1000):
            for name, array in engine.inputs.items():
                array[:] = frames[name][frame]
            engine.run()
            if number in (9, passes - 1) and frame >= 900:
                outputs.append(engine.outputs["enhanced"].copy())
        heard += outputs
    early, late = np.stack(heard[:100]), np.stack(heard[100:])
    assert np.abs(late - early).max() <= TOLERANCE * np.abs(early).max()
    state = engine.save_state()
    assert {name: value.shape for name, value in state.items()} == shapes
    assert all(np.isfinite(value).all() for value in state.values())


def assert_agrees(model: nn.Module, bundle, engine: str) -> None:
    signal = excitation_inputs(model, FRAMES)
    with torch.no_grad():
        expected = model(*signal.values(), model.initial_state(1))[0].numpy()
    running = open_engine(bundle, engine)
    assert running.inputs.keys() == signal.keys()
    for frame in range(FRAMES):
        for port in bundle.info.inputs:
            running.inputs[port.name][:] = frame_of(port, signal[port.name], frame).numpy()
        found = running.step()[bundle.info.outputs[0].name]
        error = np.abs(found - expected[:, :, [frame]]).max()
        assert error <= TOLERANCE * np.abs(expected).max(), f"frame {frame}"


@pytest.mark.parametrize("engine", ["ort", "compiled"])
def test_a_model_may_hear_a_reference_and_be_told_whom_to_keep(engine, tmp_path):
    torch.manual_seed(0)
    model = Listens().eval()
    export_bundle(model, tmp_path / "listens.onnx", name="listens", license="CC0-1.0")
    bundle = load_bundle(tmp_path / "listens.onnx")
    assert [(port.name, port.role, port.shape) for port in bundle.info.inputs] == [
        ("spectrum", "spectrum", (1, 2, 1, 97, 2)),
        ("far_end", "reference", (1, 1, 1, 97, 2)),
        ("voice", "embedding", (1, 3)),
    ]
    assert_agrees(model, bundle, engine)
    golden = bundle.info.golden
    assert golden is not None
    assert {name: frames.shape for name, frames in golden.inputs.items()} == {
        "spectrum": (8, 1, 2, 1, 97, 2),
        "far_end": (8, 1, 1, 1, 97, 2),
        "voice": (8, 1, 3),
    }
    assert golden_error(open_engine(bundle, engine), golden) <= golden.tolerance


def test_a_reference_that_is_no_spectrum_is_refused(tmp_path):
    model = Listens()
    model.extra_inputs = (Port("far_end", "reference", (1, 1, 1, 128, 2)), Listens.extra_inputs[1])
    with pytest.raises(ExportError, match=r"input 'far_end' of Listens has the role 'reference' and the shape"):
        export_bundle(model, tmp_path / "x.onnx", name="x", license="CC0-1.0")
    assert list(tmp_path.iterdir()) == []
