"""Machine code for ARM computes what the reference computes, on an emulated processor."""

import copy

import numpy as np
import pytest

from hearloop.runtime import load_bundle, open_engine
from hearloop.runtime.compiled_engine import aligned
from hearloop.runtime.compiler.compile import compile_model
from hearloop.runtime.compiler.compiled import Options
from hearloop.runtime.compiler.expression import OPERATIONS, Load, apply
from hearloop.runtime.compiler.program import Map
from hearloop.runtime.compiler.reference import Reference
from hearloop.runtime.compiler.target import ARM64
from hearloop.runtime.load import load_model

from .emulator import EMULATOR, LINKER, PROGRAMS, EmulatedRun, Emulator
from .programs import Builder, improve, random_program
from .test_emit import operand_count
from .test_random_graphs import Graph, lowered_and_improved

pytestmark = pytest.mark.skipif(not (EMULATOR and LINKER), reason=f"needs {' and '.join(PROGRAMS)}")
TOLERANCE = 1e-4


def agree(program, seed, steps):
    random = np.random.default_rng(seed)
    expected = Reference(copy.deepcopy(program))
    with EmulatedRun(program) as found:
        for step in range(steps):
            for port in program.inputs.values():
                values = random.normal(size=port.shape).astype(np.float32)
                expected.store(port, values)
                found.store(port, values)
            expected.step()
            found.step()
            for name, port in program.outputs.items():
                wanted = expected.load(port)
                scale = max(1.0, float(np.abs(wanted).max(initial=0)))
                np.testing.assert_allclose(
                    found.load(port), wanted, rtol=TOLERANCE, atol=TOLERANCE * scale, err_msg=f"{name}, step {step}"
                )


@pytest.mark.parametrize("seed", range(3))
def test_random_programs(seed):
    program = random_program(np.random.default_rng(seed))
    improve(program)
    agree(program, seed, steps=6)


@pytest.mark.parametrize("seed", range(6))
def test_random_graphs(seed):
    made = Graph(seed)
    agree(lowered_and_improved(made.model(), made.states), seed, steps=4)


def test_all_operations():
    build, inputs, outputs = Builder(), {}, {}
    for operation in OPERATIONS:
        operands = [build.input(f"{operation} {i}", (37,)) for i in range(operand_count(operation))]
        inputs |= {f"{operation} {i}": operand for i, operand in enumerate(operands)}
        outputs[operation] = build.memory.new("output", (37,), operation).addresses
        build.kernels.append(Map(outputs[operation], apply(operation, *map(Load, operands))))
    program = build.program(inputs, {})
    program.outputs |= outputs
    agree(program, 0, steps=1)


@pytest.mark.parametrize(
    ("name", "half_weights"),
    [("enhance-small", False), ("gtcrn/gtcrn_simple.onnx", False), ("dtln/model_1.onnx", True)],
)
def test_whole_models(name, half_weights, request):
    """The compiled step of a model, as a device would get it, against ONNX Runtime here."""
    path = name if "/" not in name else request.getfixturevalue("shared") / "peers" / name
    bundle = load_bundle(path) if "/" not in name else load_model(path)
    states = {state.name: state.next for state in bundle.info.states}
    compiled = compile_model(bundle.model, states, target=ARM64, options=Options(half_weights=half_weights))
    expected = open_engine(path, engine="ort")
    memory, constants = aligned(compiled.memory_size), aligned(len(compiled.constants))
    constants[:] = compiled.constants
    emulator, random = Emulator(compiled.object_code, memory, constants), np.random.default_rng(0)

    def port(slot):
        return memory[slot.offset : slot.offset + int(np.prod(slot.shape))].reshape(slot.shape)

    for _ in range(12):
        feeds = {name: random.standard_normal(array.shape) for name, array in expected.inputs.items()}
        for name, values in feeds.items():
            port(compiled.inputs[name])[:] = values
        emulator.call("step")
        for name, wanted in expected.step(feeds).items():
            tolerance = (1e-2 if half_weights else TOLERANCE) * np.abs(wanted).max()
            np.testing.assert_allclose(port(compiled.outputs[name]), wanted, atol=tolerance, rtol=0)
    emulator.close()
