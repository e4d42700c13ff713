"""The program: what a model is turned into. A list of kernels, in order, over one memory.

There are seven kinds of kernels. Each says where its numbers come from and go to as arrays of addresses, so that a pass
can move, merge or redirect kernels without knowing what they do. `value` is what is finally stored, an expression in
which `Result()` stands for what the kernel has computed; a plain `Result()` stores it as it is.

Before the plan, every buffer is written once (each address by one kernel), states are only read, and the kernels are in
an order in which everything is written before it is read.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from .expression import Expression, Load, Result, loads, rewrite
from .memory import Addresses, Memory


@dataclass(eq=False)
class Map:
    """out[i] = value[i], for every element; no Result."""

    out: Addresses
    value: Expression


@dataclass(eq=False)
class Contract:
    """out[g, m, n] = value(sum over k of a[g, m, k] * b[g, k, n]). Loads in `value` have the shape of `out`."""

    out: Addresses  # [G, M, N]
    a: Addresses  # [G, M, K]
    b: Addresses  # [G, K, N]
    value: Expression = field(default_factory=Result)


@dataclass(eq=False)
class Reduce:
    """out[r] = value(how over n of source[r, n]), how one of sum, max, min, prod. Loads in `value` are [R]."""

    out: Addresses  # [R]
    source: Expression  # loads are [R, n]
    how: str
    value: Expression = field(default_factory=Result)


@dataclass(eq=False)
class Normalize:
    """out[r, n] = value((source - mean) / sqrt(variance + epsilon)), over n.

    Not `centered` is the root mean square: source / sqrt(mean of squares + epsilon). Loads in `value` are [R, n].
    """

    out: Addresses  # [R, n]
    source: Expression  # loads are [R, n]
    epsilon: float
    centered: bool = True
    value: Expression = field(default_factory=Result)


@dataclass(eq=False)
class Softmax:
    """out[r, n] = value(exp(source) / sum over n of exp(source)), or the logarithm of it."""

    out: Addresses  # [R, n]
    source: Expression  # loads are [R, n]
    logarithm: bool = False
    value: Expression = field(default_factory=Result)


@dataclass(eq=False)
class Cumulate:
    """out[r, t] = out[r, t - 1] * factor[r, t] + source[r, t], with out[r, -1] = initial[r] (0 without one).

    A cumulative sum has factor 1. `exclusive` stores the value before the update.
    """

    out: Addresses  # [R, T]
    source: Expression  # loads are [R, T]
    factor: Expression | None = None  # loads are [R, T]
    initial: Addresses | None = None  # [R]
    exclusive: bool = False


@dataclass(eq=False)
class Chain:
    """One direction of one sequence through a recurrent layer, in the order in which time runs."""

    out: Addresses  # [T, H]
    gates: Addresses  # [T, gates * H]: the input's share, W x + b, in ONNX's order of gates
    recurrent: Addresses  # [H, gates * H], constant: R transposed
    hidden: Addresses | None = None  # [H], before the first step; zeros without it
    cell: Addresses | None = None  # [H], LSTM only
    last_hidden: Addresses | None = None  # [H], written after the last step
    last_cell: Addresses | None = None  # [H], LSTM only
    bias: Addresses | None = None  # [H], constant: GRU with linear_before_reset, the recurrent bias of the hidden gate


@dataclass(eq=False)
class Scan:
    """A recurrent layer over more than one time step; the chains do not depend on each other.

    lstm, gates i o f c:  c = sigmoid(f) c + sigmoid(i) tanh(c'),  h = sigmoid(o) tanh(c)
    gru, gates z r h:     n = tanh(h' + r (R h + bias)) if linear_before_reset else tanh(h' + R (r h)),
                          h = (1 - z) n + z h
    rnn, one gate:        h = tanh(g) (or relu)
    """

    cell: str  # "lstm" | "gru" | "rnn"
    hidden_size: int
    chains: list[Chain]
    linear_before_reset: bool = False
    activation: str = "tanh"  # rnn only: "tanh" | "relu"


Kernel = Map | Contract | Reduce | Normalize | Softmax | Cumulate | Scan


@dataclass(eq=False)
class StatePort:
    """A state: where the step reads it, and what it becomes.

    A pass that finds a better home for an element of the state sets `current` and `following` of that element to the
    same address: nothing is left to do at the end of the step.
    """

    name: str
    next: str
    current: Addresses  # in the shape of the graph's input; its own buffer, to begin with
    following: Addresses  # the value that it takes when the step is over; any addresses
    initial: float = 0.0


@dataclass(eq=False)
class Program:
    """A model, lowered: kernels over a memory, with named ports.

    `dtypes` says what the model calls the ports that are not float32; in memory everything is float32.
    """

    name: str
    memory: Memory
    kernels: list[Kernel]
    inputs: dict[str, Addresses]
    outputs: dict[str, Addresses]
    states: list[StatePort]
    dtypes: dict[str, str] = field(default_factory=dict)


def expressions(kernel: Kernel) -> Iterator[Expression]:
    """The expressions of a kernel: of the source first, of the stored value last."""
    for name in ("source", "factor", "value"):
        expression = getattr(kernel, name, None)
        if expression is not None:
            yield expression


def reads(kernel: Kernel) -> list[Addresses]:
    """Everything that a kernel reads."""
    found: list[Addresses] = []
    for expression in expressions(kernel):
        found += [load.addresses for load in loads(expression)]
    if isinstance(kernel, Contract):
        found += [kernel.a, kernel.b]
    if isinstance(kernel, Cumulate) and kernel.initial is not None:
        found.append(kernel.initial)
    if isinstance(kernel, Scan):
        for chain in kernel.chains:
            operands = (chain.gates, chain.recurrent, chain.hidden, chain.cell, chain.bias)
            found += [addresses for addresses in operands if addresses is not None]
    return found


def writes(kernel: Kernel) -> list[Addresses]:
    """Everything that a kernel writes."""
    if isinstance(kernel, Scan):
        return [
            addresses
            for chain in kernel.chains
            for addresses in (chain.out, chain.last_hidden, chain.last_cell)
            if addresses is not None
        ]
    return [kernel.out]


def readdress(kernel: Kernel, change: Callable[[Addresses], Addresses]) -> None:
    """Pass every operand of a kernel, read or written, through `change`."""

    def leaf(node: Expression) -> Expression:
        if not isinstance(node, Load):
            return node
        changed = change(node.addresses)
        return node if changed is node.addresses else Load(changed)

    for name in ("source", "factor", "value"):
        expression = getattr(kernel, name, None)
        if expression is not None:
            setattr(kernel, name, rewrite(expression, leaf))
    parts: list[Any] = list(kernel.chains) if isinstance(kernel, Scan) else [kernel]
    for part in parts:
        for item in fields(part):
            operand = getattr(part, item.name)
            if isinstance(operand, np.ndarray):
                setattr(part, item.name, change(operand))


def is_copy(kernel: Kernel) -> bool:
    return isinstance(kernel, Map) and isinstance(kernel.value, Load)
