"""The law of every pass: the program computes what it computed before, step after step, states and all."""

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearloop.runtime.compiler.expression import Load
from hearloop.runtime.compiler.pipeline import PASSES
from hearloop.runtime.compiler.plan import make_plan
from hearloop.runtime.compiler.program import Map, Reduce, is_copy, reads, writes
from hearloop.runtime.compiler.reference import Reference

from .programs import Builder, improve, random_program

STEPS = 9
TOLERANCE = 2e-5


def run(program, seed=0, steps=STEPS):
    """Outputs and states of some steps."""
    random = np.random.default_rng(seed)
    reference = Reference(program)
    results = []
    for _ in range(steps):
        for port in program.inputs.values():
            reference.store(port, random.normal(size=port.shape))
        reference.step()
        results.append([reference.load(port) for port in program.outputs.values()])
        results[-1] += [reference.load(state.current) for state in program.states]
    return results


def assert_same(found, expected):
    for step, (one, other) in enumerate(zip(found, expected, strict=True)):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE, err_msg=f"step {step}")


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_no_pass_changes_what_is_computed(seed):
    program = random_program(seed)
    expected = run(copy.deepcopy(program))
    for name, improve_once in PASSES.items():
        improve_once(program)
        try:
            assert_same(run(copy.deepcopy(program)), expected)
        except AssertionError as error:
            raise AssertionError(f"pass {name!r}") from error


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_memory_that_is_reused_is_not_needed_any_more(seed):
    """Run in one block of memory, with scratch full of NaN before each step, the program computes the same."""
    program = random_program(seed)
    expected = run(copy.deepcopy(program))
    improve(program)
    plan = make_plan(program)
    block = np.full(plan.memory_size, np.nan, np.float32)
    reference = Reference(program)
    for buffer in program.memory.buffers:
        if buffer.place >= 0:
            assert buffer.place + buffer.size <= plan.memory_size
            block[buffer.place : buffer.place + buffer.size] = reference.numbers[buffer.number]
            reference.numbers[buffer.number] = block[buffer.place : buffer.place + buffer.size]
    random = np.random.default_rng(0)
    results = []
    for _ in range(STEPS):
        block[plan.memory_size - 16 - plan.scratch_size :] = np.nan
        for port in program.inputs.values():
            reference.store(port, random.normal(size=port.shape))
        reference.step()
        results.append([reference.load(port) for port in program.outputs.values()])
        results[-1] += [reference.load(state.current) for state in program.states]
    assert_same(results, expected)


def shift_register(past=4, newest_first=False):
    build = Builder()
    x = build.input("x", (3, 1, 8))
    state = build.state("history", (3, past, 8), 0.5)
    frame = build.map("tanh", x)
    window = np.concatenate([frame, state] if newest_first else [state, frame], axis=1)
    build.become(state, window[:, :-1] if newest_first else window[:, 1:], 0.5)
    weights = build.constant(np.random.default_rng(0).normal(size=(1, 2, 3 * (past + 1))))
    y = build.contract(weights, build.gather(window).reshape(1, -1, 8))
    return build.program({"x": x}, {"y": y})


@pytest.mark.parametrize("newest_first", [False, True])
def test_a_shift_register_becomes_a_ring(newest_first):
    program = shift_register(newest_first=newest_first)
    expected = run(copy.deepcopy(program), steps=20)
    improve(program)
    rings = [buffer for buffer in program.memory.buffers if buffer.ring is not None]
    assert [ring.shape for ring in rings] == [(10, 3, 8)]  # all of a frame lies together
    copies = [kernel for kernel in program.kernels if is_copy(kernel)]
    assert [kernel.out.size for kernel in copies] == [3 * 8]  # the second copy of the new frame, and nothing else
    assert_same(run(program, steps=20), expected)


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_depthwise_convolution_of_channels_that_come_last_is_a_reduction(channels_last):
    build = Builder()
    x = build.input("x", (7, 12) if channels_last else (12, 7))
    frame = (build.map("tanh", x).T if channels_last else build.map("tanh", x))[:, None]
    state = build.state("history", (12, 2, 7))
    window = np.concatenate([state, frame], axis=1)
    build.become(state, window[:, 1:])
    weights = build.constant(np.random.default_rng(0).normal(size=(12, 1, 3)))
    program = build.program({"x": x}, {"y": build.map("neg", build.contract(weights, build.gather(window)))})
    expected = run(copy.deepcopy(program), steps=8)
    improve(program)
    assert any(isinstance(kernel, Reduce) for kernel in program.kernels) == channels_last
    assert_same(run(program, steps=8), expected)


def test_a_carried_state_is_written_in_place():
    build = Builder()
    x = build.input("x", (16,))
    state = build.state("mean", (16,))
    new = build.map("add", build.map("mul", state, 0.9), build.map("mul", x, 0.1))
    build.become(state, new)
    program = build.program({"x": x}, {"y": build.map("tanh", new)})
    improve(program)
    assert not any(is_copy(kernel) for kernel in program.kernels)
    first = program.kernels[0]
    assert isinstance(first, Map)
    assert np.array_equal(first.out, program.states[0].current)


def test_an_old_value_that_is_still_to_be_read_is_not_overwritten():
    build = Builder()
    x = build.input("x", (8,))
    state = build.state("last", (8,))
    build.become(state, build.map("neg", x))
    weights = build.constant(np.eye(8)[None])
    late = build.contract(state[None, None], weights)
    program = build.program({"x": x}, {"y": late})
    expected = run(copy.deepcopy(program))
    improve(program)
    assert_same(run(program), expected)


def test_two_states_that_change_places():
    build = Builder()
    x = build.input("x", (8,))
    a, b = build.state("a", (8,), 1.0), build.state("b", (8,), 2.0)
    build.become(a, b, 1.0)
    build.become(b, a, 2.0)
    program = build.program({"x": x}, {"y": build.map("add", a, x)})
    expected = run(copy.deepcopy(program))
    improve(program)
    assert_same(run(program), expected)


def test_a_constant_gain_goes_into_the_weights():
    build = Builder()
    x = build.input("x", (1, 4, 6))
    random = np.random.default_rng(1)
    y = build.contract(build.constant(random.normal(size=(1, 3, 4))), x)
    y = build.map("mul", y, build.constant(random.normal(size=(3, 1))))
    y = build.map("add", y, build.constant(random.normal(size=(3, 1))))
    program = build.program({"x": x}, {"y": build.map("tanh", y)})
    expected = run(copy.deepcopy(program))
    improve(program)
    assert len(program.kernels) == 1
    constants = [program.memory.owner(operand) for operand in reads(program.kernels[0])]
    assert sum(buffer.kind == "constant" for buffer in constants) == 2  # weights and one offset
    assert_same(run(program), expected)


def test_padding_and_concatenation_leave_no_copies():
    build = Builder()
    x = build.input("x", (2, 5))
    a, b = build.map("tanh", x), build.map("sin", x)
    both = build.padded(np.concatenate([a, b]), 1)
    weights = build.constant(np.ones((1, 1, 4)))
    y = build.contract(weights, both[None, :, 2:])
    program = build.program({"x": x}, {"y": y})
    improve(program)
    assert not any(isinstance(k, Map) and isinstance(k.value, Load) for k in program.kernels)
    assert sum(len(writes(kernel)) for kernel in program.kernels) == 3
