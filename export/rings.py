"""Rings: a step that gives only the newest entry of a memory, instead of the whole memory shifted by one.

A model that attends to the last W frames says Slice(Concat(state, new)). Done as written, that copies megabytes in
every frame. Where the order of the entries does not matter, whoever holds the state can put the new one in place of the
oldest.
"""

from collections.abc import Iterable, Mapping

import onnx
from onnx import helper, numpy_helper

from ..runtime.bundle_info import State
from ..runtime.errors import HearloopError
from .simplify import simplify


def emit_entries(model: onnx.ModelProto, states: Iterable[str]) -> onnx.ModelProto:
    """Let the outputs `<state>.next` of these states be the new entry alone.

    Raises
    ------
    HearloopError
        If the next value of a state is something else than its newest entries.
    """
    graph = model.graph
    producers = {name: node for node in graph.node for name in node.output}
    constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    outputs = {item.name: item for item in graph.output}
    lengths = {item.name: [size.dim_value for size in item.type.tensor_type.shape.dim] for item in graph.input}
    shifts, entries = [], []
    for state in states:
        shift = producers.get(f"{state}.next")
        joined = producers.get(shift.input[0]) if shift is not None and shift.op_type == "Slice" else None
        if joined is None or joined.op_type != "Concat" or list(joined.input[:1]) != [state] or len(joined.input) != 2:
            raise HearloopError(f"{state!r} is to be a ring, but its next value is not Slice(Concat({state}, new))")
        assert shift is not None
        axis = joined.attribute[0].i % len(lengths[state])
        starts, _, axes, *_ = (constants[name].tolist() for name in shift.input[1:])
        if starts != [1] or [item % len(lengths[state]) for item in axes] != [axis]:
            raise HearloopError(f"{state!r} is to be a ring, but its next value drops other entries than the oldest")
        shifts.append(shift)
        # A mere name: `simplify` lets the node before give it directly.
        entries.append(helper.make_node("Identity", [joined.input[1]], [f"{state}.next"]))
        outputs[f"{state}.next"].type.tensor_type.shape.dim[axis].dim_value = 1
    if not entries:
        return model
    nodes = [node for node in graph.node if not any(node is shift for shift in shifts)] + entries
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    return simplify(model)


def state_ports(model: onnx.ModelProto, initial: Mapping[str, float] | None = None) -> tuple[State, ...]:
    """The states of a step: the inputs `state.<path>`, each with its next value, or the new entry if it is a ring.

    `initial` says by name what they are filled with to begin with, where it is not zero.
    """
    shapes = {
        item.name: tuple(size.dim_value for size in item.type.tensor_type.shape.dim)
        for item in (*model.graph.input, *model.graph.output)
    }
    states = []
    for name in (item.name for item in model.graph.input if item.name.startswith("state.")):
        pairs = enumerate(zip(shapes[name], shapes[f"{name}.next"], strict=True))
        axis = next((axis for axis, (whole, given) in pairs if whole != given), None)
        kind = "carry" if axis is None else "ring"
        states.append(State(name, f"{name}.next", shapes[name], kind, (initial or {}).get(name, 0.0), axis))
    return tuple(states)
