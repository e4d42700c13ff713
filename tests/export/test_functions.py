"""The functions of the domain `hearloop`: their bodies compute what the layers of PyTorch compute."""

import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from hearloop.export.functions import FUNCTIONS
from hearloop.export.macs import macs_per_step
from hearloop.export.onnx import export_graph
from hearloop.models import build
from hearloop.models.streaming.conv2d import CausalConv2d
from hearloop.models.streaming.scan import selective_scan


def run(name, inputs, **attributes):
    """One function on these tensors, in ONNX Runtime."""
    function = FUNCTIONS[name].to_function_proto()
    feeds = dict(zip(function.input, (value.numpy() for value in inputs), strict=True))
    node = onnx.helper.make_node(name, function.input, function.output, domain="hearloop", **attributes)
    ports = [onnx.helper.make_tensor_value_info(key, 1, value.shape) for key, value in feeds.items()]
    results = [onnx.helper.make_tensor_value_info(key, 1, None) for key in function.output]
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "one", ports, results),
        functions=[FUNCTIONS[used].to_function_proto() for used in sorted({name, "RingPush"})],
        opset_imports=[onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("hearloop", 1)],
        ir_version=10,
    )
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return [torch.from_numpy(value) for value in session.run(None, feeds)]


def scan_inputs(length: int) -> list[torch.Tensor]:
    """For 2 sequences, 3 heads of 4 channels, 5 states."""
    random = torch.Generator().manual_seed(length)
    shapes = ((2, length, 3, 4), (2, length, 3), (3,), (2, length, 5), (2, length, 5), (3,), (2, 3, 5, 4))
    values = [torch.randn(shape, generator=random, dtype=torch.float64) for shape in shapes]
    values[1], values[2] = values[1].abs(), -4 * values[2].abs()
    return values


def recurrence(x, dt, a, b, c, d, h):
    """The definition, entry by entry."""
    outputs = []
    for now in range(x.shape[1]):
        entered = b[:, now, None, :, None] * (dt[:, now, :, None] * x[:, now]).unsqueeze(2)
        h = (dt[:, now] * a).exp()[..., None, None] * h + entered
        outputs.append((h * c[:, now, None, :, None]).sum(2) + d[:, None] * x[:, now])
    return torch.stack(outputs, 1), h


@pytest.mark.parametrize("length", [1, 7, 32, 100])
def test_a_selective_scan_is_its_recurrence_in_pytorch_and_in_onnx(length):
    inputs = scan_inputs(length)
    expected = recurrence(*inputs)
    found = selective_scan(*inputs)
    in_onnx = run("SelectiveScan", [value.float() for value in inputs])
    for each, other, wanted in zip(found, in_onnx, expected, strict=True):
        torch.testing.assert_close(each, wanted)
        torch.testing.assert_close(other, wanted.float(), rtol=1e-4, atol=1e-5)


def test_the_gradient_of_a_selective_scan_is_that_of_its_recurrence():
    inputs = [value.requires_grad_() for value in scan_inputs(40)]
    for found, expected in zip(
        torch.autograd.grad(sum(value.square().sum() for value in selective_scan(*inputs)), inputs),
        torch.autograd.grad(sum(value.square().sum() for value in recurrence(*inputs)), inputs),
        strict=True,
    ):
        torch.testing.assert_close(found, expected)


def test_a_decay_that_leaves_nothing_is_no_overflow():
    inputs = [value.float() for value in scan_inputs(50)]
    inputs[2] = torch.tensor([-100.0, -1e-6, -1.0])
    expected = recurrence(*(value.double() for value in inputs))
    for found in (selective_scan(*inputs), run("SelectiveScan", inputs)):
        for each, wanted in zip(found, expected, strict=True):
            torch.testing.assert_close(each, wanted.float(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("kernel", "dilation"), [(2, 1), (2, 4), (3, 2)])
def test_a_dilated_history_gives_a_convolution_the_frames_it_sees(kernel, dilation):
    torch.manual_seed(0)
    layer = CausalConv2d(2, 3, (kernel, 1), 4, dilation=dilation)
    memory, plain = layer.initial_state(1), nn.functional.conv2d
    for frame in torch.randn(10, 1, 2, 1, 4):
        taps, following = run("DilatedHistory", (memory, frame), axis=2, dilation=dilation)
        with torch.no_grad():
            expected, memory = layer(frame, memory)
            torch.testing.assert_close(plain(taps, layer.conv.weight, layer.conv.bias), expected)
        assert torch.equal(following, memory)


def test_a_ring_push_keeps_the_newest():
    memory, new = torch.arange(8.0).reshape(1, 4, 2), torch.tensor([[[8.0, 9.0]]])
    window, following = run("RingPush", (memory, new), axis=1)
    assert torch.equal(window, torch.arange(10.0).reshape(1, 5, 2))
    assert torch.equal(following, torch.arange(2.0, 10.0).reshape(1, 4, 2))


def test_a_model_with_state_space_layers_keeps_its_scans_as_functions():
    graph = export_graph(build("enhance-mamba-small", channels=8, blocks=2, depth=1, memory=4, heads=2).eval())
    scans = [node for node in graph.graph.node if node.op_type == "SelectiveScan"]
    assert len(scans) == 2 * 3  # per block one along time, two along frequency
    assert {(function.domain, function.name) for function in graph.functions} == {("hearloop", "SelectiveScan")}
    assert macs_per_step(graph) > 0
