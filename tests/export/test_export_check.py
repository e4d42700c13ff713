"""What a model may do with its state, and what is refused before anything is traced."""

import numpy as np
import pytest
import torch
from torch import nn

from hearloop.export import ExportError, export_bundle
from hearloop.runtime.bundle import load_bundle
from hearloop.runtime.bundle_info import Port
from hearloop.runtime.engine import open_engine
from hearloop.runtime.errors import BundleError

FRAME = 8


class OnSamples(nn.Module):
    """The least that can be exported: a leaky sum of frames of samples."""

    task, window, channels_in, channels_out, frame, lookahead = "enhance", None, 1, 1, FRAME, 0

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(FRAME, FRAME)

    def initial_state(self, batch):
        return {"sum": torch.zeros(batch, 1, 1, FRAME)}

    def forward(self, audio, state):
        total, outputs = state["sum"], []
        for frame in audio.split(1, dim=2):
            total = 0.5 * total + self.heard(frame)
            outputs.append(total)
        return torch.cat(outputs, dim=2), {"sum": total}

    def heard(self, frame):
        return torch.tanh(self.linear(frame))


class HandsOn(OnSamples):
    """Gives what came two frames before; nothing is computed, and the next state is in another order."""

    def initial_state(self, batch):
        filled = {"last": 0.25, "before": -1.0, "kept": 3.0}
        return {name: torch.full((batch, 1, 1, FRAME), value) for name, value in filled.items()}

    def forward(self, audio, state):
        last, before, outputs = state["last"], state["before"], []
        for frame in audio.split(1, dim=2):
            outputs.append(before)
            last, before = frame, last
        given = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)
        return given, {"kept": state["kept"], "before": before, "last": last}


class FillsATable(OnSamples):
    """Makes a table when it first runs."""

    table = None

    def heard(self, frame):
        if self.table is None:
            self.table = torch.linspace(0, 1, FRAME)
        return super().heard(frame) * self.table


def exported(model, path):
    export_bundle(model, path / "model.onnx", name="model", license="CC0-1.0")
    return load_bundle(path / "model.onnx")


@pytest.mark.parametrize("engine", ["ort", "compiled"])
def test_a_state_may_be_an_earlier_one_or_the_input_and_begin_with_any_value(engine, tmp_path):
    bundle = exported(HandsOn(), tmp_path)
    assert [(state.name, state.initial) for state in bundle.info.states] == [
        ("state.last", 0.25),
        ("state.before", -1.0),
        ("state.kept", 3.0),
    ]
    running = open_engine(bundle, engine)
    frames = np.random.default_rng(0).standard_normal((4, 1, 1, 1, FRAME)).astype(np.float32)
    found = [running.step({"audio": frame})["enhanced"].copy() for frame in frames]
    np.testing.assert_array_equal(np.stack(found[:2])[:, 0, 0, 0], np.repeat([[-1.0], [0.25]], FRAME, axis=1))
    np.testing.assert_array_equal(np.stack(found[2:]), frames[:2])


def test_what_a_model_makes_when_it_first_runs_is_there_before_it_is_traced(tmp_path):
    model = FillsATable()
    assert exported(model, tmp_path).info.states[0].name == "state.sum"
    assert model.table is None


def with_state(**state):
    model = OnSamples()
    model.initial_state = lambda batch: {"sum": torch.zeros(batch, 1, 1, FRAME), **state}
    return model


def with_inputs(*ports):
    model = OnSamples()
    model.extra_inputs = ports
    return model


def weight_normed():
    model = OnSamples()
    nn.utils.weight_norm(model.linear)
    model(torch.randn(1, 1, 1, FRAME), model.initial_state(1))
    return model


class Grows(OnSamples):
    def forward(self, audio, state):
        given, following = super().forward(audio, state)
        return given, {"sum": torch.cat([following["sum"], given], dim=2)}


class Forgets(OnSamples):
    def forward(self, audio, state):
        return super().forward(audio, state)[0], {"total": state["sum"]}


class GivesMore(OnSamples):
    channels_out = 2


REFUSED = {
    "no attributes": (nn.Identity, r"Identity has no task, window, channels_in, .* frame, lookahead"),
    "double precision": (lambda: OnSamples().double(), r"parameter 'linear.weight' of OnSamples is torch.float64"),
    "a count in the state": (lambda: with_state(n=torch.zeros(1, dtype=torch.int64)), r"state 'n' .* is torch.int64"),
    "a number in the state": (lambda: with_state(n=0), r"cannot run one frame \(TypeError"),
    "an empty state": (lambda: with_state(n=torch.zeros(1, 0)), r"state 'n' .* of shape \[1, 0\]"),
    "a state of many values": (lambda: with_state(n=torch.arange(3.0)), r"state 'n' .* begins with values from 0 to 2"),
    "a state that begins infinite": (lambda: with_state(n=torch.full((1,), -torch.inf)), r"expected one finite value"),
    "a state that grows": (Grows, r"gives 'state.sum.next' as torch.float32 of shape \[1, 1, 2, 8\]"),
    "a state of another name": (Forgets, r"the next state has the tensors \['total'\], the initial state \['sum'\]"),
    "fewer channels than it says": (GivesMore, r"gives 'enhanced' .* expected torch.float32 of shape \[1, 2, 1, 8\]"),
    "two inputs of one name": (lambda: with_inputs(Port("audio", "embedding", (1, 3))), r"more than one .* 'audio'"),
    "a port without channels": (lambda: with_inputs(Port("far", "reference", (1,))), r"cannot run one frame \(IndexEr"),
    "an old weight norm": (weight_normed, r"cannot be copied .* torch.nn.utils.remove_weight_norm"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
def test_a_model_that_has_no_step_is_refused_by_what_is_wrong_with_it(name, tmp_path, monkeypatch):
    monkeypatch.setattr("hearloop.export.bundle.export_graph", lambda model: pytest.fail("traced"))
    make, named = REFUSED[name]
    with pytest.raises(ExportError, match=named):
        export_bundle(make(), tmp_path / "x.onnx", name="x", license="CC0-1.0")
    assert list(tmp_path.iterdir()) == []


class Hesitates(OnSamples):
    def heard(self, frame):
        return super().heard(frame) if frame.abs().max() > 0.5 else frame


def test_what_the_exporter_cannot_do_is_said_in_its_own_words(tmp_path):
    with pytest.raises(ExportError, match=r"Hesitates cannot be exported: .*[Dd]ata-dependent"):
        export_bundle(Hesitates(), tmp_path / "x.onnx", name="x", license="CC0-1.0")


@pytest.mark.parametrize(
    ("facts", "key"),
    [
        ({"training": {"hours": np.float32(3)}}, "training.hours"),
        ({"training": {"data": {"folder": torch.ones(1)}}}, "training.data.folder"),
        ({"quality": [{"test": "t", "pesq_wb": float("nan")}]}, "quality.0.pesq_wb"),
        ({"comment": "half of \ud83c"}, "comment"),
    ],
)
def test_facts_that_are_no_plain_json_are_named_before_the_work(facts, key, tmp_path, monkeypatch):
    monkeypatch.setattr("hearloop.export.bundle.checked_copy", lambda model: pytest.fail("begun"))
    with pytest.raises(BundleError, match=f"key '{key}' is .*, expected plain JSON"):
        export_bundle(OnSamples(), tmp_path / "x.onnx", name="x", license="CC0-1.0", **facts)
