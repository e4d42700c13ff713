"""Machine code computes what the reference computes, for this processor's vectors, for narrower ones, and for none."""

import copy
import ctypes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearloop.runtime.compiler.compiled import Options
from hearloop.runtime.compiler.expression import OPERATIONS, Load, Result, apply
from hearloop.runtime.compiler.passes.regular import make_regular
from hearloop.runtime.compiler.program import Chain, Contract, Cumulate, Map, Normalize, Reduce, Scan, Softmax
from hearloop.runtime.compiler.reference import Reference
from hearloop.runtime.compiler.target import host_target

from .machine_run import MachineRun
from .programs import Builder, improve, random_program

TOLERANCE = 3e-5
TARGETS = [None, "plain"] + (["sse"] if host_target().name in ("avx2", "avx512") else [])
seeds = st.integers(0, 2**32 - 1)


def agree(program, target, seed=0, steps=1, tolerance=TOLERANCE, low=-2.0, high=2.0):
    random = np.random.default_rng(seed)
    expected, found = Reference(copy.deepcopy(program)), MachineRun(program, host_target(target))
    for step in range(steps):
        for port in program.inputs.values():
            values = random.uniform(low, high, size=port.shape).astype(np.float32)
            expected.store(port, values)
            found.store(port, values)
        expected.step()
        found.step()
        for name, port in program.outputs.items():
            np.testing.assert_allclose(
                found.load(port), expected.load(port), rtol=tolerance, atol=tolerance, err_msg=f"{name}, step {step}"
            )


@pytest.mark.parametrize("target", TARGETS)
@given(seed=seeds)
@settings(max_examples=15)
def test_random_programs(target, seed):
    plain, improved = random_program(seed), random_program(seed)
    improve(improved)
    random = np.random.default_rng(seed)
    expected, found = Reference(plain), MachineRun(improved, host_target(target))
    for step in range(6):
        values = random.normal(size=plain.inputs["x"].shape)
        expected.store(plain.inputs["x"], values)
        found.store(improved.inputs["x"], values)
        expected.step()
        found.step()
        pairs = [(plain.outputs[name], improved.outputs[name]) for name in plain.outputs]
        pairs += [(a.current, b.current) for a, b in zip(plain.states, improved.states, strict=True)]
        for before, after in pairs:
            np.testing.assert_allclose(
                found.load(after), expected.load(before), rtol=TOLERANCE, atol=TOLERANCE, err_msg=f"step {step}"
            )
    found.reset()
    expected.reset()
    for a, b in zip(plain.states, improved.states, strict=True):
        np.testing.assert_array_equal(found.load(b.current), expected.load(a.current))


def strided(build, random, shape, name):
    """An input with the axes in any order, some of it left out, some of it repeated or reversed."""
    order = random.permutation(len(shape))
    steps = random.integers(1, 3, size=len(shape))
    outer = [int(shape[axis] * steps[axis]) for axis in order]
    view = build.input(name, tuple(outer)).transpose(np.argsort(order))
    view = view[tuple(slice(None, None, step) for step in steps)]
    axis = int(random.integers(len(shape)))
    match int(random.integers(4)):
        case 0:
            return np.flip(view, axis)
        case 1:
            return np.broadcast_to(view.take([0], axis), shape)
        case _:
            return view


def output(build, random, shape):
    order = random.permutation(len(shape))
    buffer = build.memory.new("output", tuple(int(shape[axis]) for axis in order), "y")
    return buffer.addresses.transpose(np.argsort(order))


def program(build, out):
    inputs = {f"x{buffer.number}": buffer.addresses for buffer in build.memory.buffers if buffer.kind == "input"}
    made = build.program(inputs, {})
    made.outputs["y"] = out
    make_regular(made)
    return made


@pytest.mark.parametrize("target", TARGETS)
@given(seed=seeds)
@settings(max_examples=25)
def test_contract(target, seed):
    random = np.random.default_rng(seed)
    build = Builder()
    g, m, n, k = (int(random.choice([1, 1, 2, 3, 5, 8, 11, 17, 33][: 4 if axis == 0 else 9])) for axis in range(4))
    operands = []
    for name, shape in (("a", (g, m, k)), ("b", (g, k, n))):
        if random.integers(2):
            operands.append(build.constant(random.normal(size=shape)))
        else:
            operands.append(strided(build, random, shape, name))
    value = Result()
    if random.integers(2):
        value = apply("tanh", apply("add", Result(), Load(strided(build, random, (g, m, n), "c"))))
    out = output(build, random, (g, m, n))
    build.kernels.append(Contract(out, *operands, value))
    agree(program(build, out), target, seed, tolerance=1e-4)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("columns", [800, 805])
def test_a_large_memory_is_read_a_few_rows_at_a_time(target, columns):
    random = np.random.default_rng(5)
    build = Builder()
    out = output(build, random, (2, 1, columns))
    more = Load(build.input("c", (2, 1, columns)))
    operands = build.input("a", (2, 1, 43)), build.input("b", (2, 43, columns))
    build.kernels.append(Contract(out, *operands, apply("add", Result(), more)))
    agree(program(build, out), target, tolerance=1e-4)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("columns", [5, 13, 20, 31])
def test_a_sum_in_place_is_added_once(target, columns):
    random = np.random.default_rng(columns)
    build = Builder()
    state = build.state("s", (1, 3, columns))
    operands = build.input("a", (1, 3, 7)), build.constant(random.normal(size=(1, 7, columns)))
    build.kernels.append(Contract(state, *operands, apply("add", Result(), apply("mul", Load(state), 0.5))))
    made = program(build, state)
    agree(made, target, steps=4, tolerance=1e-4)


@pytest.mark.parametrize("columns", [512, 509, 96])
def test_half_weights_are_the_weights_rounded_to_float16(columns):
    random = np.random.default_rng(7)
    weights = random.normal(size=(1, 300, columns)).astype(np.float32)
    found = []
    for rounded, options in ((weights.astype(np.float16), Options()), (weights, Options(half_weights=True))):
        build = Builder()
        out = output(build, random, (1, 1, columns))
        build.kernels.append(Contract(out, build.input("a", (1, 1, 300)), build.constant(rounded), Result()))
        run = MachineRun(program(build, out), options=options)
        (port,) = run.program.inputs.values()
        run.store(port, np.sin(np.arange(300, dtype=np.float32)).reshape(1, 1, 300))
        run.step()
        found.append((run.load(out), run.plan.memory_size, len(run.constants)))
    if host_target().half:
        np.testing.assert_array_equal(found[0][0], found[1][0])
        assert found[1][2] < 0.6 * found[0][2]
    else:
        np.testing.assert_allclose(found[0][0], found[1][0], atol=0.1)


def test_the_timed_step_computes_the_same_and_takes_the_time_of_every_kernel():
    random = np.random.default_rng(2)
    runs = [MachineRun(random_program(np.random.default_rng(11)), options=Options(timed=timed)) for timed in (0, 1)]
    stamps = np.zeros(len(runs[1].program.kernels) + 1, np.int64)
    timed = runs[1].code.function("step_timed", *[ctypes.c_void_p] * 3)
    for _ in range(5):
        for name, port in runs[0].program.inputs.items():
            values = random.normal(size=port.shape).astype(np.float32)
            for run in runs:
                run.store(run.program.inputs[name], values)
        runs[0].step()
        timed(runs[1].memory.ctypes.data, runs[1].constants.ctypes.data, stamps.ctypes.data)
        np.testing.assert_array_equal(runs[0].memory, runs[1].memory)
        assert (np.diff(stamps) >= 0).all()
        assert stamps[-1] > stamps[0]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", ["sum", "max", "min", "prod", "normalize", "rms", "softmax", "logsoftmax", "cumulate"])
@given(seed=seeds)
@settings(max_examples=6)
def test_rows(target, kind, seed):
    random = np.random.default_rng(seed)
    build = Builder()
    shape = (int(random.integers(1, 20)), int(random.integers(1, 40)))
    source = apply("mul", Load(strided(build, random, shape, "a")), Load(strided(build, random, shape, "b")))
    flat = kind in ("sum", "max", "min", "prod")
    behind = apply("add", Result(), Load(strided(build, random, shape[:1] if flat else shape, "c")))
    out = output(build, random, shape[:1] if flat else shape)
    kernel = {
        "normalize": lambda: Normalize(out, source, 1e-3, True, behind),
        "rms": lambda: Normalize(out, source, 1e-3, False, behind),
        "softmax": lambda: Softmax(out, source, False, behind),
        "logsoftmax": lambda: Softmax(out, source, True, behind),
        "cumulate": lambda: Cumulate(out, source, apply("mul", source, 0.2), exclusive=bool(random.integers(2))),
    }.get(kind, lambda: Reduce(out, source, kind, behind))
    build.kernels.append(kernel())
    agree(program(build, out), target, seed, tolerance=1e-3 if kind == "prod" else 1e-4)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("cell", ["lstm", "gru", "gru after", "rnn"])
@given(seed=seeds, size=st.sampled_from([1, 2, 3, 4, 8, 12, 20, 41]), steps=st.integers(1, 6))
@settings(max_examples=10)
def test_scan(target, cell, seed, size, steps):
    random = np.random.default_rng(seed)
    build = Builder()
    gates = {"lstm": 4, "rnn": 1}.get(cell, 3)
    out = build.memory.new("output", (steps, 2, size), "y").addresses
    last = build.memory.new("output", (2, 2, size), "last").addresses
    chains = []
    for direction in range(2):
        chain = Chain(
            out=out[:, direction][:: 1 if direction == 0 else -1],
            gates=build.input(f"g{direction}", (steps, gates * size)),
            recurrent=build.constant(random.normal(size=(size, gates * size)) / np.sqrt(size)),
            last_hidden=last[direction, 0],
        )
        if direction:
            chain.hidden = build.input("h", (size,))
        if cell == "lstm":
            chain.last_cell = last[direction, 1]
            chain.cell = build.input(f"c{direction}", (size,))
        if cell == "gru":
            chain.bias = build.constant(random.normal(size=size))
        chains.append(chain)
    build.kernels.append(Scan(cell.split()[0], size, chains, cell == "gru", str(random.choice(["tanh", "relu"]))))
    made = program(build, out)
    made.outputs["last"] = last if cell == "lstm" else last[:, 0]
    agree(made, target, seed, tolerance=1e-4)


@pytest.mark.parametrize("target", TARGETS)
def test_addresses_without_order_are_walked_by_table(target):
    random = np.random.default_rng(3)
    build = Builder()
    x = build.input("x0", (50,))
    out = build.memory.new("output", (70,), "y").addresses
    build.kernels.append(Map(out[random.permutation(70)], apply("tanh", Load(x[random.integers(50, size=70)]))))
    agree(program(build, out), target)


RANGES = {"log": (1e-30, 1e30), "acosh": (1, 50), "asin": (-1, 1), "acos": (-1, 1), "atanh": (-0.999, 0.999)}
ODD = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 2e-38, -2e-38, 88.7, 88.8, -87.3, -87.4, -104, 3e38, 0.5, 1.5, 2.5])
# Results next to the denormal numbers may be flushed to zero: by the processor, on our demand.
BINARY = {"add", "sub", "mul", "div", "pow", "modulo", "remainder", "maximum", "minimum"}
BINARY |= {"less", "less_equal", "equal", "and", "or", "xor"}


def operand_count(operation: str) -> int:
    return 3 if operation == "select" else 2 if operation in BINARY else 1


ULPS = {"exp": 3, "log": 3, "sigmoid": 5, "tanh": 5, "erf": 6}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_operations(target, operation):
    """A few units in the last place over the whole range, and NaN and infinity where NumPy has them."""
    arguments = operand_count(operation)
    random = np.random.default_rng(1)
    low, high = RANGES.get(operation, (-20, 20))
    spread = random.uniform(low, high, size=(arguments, 3001))
    if operation == "pow":
        spread[0] = np.abs(spread[0])
    columns = np.concatenate([spread, np.stack([np.roll(ODD, 3 * i) for i in range(arguments)])], axis=1)
    values = columns.astype(np.float32)
    build = Builder()
    operands = [build.input(f"x{i}", values.shape[1:]) for i in range(arguments)]
    out = build.memory.new("output", values.shape[1:], "y").addresses
    build.kernels.append(Map(out, apply(operation, *(Load(operand) for operand in operands))))
    made = build.program({f"x{i}": operand for i, operand in enumerate(operands)}, {})
    made.outputs["y"] = out
    run = MachineRun(made, host_target(target))
    for operand, value in zip(operands, values, strict=True):
        run.store(operand, value)
    run.step()
    found = run.load(out)
    with np.errstate(all="ignore"):
        exact = np.asarray(OPERATIONS[operation](*values.astype(np.float64)), np.float64)
        expected = exact.astype(np.float32)
    tiny = (np.abs(expected) < 1e-35) & (expected != 0)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_array_equal(np.isinf(found), np.isinf(expected))
    fine = np.isfinite(expected) & ~tiny
    error = np.abs(found[fine] - exact[fine]) / np.spacing(np.abs(expected[fine]))
    assert error.max() <= ULPS.get(operation, 4), (values[:, fine][:, error.argmax()], error.max())
    assert (np.abs(found[tiny]) < 1e-35).all()
