"""The compiler, from end to end: ONNX in, machine code and the layout of a stream's memory out."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..errors import UnsupportedModel
from .compiled import Compiled, Options, RingSlot, Slot, StateSlot
from .emit import emit_program
from .lower import lower
from .machine import assemble
from .memory import Addresses, buffer_numbers, offsets
from .pipeline import PASSES
from .plan import Plan, make_plan
from .program import Program
from .read import read_model
from .target import Target, host_target

Progress = Callable[[str, float], None]


def compile_model(
    model: bytes,
    states: Mapping[str, str],
    initial: Mapping[str, float] | None = None,
    target: Target | None = None,
    options: Options | None = None,
    progress: Progress = lambda stage, fraction: None,
    rings: Mapping[str, int] | None = None,
) -> Compiled:
    """Compile a streaming ONNX model.

    Parameters
    ----------
    model : bytes
        With static shapes; free dimensions count as 1.
    states : mapping of str to str
        Graph input -> graph output that is its next value.
    initial : mapping of str to float, optional
        What states start with, where it is not 0.
    target : Target, optional
        By default this machine's processor.
    progress : callable
        Is told the stage that begins, and the fraction of the work done before it.
    rings : mapping of str to int, optional
        States whose output is only the new entry -> axis of the entries; see `bundle.State`.

    Raises
    ------
    UnsupportedModel
        If an operator, or a form of one, cannot be compiled, or an input, output or state is without elements; the
        message names it.
    """
    target, options = target or host_target(), options or Options()
    progress("read", 0.0)
    source = read_model(model)
    progress("lower", 0.1)
    operators = dict(Counter(node.op_type for node in source.graph.node).most_common())
    program = lower(source, dict(states), rings)
    del source  # the weights are in the program now
    refuse_empty_ports(program)
    set_initial_values(program, initial or {})
    stages = {"lower": len(program.kernels)}
    for name, run in PASSES.items():
        progress(name, 0.2)
        run(program)
        stages[name] = len(program.kernels)
    plan = make_plan(program)
    progress("emit", 0.3)
    emitted = emit_program(program, plan, target, options)
    progress("assemble", 0.5)
    object_code = assemble(emitted.ir, target)
    progress("done", 1.0)
    return Compiled(
        object_code=object_code,
        constants=emitted.constants,
        memory_size=plan.memory_size,
        inputs=_slots(program, program.inputs),
        outputs=_slots(program, program.outputs),
        states=_state_slots(program, plan),
        rings=_ring_slots(program, plan),
        plan={
            "graph": operators,
            "stages": stages,
            **describe(program, plan, emitted.kernels, target),
        },
    )


def refuse_empty_ports(program: Program) -> None:
    """Raise UnsupportedModel if an input, an output or a state is without elements: it would lie nowhere in memory."""
    remembered = {state.name: state.current for state in program.states}
    for kind, ports in (("input", program.inputs), ("output", program.outputs), ("state", remembered)):
        for name, addresses in ports.items():
            if not addresses.size:
                raise UnsupportedModel(
                    f"{kind} {name!r} has shape {list(addresses.shape)}, expected at least one element"
                )


def set_initial_values(program: Program, initial: Mapping[str, float]) -> None:
    """Let states start with something else than zeros."""
    for state in program.states:
        state.initial = float(initial.get(state.name, 0.0))
        if state.initial:
            buffer = program.memory.owner(state.current)
            buffer.data = np.full(buffer.size, state.initial, np.float32)


def describe(program: Program, plan: Plan, kernels: list[dict[str, Any]], target: Target) -> dict[str, Any]:
    """The plan as plain data: kernels, states and how each was placed, sizes in bytes."""
    memory = program.memory
    states = []
    for state in program.states:
        owners = memory.owners(state.current)
        rings = [owner for owner in owners if owner.ring is not None]
        states.append(
            {
                "name": state.name,
                "shape": list(state.current.shape),
                "placed": "ring" if len(rings) == len(owners) else "in place" if not rings else "rings and in place",
                "rings": [[ring.ring.slots, ring.ring.step] for ring in rings if ring.ring is not None],
            }
        )
    return {
        "target": target.name,
        "kernels": kernels,
        "states": states,
        "bytes": {
            "kept": 4 * plan.kept_size,
            "scratch": 4 * plan.scratch_size,
            "stream": 4 * plan.memory_size,
        },
    }


def _slots(program: Program, ports: dict[str, Addresses]) -> dict[str, Slot]:
    return {
        name: Slot(program.memory.owner(port).place, tuple(port.shape), program.dtypes.get(name, "float32"))
        for name, port in ports.items()
    }


def _ring_slots(program: Program, plan: Plan) -> list[RingSlot]:
    rings = []
    for number, position in plan.positions.items():
        buffer = program.memory.buffers[number]
        assert buffer.ring is not None
        rings.append(RingSlot(position, buffer.place, buffer.ring.slots, buffer.ring.stride, buffer.ring.step))
    return rings


def _state_slots(program: Program, plan: Plan) -> dict[str, StateSlot]:
    index = np.full(len(program.memory.buffers), -1, np.int64)
    index[list(plan.positions)] = np.arange(len(plan.positions))
    place = np.array([buffer.place for buffer in program.memory.buffers], np.int64)
    slots = {}
    for state in program.states:
        numbers = buffer_numbers(state.current)
        places = place[numbers] + offsets(state.current)
        dtype = program.dtypes.get(state.name, "float32")
        slots[state.name] = StateSlot(state.next, state.current.shape, places, index[numbers], dtype)
    return slots
