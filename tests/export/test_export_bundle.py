"""From a model to a file that the runtime runs, and never a file that computes something else."""

import os
import re

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from hearloop.export import ExportError, export_bundle
from hearloop.export.onnx import export_graph
from hearloop.export.verify import excitation_inputs, verify
from hearloop.models import build
from hearloop.models.frontend import Stft
from hearloop.models.streaming.attention import WindowAttention
from hearloop.models.streaming.compose import Chain, Residual
from hearloop.models.streaming.conv1d import CausalConv1d
from hearloop.models.streaming.conv2d import CausalConv2d
from hearloop.models.streaming.norm import FrameNorm, RunningNorm
from hearloop.models.streaming.recurrent import FrequencyGRU, FrequencyLSTM, TimeGRU, TimeLSTM
from hearloop.models.streaming.transposed import CausalConvTranspose2d
from hearloop.runtime.bundle import load_bundle
from hearloop.runtime.engine import open_engine
from hearloop.runtime.errors import BundleError
from hearloop.runtime.golden import golden_error

BINS = 97


class SpectrumModel(nn.Module):
    """What an exportable model has, around a layer that maps [B, 2, T, 97] to the same shape."""

    task, window, channels_in, channels_out = "enhance", "symmetric-192", 1, 1

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def initial_state(self, batch):
        return self.layer.initial_state(batch)

    def forward(self, spectrum, state):
        y, state = self.layer(spectrum.squeeze(1).permute(0, 3, 1, 2), state)
        return y.permute(0, 2, 3, 1).unsqueeze(1), state


class ChannelsLast(nn.Module):
    """A layer over [B, T, F, C] in a chain of layers over [B, C, T, F]."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = Chain(layer)

    def initial_state(self, batch):
        return self.layer.initial_state(batch)

    def forward(self, x, state):
        y, state = self.layer(x.permute(0, 2, 3, 1), state)
        return y.permute(0, 3, 1, 2), state


class AcrossBands(nn.Module):
    """A layer over [B, C, T] that treats the bands as channels."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def initial_state(self, batch):
        return self.layer.initial_state(batch)

    def forward(self, x, state):
        y, state = self.layer(x.transpose(2, 3).flatten(1, 2), state)
        return y.unflatten(1, (2, -1)).transpose(2, 3), state


class OnFewerBands(Chain):
    """A layer at an eighth of the bands: the exporter unrolls recurrences while it traces, which takes its time."""

    def __init__(self, layer: nn.Module):
        down = CausalConv2d(2, 2, (1, 8), BINS, stride=8)
        super().__init__(down, layer, CausalConvTranspose2d(2, 2, (1, 8), 12, stride=8, extra=1))


LAYERS = {
    "conv 1-D": lambda: AcrossBands(CausalConv1d(2 * BINS, 2 * BINS, 3, dilation=2)),
    "conv 2-D": lambda: Chain(CausalConv2d(2, 2, (3, 3), BINS, dilation=2, padding=1, groups=2), nn.PReLU()),
    "conv without past": lambda: Chain(CausalConv2d(2, 2, (1, 3), BINS, padding=1)),
    "there and back": lambda: Chain(
        CausalConv2d(2, 6, (2, 4), BINS, stride=3, padding=1),
        nn.BatchNorm2d(6),
        nn.PReLU(6),
        CausalConvTranspose2d(6, 2, (2, 4), 32, stride=3, padding=1, extra=2),
    ),
    "GRU over time": lambda: ChannelsLast(TimeGRU(2, 2, BINS)),
    "LSTM over time": lambda: ChannelsLast(TimeLSTM(2, 2, BINS)),
    "GRU over frequency": lambda: OnFewerBands(ChannelsLast(FrequencyGRU(2, 1))),
    "LSTM over frequency": lambda: OnFewerBands(ChannelsLast(FrequencyLSTM(2, 1))),
    "frame norm": lambda: Residual(Chain(FrameNorm(2, BINS))),
    "running norm": lambda: Residual(RunningNorm(2, 50.0)),
    "attention": lambda: Residual(ChannelsLast(WindowAttention(2, 1, window=10, bands=BINS))),
}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(4)
    model = build("enhance-small").train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        for _ in range(3):
            model(excitation_inputs(model, 40)["spectrum"], model.initial_state(1))
    return model.eval()


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("bundle") / "example.onnx"
    facts = {"training": {"hours": 2}, "quality": [{"test": "fixed", "pesq_wb": 1.9}], "comment": "a test"}
    export_bundle(model, path, name="example", license="CC0-1.0", **facts)
    return path


def test_the_runtime_gives_frame_by_frame_what_pytorch_gives_at_once(model, exported):
    spectrum = excitation_inputs(model, 300)["spectrum"]
    with torch.no_grad():
        expected, _ = model(spectrum, model.initial_state(1))
    assert (expected - spectrum).abs().max() > 0.05 * spectrum.abs().max()
    engine = open_engine(exported)
    for frame in range(300):
        engine.inputs["spectrum"][:] = spectrum[:, :, [frame]].numpy()
        engine.step()
        error = np.abs(engine.outputs["enhanced"] - expected[:, :, [frame]].numpy()).max()
        assert error <= 1e-4 * expected.abs().max(), f"frame {frame}"


def test_the_bundle_says_what_the_model_is(model, exported):
    info = load_bundle(exported).info
    assert (info.name, info.license, info.comment) == ("example", "CC0-1.0", "a test")
    assert (info.task, info.window, info.latency_samples) == ("enhance", "asymmetric-512-192", 192)
    assert info.training == {"hours": 2}
    assert info.quality == ({"test": "fixed", "pesq_wb": 1.9},)
    assert info.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert [state.name for state in info.states][:3] == ["state.level.sum", "state.level.weight", "state.encoder.0"]


def test_the_first_model_keeps_to_its_budget(exported):
    info = load_bundle(exported).info
    assert 300_000 < info.macs_per_frame <= 480_000
    assert 20_000 <= info.parameters <= 60_000


def test_golden_frames_hold_sound_jumps_and_are_reproduced(exported):
    bundle = load_bundle(exported)
    golden = bundle.info.golden
    assert golden.frames == 8
    energy = np.square(golden.inputs["spectrum"]).sum(axis=(1, 2, 3, 4, 5))
    assert energy.max() > 10 * energy[energy > 0].min()
    assert golden_error(open_engine(bundle), golden) <= golden.tolerance


def test_the_graph_is_plain_and_knows_nothing_of_the_machine_it_was_made_on(exported):
    graph = onnx.load(exported).graph
    assert not {node.op_type for node in graph.node} & {"Shape", "Gather", "Constant", "Identity", "If", "Loop", "Cast"}
    assert {node.domain for node in graph.node} <= {"", "ai.onnx"}
    assert len(graph.node) <= 90
    texts = re.findall(rb"[ -~]{6,}", exported.read_bytes())
    assert not [text for text in texts if b".py" in text or os.getcwd().encode() in text]


def test_the_model_given_is_left_as_it_was(tmp_path):
    trained = SpectrumModel(LAYERS["there and back"]()).train()
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    export_bundle(trained, tmp_path / "x.onnx", name="x", license="CC0-1.0")
    assert trained.training
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())


@pytest.mark.parametrize("name", LAYERS)
def test_every_streaming_layer_can_be_exported(name):
    torch.manual_seed(2)
    model = SpectrumModel(LAYERS[name]())
    with torch.no_grad():
        model.train()(excitation_inputs(model, 30)["spectrum"], model.initial_state(1))
    graph = export_graph(model.eval())
    assert verify(model, graph) <= 1e-5
    assert not {node.op_type for node in graph.graph.node} & {"Shape", "Gather", "Expand", "If", "Loop"}


class Forgetful(SpectrumModel):
    """Counts the frames in an attribute, so its output depends on how often it was called before."""

    def __init__(self):
        super().__init__(Chain(CausalConv2d(2, 2, (2, 1), BINS)))
        self.calls = 0

    def forward(self, spectrum, state):
        self.calls += 1
        y, state = super().forward(spectrum, state)
        return y * self.calls, state


class SeesTheFuture(SpectrumModel):
    """Subtracts the mean over all frames of the call: one thing in training, another on the device."""

    def __init__(self):
        super().__init__(Chain(CausalConv2d(2, 2, (2, 1), BINS)))

    def forward(self, spectrum, state):
        return super().forward(spectrum - spectrum.mean(dim=2, keepdim=True), state)


class Diverges(SpectrumModel):
    """Doubles its state in every frame, so that it leaves the range of float32 after 128 frames."""

    def __init__(self):
        super().__init__(nn.Identity())

    def initial_state(self, batch):
        return {"growing": torch.zeros(batch, 1)}

    def forward(self, spectrum, state):
        outputs, growing = [], state["growing"]
        for frame in spectrum.split(1, dim=2):
            growing = 2 * growing + 1
            outputs.append(frame + growing[:, :, None, None, None])
        return torch.cat(outputs, dim=2), {"growing": growing}


class LosesItsState(SpectrumModel):
    """Returns a state that is not the one it takes."""

    def __init__(self):
        super().__init__(Chain(CausalConv2d(2, 2, (2, 1), BINS)))

    def forward(self, spectrum, state):
        return super().forward(spectrum, state)[0], {}


@pytest.mark.parametrize("broken", [Forgetful, SeesTheFuture, Diverges, LosesItsState])
def test_a_model_whose_graph_computes_something_else_is_refused_and_writes_nothing(broken, tmp_path):
    torch.manual_seed(0)
    with pytest.raises(ExportError):
        export_bundle(broken(), tmp_path / "broken.onnx", name="broken", license="CC0-1.0")
    assert list(tmp_path.iterdir()) == []


def test_a_failing_export_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"the old one")
    with pytest.raises(ExportError):
        export_bundle(SeesTheFuture(), path, name="model", license="CC0-1.0")
    assert path.read_bytes() == b"the old one"
    assert list(tmp_path.iterdir()) == [path]


def test_a_description_that_would_not_load_is_refused_and_writes_nothing(tmp_path):
    model = SpectrumModel(LAYERS["conv without past"]())
    with pytest.raises(BundleError, match="key 'name' is 7, expected a text"):
        export_bundle(model, tmp_path / "x.onnx", name=7, license="CC0-1.0")
    assert list(tmp_path.iterdir()) == []


def test_the_error_of_a_refused_graph_tells_where_and_how_much():
    torch.manual_seed(0)
    model = SpectrumModel(Chain(CausalConv2d(2, 2, (2, 1), BINS))).eval()
    graph = export_graph(model)
    model.layer[0].conv.weight.data += 0.01
    with pytest.raises(
        ExportError,
        match=r"differs from SpectrumModel run over all frames at once: relative error \d.* in frame \d+ of 250",
    ):
        verify(model, graph)


def test_the_test_signal_has_voice_silence_and_jumps():
    model = SpectrumModel(Chain())
    spectrum = excitation_inputs(model, 250)["spectrum"]
    assert spectrum.shape == (1, 1, 250, Stft(model.window).bins, 2)
    level_db = 10 * torch.log10(spectrum.square().sum((-1, -2))[0, 0] + 1e-12)
    assert (level_db == -120).sum() >= 10
    audible = level_db[level_db > -120]
    assert audible.max() - audible.min() > 40
