"""Count the multiply-accumulate operations of one step."""

import math

import onnx
import onnx.inliner

from ..runtime.errors import HearloopError


def macs_per_step(model: onnx.ModelProto) -> int:
    """Multiply-accumulates of the matrix products, convolutions and recurrent layers of one step.

    Element-wise operations, norms and activations are not counted, as is the custom of the field.

    Parameters
    ----------
    model : ModelProto
        With static shapes.

    Raises
    ------
    HearloopError
        If a function in the graph hides its operations or a shape is unknown.
    """
    graph = onnx.shape_inference.infer_shapes(onnx.inliner.inline_local_functions(model)).graph
    shapes = {item.name: tuple(item.dims) for item in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        shapes[value.name] = tuple(size.dim_value for size in value.type.tensor_type.shape.dim)
    return sum(_node_macs(node, shapes) for node in graph.node)


def _node_macs(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    if node.op_type not in _RULES:
        return 0
    names = [name for name in (*node.input, *node.output) if name]
    for name in names:
        if name not in shapes or 0 in shapes[name]:
            raise HearloopError(f"node {node.name!r} ({node.op_type}): the shape of {name!r} is not known")
    attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    return _RULES[node.op_type](
        [shapes[name] if name else () for name in node.input], shapes[next(filter(None, node.output))], attributes
    )


def _matmul(inputs: list[tuple[int, ...]], output: tuple[int, ...], attributes: dict) -> int:
    return math.prod(output) * inputs[0][-1]


def _gemm(inputs: list[tuple[int, ...]], output: tuple[int, ...], attributes: dict) -> int:
    return math.prod(output) * inputs[0][0 if attributes.get("transA") else 1]


def _conv(inputs: list[tuple[int, ...]], output: tuple[int, ...], attributes: dict) -> int:
    # Each output value sums over the kernel: weight shape is (out, in / groups, *kernel).
    return math.prod(output) * math.prod(inputs[1][1:])


def _conv_transpose(inputs: list[tuple[int, ...]], output: tuple[int, ...], attributes: dict) -> int:
    # Each input value is spread over the kernel: weight shape is (in, out / groups, *kernel).
    return math.prod(inputs[0]) * math.prod(inputs[1][1:])


def _recurrent(inputs: list[tuple[int, ...]], output: tuple[int, ...], attributes: dict) -> int:
    # Per sequence entry and direction: gates x hidden rows of the input and of the recurrent matrix.
    layout = attributes.get("layout", 0)
    length, batch = (inputs[0][1], inputs[0][0]) if layout else inputs[0][:2]
    return length * batch * (math.prod(inputs[1]) + math.prod(inputs[2]))


_RULES = {
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "GRU": _recurrent,
    "LSTM": _recurrent,
    "RNN": _recurrent,
}
