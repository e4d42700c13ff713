"""Multiply-accumulates, counted on the graph, against counts by hand."""

import pytest
import torch
from onnx import TensorProto, helper
from torch.utils.flop_counter import FlopCounterMode

from hearloop.export.macs import macs_per_step
from hearloop.export.onnx import export_graph
from hearloop.models import build
from hearloop.runtime.errors import HearloopError


def graph_of(node, **shapes: tuple[int, ...]):
    """A model of one node; the entry `y` is its output, the others are its inputs."""
    values = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()}
    output = values.pop("y")
    graph = helper.make_graph([node], "one", list(values.values()), [output])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize(
    ("node", "shapes", "macs"),
    [
        (helper.make_node("MatMul", ["a", "b"], ["y"]), {"a": (1, 4, 7), "b": (7, 3), "y": (1, 4, 3)}, 4 * 7 * 3),
        (helper.make_node("Gemm", ["a", "b"], ["y"], transA=1), {"a": (7, 4), "b": (7, 3), "y": (4, 3)}, 4 * 7 * 3),
        (
            helper.make_node("Conv", ["x", "w"], ["y"], group=2, kernel_shape=[3, 3], pads=[0, 1, 0, 1]),
            {"x": (1, 4, 3, 10), "w": (6, 2, 3, 3), "y": (1, 6, 1, 10)},
            60 * 2 * 9,
        ),
        (
            helper.make_node("ConvTranspose", ["x", "w"], ["y"], kernel_shape=[1, 4], strides=[1, 2]),
            {"x": (1, 4, 1, 10), "w": (4, 2, 1, 4), "y": (1, 2, 1, 22)},
            40 * 2 * 4,
        ),
        (
            helper.make_node("GRU", ["x", "w", "r"], ["y"], hidden_size=6, direction="bidirectional"),
            {"x": (5, 2, 4), "w": (2, 18, 4), "r": (2, 18, 6), "y": (5, 2, 2, 6)},
            5 * 2 * 2 * 3 * 6 * (4 + 6),
        ),
        (
            helper.make_node("LSTM", ["x", "w", "r"], ["", "y"], hidden_size=6),
            {"x": (5, 2, 4), "w": (1, 24, 4), "r": (1, 24, 6), "y": (1, 2, 6)},
            5 * 2 * 4 * 6 * (4 + 6),
        ),
        (helper.make_node("Tanh", ["x"], ["y"]), {"x": (3, 3), "y": (3, 3)}, 0),
    ],
    ids=lambda value: value.op_type if hasattr(value, "op_type") else "",
)
def test_each_operation_is_counted_as_its_definition_says(node, shapes, macs):
    assert macs_per_step(graph_of(node, **shapes)) == macs


def test_the_count_of_the_first_model_is_that_of_pytorch():
    model = build("enhance-small").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.randn(1, 1, 1, 257, 2), model.initial_state(1))
    assert macs_per_step(export_graph(model)) == counter.get_total_flops() / 2


def test_a_shape_that_is_not_known_is_refused():
    node = helper.make_node("MatMul", ["a", "b"], ["y"])
    with pytest.raises(HearloopError, match=r"MatMul.*'a' is not known"):
        macs_per_step(graph_of(node, a=("n", 7), b=(7, 3), y=("n", 3)))
