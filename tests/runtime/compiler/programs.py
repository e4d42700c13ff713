"""Random programs, as lowering would write them: one kernel per operation, views as addresses, states as ports."""

from dataclasses import dataclass, field

import numpy as np

from hearloop.runtime.compiler.expression import Load, Result, apply
from hearloop.runtime.compiler.memory import Addresses, Memory
from hearloop.runtime.compiler.pipeline import PASSES
from hearloop.runtime.compiler.program import (
    Contract,
    Cumulate,
    Map,
    Normalize,
    Program,
    Reduce,
    Softmax,
    StatePort,
)

UNARY = ("tanh", "sigmoid", "neg", "abs", "sin")
BINARY = ("add", "sub", "mul", "maximum", "minimum")


@dataclass
class Builder:
    """Writes a program; tensors are arrays of addresses."""

    memory: Memory = field(default_factory=Memory)
    kernels: list = field(default_factory=list)
    states: list[StatePort] = field(default_factory=list)

    def fresh(self, shape, kept=False) -> Addresses:
        return self.memory.new("scratch", tuple(shape), kept=kept).addresses

    def input(self, name, shape) -> Addresses:
        return self.memory.new("input", shape, name).addresses

    def constant(self, values) -> Addresses:
        return self.memory.constant(np.asarray(values, np.float32)).addresses

    def state(self, name, shape, initial=0.0) -> Addresses:
        buffer = self.memory.new("state", shape, name, kept=True)
        if initial:
            buffer.data = np.full(buffer.size, initial, np.float32)
        return buffer.addresses

    def become(self, current, following, initial=0.0) -> None:
        name = self.memory.owner(current).name
        self.states.append(StatePort(name, name + ".next", current, following, initial))

    def gather(self, x) -> Addresses:
        """In one buffer, as kernels need it."""
        if len(self.memory.owners(x)) == 1:
            return x
        out = self.fresh(x.shape)
        for buffer in self.memory.owners(x):
            here = (x >> 40) == buffer.number
            self.kernels.append(Map(out[here], Load(x[here])))
        return out

    def padded(self, x, pad) -> Addresses:
        """The last axis between borders of zeros that live for ever."""
        shape = (*x.shape[:-1], x.shape[-1] + 2 * pad)
        out = self.fresh(shape, kept=True)
        inner = out[..., pad : shape[-1] - pad]
        for buffer in self.memory.owners(x):
            here = (x >> 40) == buffer.number
            self.kernels.append(Map(inner[here], Load(x[here])))
        return out

    def map(self, operation, *operands) -> Addresses:
        operands = [operand if np.isscalar(operand) else self.gather(operand) for operand in operands]
        shape = np.broadcast_shapes(*(operand.shape for operand in operands if not np.isscalar(operand)))
        leaves = [operand if np.isscalar(operand) else Load(np.broadcast_to(operand, shape)) for operand in operands]
        out = self.fresh(shape)
        self.kernels.append(Map(out, apply(operation, *leaves)))
        return out

    def contract(self, a, b, bias=None) -> Addresses:
        a, b = self.gather(a), self.gather(b)
        out = self.fresh((a.shape[0], a.shape[1], b.shape[2]))
        value = Result() if bias is None else apply("add", Result(), Load(np.broadcast_to(bias, out.shape)))
        self.kernels.append(Contract(out, a, b, value))
        return out

    def rows(self, kind, x, **options) -> Addresses:
        """A kernel over the last axis."""
        x = self.gather(x).reshape(-1, x.shape[-1])
        out = self.fresh(x.shape[:1] if kind is Reduce else x.shape)
        self.kernels.append(kind(out, Load(x), **options))
        return out

    def program(self, inputs, outputs) -> Program:
        ports = {}
        for name, value in outputs.items():
            port = self.memory.new("output", value.shape, name).addresses
            for buffer in self.memory.owners(value):
                here = (value >> 40) == buffer.number
                self.kernels.append(Map(port[here], Load(value[here])))
            ports[name] = port
        return Program("random", self.memory, self.kernels, inputs, ports, self.states)


def improve(program: Program) -> None:
    """Run all passes, as `compile_model` does."""
    for run in PASSES.values():
        run(program)


def random_program(seed: int, operations: int = 12) -> Program:
    """A small network over a frame of shape (channels, width), with states of all kinds."""
    random = np.random.default_rng(seed)
    build = Builder()
    channels, width = int(random.integers(1, 5)), int(random.integers(1, 13))
    frame = build.input("x", (channels, width))
    tensors = [frame]

    def pick() -> Addresses:
        return tensors[random.integers(max(len(tensors) - 3, 0), len(tensors))]

    def square(x) -> Addresses:
        return x.reshape(channels, width) if x.size == channels * width else x

    for index in range(operations):
        x = square(pick())
        match int(random.integers(14)):
            case 0 | 1:
                new = build.map(str(random.choice(UNARY)), x)
            case 2 | 3:
                other = square(pick())
                new = build.map(str(random.choice(BINARY)), x, other)
            case 4:
                new = build.map("mul", x, build.constant(random.normal(size=(channels, 1))))
            case 5:
                weights = build.constant(random.normal(size=(1, width, width)) / np.sqrt(width))
                bias = build.constant(random.normal(size=(1, 1, width)))
                new = build.contract(x[None], weights, bias)[0]
            case 6:
                weights = build.constant(random.normal(size=(1, channels, channels)) / np.sqrt(channels))
                new = build.contract(weights, x[None], build.constant(random.normal(size=(1, channels, 1))))[0]
            case 7:
                new = build.rows(Normalize, x, epsilon=1e-3, centered=bool(random.integers(2)))
            case 8:
                new = build.rows(Softmax, x)
            case 9:
                mean = build.rows(Reduce, x, how="sum", value=apply("mul", Result(), 1 / width))
                new = build.map("sub", x, mean[:, None])
            case 10:
                new = np.concatenate([x[:, 1:], square(pick())[:, :1]], axis=1)[::-1]
            case 11:
                new = build.rows(Cumulate, build.map("mul", x, 0.1))
            case 12:
                new = carried(build, random, index, x)
            case _:
                new = windowed(build, random, index, x)
        tensors.append(new)
    return build.program({"x": frame}, {"y": square(tensors[-1]), "z": square(pick())})


def carried(build, random, index, x) -> Addresses:
    """A decaying mean."""
    initial = float(random.choice([0.0, 0.5]))
    state = build.state(f"mean{index}", x.shape, initial)
    new = build.map("add", build.map("mul", state, 0.7), build.map("mul", x, 0.3))
    build.become(state, new, initial)
    return new if random.integers(2) else build.map("add", x, state)


def windowed(build, random, index, x) -> Addresses:
    """A convolution over the last frames, as Concat and Slice; now and then with the newest frame first."""
    channels, width = x.shape
    past = int(random.integers(1, 5))
    newest_first = bool(random.integers(2))
    state = build.state(f"history{index}", (channels, past, width), 0.25)
    x = build.map("tanh", x)[:, None] if random.integers(2) else x[:, None]
    window = np.concatenate([x, state] if newest_first else [state, x], axis=1)
    build.become(state, window[:, :past] if newest_first else window[:, 1:], 0.25)
    memory = build.padded(window, 1) if random.integers(2) else None
    taps = build.gather(window) if memory is None else memory
    if memory is not None:
        taps = np.stack([memory[:, :, tap : tap + width] for tap in range(3)], axis=2)
    taps = taps.reshape(1, -1, width)
    weights = build.constant(random.normal(size=(1, channels, taps.shape[1])) / np.sqrt(taps.shape[1]))
    return build.contract(weights, taps)[0]
