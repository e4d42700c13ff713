"""Make a static graph smaller: fewer nodes, because their number decides the time of a small step.

Most of what a tracer leaves between the layers of a one-frame step only renames axes: a transposition of axes of
length one, a squeeze, a reshape, a slice that takes everything. None moves a value, so a chain of them is one Reshape,
or nothing.
"""

from collections import Counter

import numpy as np
import onnx
from onnx import helper, numpy_helper

Shape = tuple[int, ...]


def simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return an equivalent model without nodes that only rename axes, unused values and notes of the tracer.

    Raises
    ------
    ValueError
        If the shape of a value is not static.
    """
    model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    shapes = _shapes(model.graph)
    constants = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    nodes = _without_views(list(model.graph.node), shapes, constants, {item.name for item in model.graph.output})
    nodes, constants = _without_unused(nodes, constants, {item.name for item in model.graph.output})
    return _rebuild(model, nodes, constants)


def _shapes(graph: onnx.GraphProto) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {item.name: tuple(item.dims) for item in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        dimensions = value.type.tensor_type.shape.dim
        if not all(dimension.HasField("dim_value") for dimension in dimensions):
            raise ValueError(f"the shape of {value.name!r} is not static")
        shapes[value.name] = tuple(dimension.dim_value for dimension in dimensions)
    return shapes


def _is_view(node: onnx.NodeProto, shapes: dict[str, Shape], constants: dict[str, np.ndarray]) -> bool:
    """Whether the output holds the same values in the same order as the first input."""
    if node.op_type in ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"):
        return True
    if node.op_type == "Slice" and len(node.input) > 4 and not _forward(node.input[4], constants):
        return False  # a reversal
    if node.op_type in ("Slice", "Expand") or (node.op_type == "Concat" and len(node.input) == 1):
        return shapes[node.input[0]] == shapes[node.output[0]]
    if node.op_type == "Split" and len(node.output) == 1:
        return True
    if node.op_type == "Transpose":
        shape = shapes[node.input[0]]
        order = next((list(item.ints) for item in node.attribute if item.name == "perm"), list(range(len(shape)))[::-1])
        moved = [axis for axis in order if shape[axis] != 1]
        return moved == sorted(moved)
    return False


def _forward(steps: str, constants: dict[str, np.ndarray]) -> bool:
    return steps in constants and bool((constants[steps] > 0).all())


def _without_views(
    nodes: list[onnx.NodeProto], shapes: dict[str, Shape], constants: dict[str, np.ndarray], outputs: set[str]
) -> list[onnx.NodeProto]:
    """Replace each chain of views by one Reshape of where it starts, made once per shape that is asked for."""
    root: dict[str, str] = {}
    kept: list[onnx.NodeProto] = []
    reshaped: dict[tuple[str, Shape], str] = {}
    produced: set[str] = set()

    def resolve(name: str) -> str:
        source = root.get(name, name)
        if source == name or shapes[source] == shapes[name]:
            return source
        if (source, shapes[name]) not in reshaped:
            reshaped[source, shapes[name]] = name
            kept.append(_reshape(source, name, shapes[name], constants))
        return reshaped[source, shapes[name]]

    for node in nodes:
        if _is_view(node, shapes, constants):
            root[node.output[0]] = root.get(node.input[0], node.input[0])
            continue
        renamed = onnx.NodeProto()
        renamed.CopyFrom(node)
        for index, name in enumerate(node.input):
            renamed.input[index] = resolve(name) if name else ""
        kept.append(renamed)
        produced.update(node.output)
    for name in sorted(outputs & root.keys()):
        source = root[name]
        if reshaped.get((source, shapes[name])) == name:
            continue
        if shapes[source] == shapes[name] and source in produced and source not in outputs:
            kept = [_rename(node, source, name) for node in kept]
            root = {key: name if value == source else value for key, value in root.items()}
            reshaped = {(name if key == source else key, shape): view for (key, shape), view in reshaped.items()}
            produced.add(name)
        else:
            kept.append(_reshape(source, name, shapes[name], constants))
    return kept


def _reshape(source: str, name: str, shape: Shape, constants: dict[str, np.ndarray]) -> onnx.NodeProto:
    target = "shape_" + "x".join(map(str, shape))
    constants[target] = np.array(shape, np.int64)
    return helper.make_node("Reshape", [source, target], [name])


def _rename(node: onnx.NodeProto, old: str, new: str) -> onnx.NodeProto:
    for names in (node.input, node.output):
        for index, name in enumerate(names):
            if name == old:
                names[index] = new
    return node


def _without_unused(
    nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], outputs: set[str]
) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    used = set(outputs)
    kept = []
    for node in reversed(nodes):
        if used.intersection(node.output):
            kept.append(node)
            used.update(node.input)
    return kept[::-1], {name: value for name, value in constants.items() if name in used}


def _rebuild(model: onnx.ModelProto, nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray]) -> onnx.ModelProto:
    """A fresh model of these parts, without the notes of the tracer (which hold file paths of the author's machine)."""
    counter: Counter[str] = Counter()
    for node in nodes:
        counter[node.op_type] += 1
        node.name = f"{node.op_type}_{counter[node.op_type]}"
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
    inputs = [helper.make_tensor_value_info(i.name, 1, _dimensions(i)) for i in model.graph.input]
    outputs = [helper.make_tensor_value_info(o.name, 1, _dimensions(o)) for o in model.graph.output]
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "step", inputs, outputs, initializers)
    rebuilt = helper.make_model(
        graph, opset_imports=model.opset_import, ir_version=model.ir_version, functions=model.functions
    )
    rebuilt.producer_name = "hearloop"
    return onnx.shape_inference.infer_shapes(rebuilt, check_type=True, strict_mode=True)


def _dimensions(value: onnx.ValueInfoProto) -> list[int]:
    return [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
