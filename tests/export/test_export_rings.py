"""States of the kind "ring": the step gives the new entry, the engine writes it over the oldest."""

import json

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from hearloop.export import ExportError, export_bundle
from hearloop.export.onnx import export_graph
from hearloop.export.verify import excitation_inputs
from hearloop.models.streaming.attention import WindowAttention
from hearloop.models.streaming.frame_attention import FrameAttention
from hearloop.models.streaming.state import Rings
from hearloop.runtime.bundle import load_bundle
from hearloop.runtime.engine import open_engine
from hearloop.runtime.errors import BundleError, HearloopError
from hearloop.runtime.load import load_step

FRAMES = 60
WINDOW = 7


class Attends(nn.Module):
    """An exportable model around a layer over [B, T, F, C]."""

    task, window, channels_in, channels_out = "enhance", "symmetric-192", 1, 1

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def initial_state(self, batch):
        return {"memory": self.layer.initial_state(batch)}

    def forward(self, spectrum, state):
        y, memory = self.layer(spectrum[:, 0], state["memory"])
        return (spectrum[:, 0] + y).unsqueeze(1), {"memory": memory}


class SumsTheMemory(nn.Module):
    """The sum of the present and the last frames, each weighed by its age or all alike."""

    def __init__(self, weights, oldest: int = 1):
        super().__init__()
        self.oldest = oldest
        self.register_buffer("weights", torch.tensor(weights)[:, None, None])

    def initial_state(self, batch):
        return Rings(past=torch.zeros(batch, len(self.weights) - 1, 97, 2))

    def forward(self, x, state):
        slots = len(self.weights)
        together = torch.cat([state["past"], x], dim=1)
        sums = [(together[:, at : at + slots] * self.weights).sum(1) for at in range(x.shape[1])]
        kept = together[:, x.shape[1] :] if self.oldest else together[:, x.shape[1] - 1 : -1]
        return torch.stack(sums, dim=1), {"past": kept}


LAYERS = {
    "past and present joined": lambda: WindowAttention(2, 1, WINDOW, bands=97),
    "past and present apart": lambda: FrameAttention(2, 2, WINDOW, bands=97, query=2),
}


@pytest.fixture(scope="module", params=LAYERS)
def model(request) -> nn.Module:
    torch.manual_seed(3)
    return Attends(LAYERS[request.param]()).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def bundle(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("rings") / "attends.onnx"
    export_bundle(model, path, name="attends", license="CC0-1.0")
    return load_bundle(path)


def run(engine, spectrum: torch.Tensor) -> np.ndarray:
    return np.concatenate([engine.step({"spectrum": frame.numpy()})["enhanced"] for frame in spectrum.split(1, 2)], 2)


def test_the_step_gives_one_entry_and_never_shifts_the_memory(bundle):
    rings = [state for state in bundle.info.states if state.kind == "ring"]
    assert {state.name for state in rings} >= {"state.memory.key", "state.memory.value"}
    graph = onnx.load_model_from_string(bundle.model).graph
    sizes = {item.name: [size.dim_value for size in item.type.tensor_type.shape.dim] for item in graph.output}
    for state in rings:
        assert state.shape[state.axis] == WINDOW
        assert sizes[state.next] == [1 if axis == state.axis else size for axis, size in enumerate(state.shape)]


@pytest.mark.parametrize("engine", ["ort", "compiled"])
def test_each_engine_gives_what_pytorch_gives_long_after_the_memory_is_full(model, bundle, engine):
    spectrum = excitation_inputs(model, FRAMES)["spectrum"]
    expected = model(spectrum, model.initial_state(1))[0].numpy()
    assert np.abs(run(open_engine(bundle, engine), spectrum) - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("engine", ["ort", "compiled"])
def test_without_rings_the_step_gives_whole_memories_and_the_same_sound(model, tmp_path, engine):
    path = tmp_path / "whole.onnx"
    onnx.save(export_graph(model, rings=False), path)
    running = open_engine(load_step(path), engine)
    assert all(state.kind == "carry" for state in running.info.states)
    spectrum = excitation_inputs(model, FRAMES)["spectrum"]
    expected = model(spectrum, model.initial_state(1))[0].numpy()
    assert np.abs(run(running, spectrum) - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(("first", "second"), [("ort", "compiled"), ("compiled", "ort"), ("ort", "ort")])
@pytest.mark.parametrize("frames", [3, WINDOW, 2 * WINDOW + 3])
def test_a_saved_state_has_the_oldest_entry_first_and_continues_in_any_engine(model, bundle, first, second, frames):
    spectrum = excitation_inputs(model, FRAMES)["spectrum"]
    expected, _ = model(spectrum, model.initial_state(1))
    _, state = model(spectrum[:, :, :frames], model.initial_state(1))
    begins, goes_on = open_engine(bundle, first), open_engine(bundle, second)
    run(goes_on, spectrum[:, :, 20:25])  # its own past must be gone
    run(begins, spectrum[:, :, :frames])
    saved = begins.save_state()
    key = state["memory"]["key"].numpy()
    np.testing.assert_allclose(saved["state.memory.key"], key, atol=1e-5 * np.abs(key).max())
    goes_on.load_state(saved)
    found = run(goes_on, spectrum[:, :, frames:])
    rest = expected[:, :, frames:].numpy()
    assert np.abs(found - rest).max() <= 1e-5 * np.abs(rest).max()


@pytest.mark.parametrize("engine", ["ort", "compiled"])
def test_a_reset_forgets_all_entries(model, bundle, engine):
    spectrum = excitation_inputs(model, 20)["spectrum"]
    running = open_engine(bundle, engine)
    before = run(running, spectrum)
    running.reset()
    np.testing.assert_array_equal(run(running, spectrum), before)


def test_the_compiler_lets_the_window_move_instead_of_the_memory(bundle):
    plan = open_engine(bundle, "compiled").compiled.plan
    placed = {state["name"]: (state["placed"], state["rings"]) for state in plan["states"]}
    for name in ("state.memory.key", "state.memory.value"):
        assert placed[name] == ("ring", [[WINDOW + 1, 1]])


def test_a_layer_that_cares_about_the_order_is_no_ring(tmp_path):
    export_bundle(Attends(SumsTheMemory([0.2] * 5)), tmp_path / "fine.onnx", name="fine", license="CC0-1.0")
    with pytest.raises(ExportError, match="the exported graph differs"):
        export_bundle(
            Attends(SumsTheMemory([0.1, 0.2, 0.3, 0.4, 0.5])), tmp_path / "x.onnx", name="x", license="CC0-1.0"
        )


def test_a_memory_that_does_not_drop_its_oldest_entry_is_no_ring(tmp_path):
    with pytest.raises(HearloopError, match=r"'state.memory.past' is to be a ring, but its next value"):
        export_bundle(Attends(SumsTheMemory([0.2] * 5, oldest=0)), tmp_path / "x.onnx", name="x", license="CC0-1.0")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"axis": 9}, r"axis' is 9, expected an axis of the shape"),
        ({"axis": None}, r"axis' is None, expected a whole number"),
        ({"axis": 0}, r"output 'state.memory.key.next' has shape"),
        ({"kind": "carry", "axis": None}, r"output 'state.memory.key.next' has shape"),
        ({"kind": "shelf"}, r"kind' is 'shelf', expected one of carry, ring"),
    ],
)
def test_a_wrong_description_of_a_ring_is_named(bundle, tmp_path, changes, named):
    model = onnx.load_model_from_string(bundle.model)
    entries = {item.key: item for item in model.metadata_props}
    content = json.loads(entries["hearloop"].value)
    index = [state["name"] for state in content["states"]].index("state.memory.key")
    content["states"][index] |= changes
    entries["hearloop"].value = json.dumps(content)
    onnx.save(model, tmp_path / "changed.onnx")
    with pytest.raises(BundleError, match=named):
        load_bundle(tmp_path / "changed.onnx")
