"""Regularity: kernels walk through their operands with strides; what has none is copied into order first.

Element-wise kernels can walk over anything, with a table if need be. All others get operands whose offsets are sums of
one part per axis, each part visited by loops that all operands share.
"""

from dataclasses import fields
from typing import Any

import numpy as np

from ..expression import Load, loads, rewrite
from ..loops import loop_nest
from ..memory import Addresses
from ..program import Contract, Cumulate, Kernel, Map, Program, Scan, expressions


def make_regular(program: Program) -> None:
    """Put copies before and behind kernels that could not be written as loops."""
    kernels: list[Kernel] = []
    for kernel in program.kernels:
        if isinstance(kernel, Map) or _is_regular(kernel):
            kernels.append(kernel)
            continue
        before, after = _with_dense_operands(program, kernel)
        kernels += [*before, kernel, *after]
    program.kernels[:] = kernels


def _is_regular(kernel: Kernel) -> bool:
    if isinstance(kernel, Scan):
        return all(_chain_is_regular(chain) for chain in kernel.chains)
    axes: dict[str, list[Addresses]] = {}
    sources = [load.addresses for expression in expressions(kernel) for load in loads(expression)]
    if isinstance(kernel, Contract):
        plain = [kernel.out, *sources]
        axes = {"g": [_along(t, 0) for t in [*plain, kernel.a, kernel.b]]}
        axes["m"] = [_along(t, 1) for t in [*plain, kernel.a]]
        axes["n"] = [_along(t, 2) for t in [*plain, kernel.b]]
        axes["k"] = [_along(kernel.a, 2), _along(kernel.b, 1)]
        operands = [*plain, kernel.a, kernel.b]
    else:
        assert not isinstance(kernel, Scan)
        operands = [kernel.out, *sources]
        if isinstance(kernel, Cumulate) and kernel.initial is not None:
            operands.append(kernel.initial)
        axes = {"r": [_along(t, 0) for t in operands], "n": [_along(t, 1) for t in operands if t.ndim == 2]}
    return all(_is_separable(t) for t in operands) and all(loop_nest(columns) is not None for columns in axes.values())


def _chain_is_regular(chain: Any) -> bool:
    rows = [chain.out, chain.gates]
    single = [t for t in (chain.hidden, chain.cell, chain.bias, chain.last_hidden, chain.last_cell) if t is not None]
    if any((np.diff(t, axis=-1) != 1).any() for t in [*rows, *single]):
        return False
    return all(len(np.unique(np.diff(t[:, 0]))) <= 1 for t in rows)


def _along(addresses: Addresses, axis: int) -> np.ndarray:
    index = tuple(slice(None) if number == axis else 0 for number in range(addresses.ndim))
    return np.asarray(addresses[index] - addresses.flat[0])


def _is_separable(addresses: Addresses) -> bool:
    total = np.zeros((1,) * addresses.ndim, np.int64) + addresses.flat[0]
    for axis in range(addresses.ndim):
        shape = [-1 if number == axis else 1 for number in range(addresses.ndim)]
        total = total + _along(addresses, axis).reshape(shape)
    return bool((total == addresses).all())


def _with_dense_operands(program: Program, kernel: Kernel) -> tuple[list[Kernel], list[Kernel]]:
    """Give the kernel operands in order; returns the copies before it and behind it."""
    before: list[Kernel] = []
    after: list[Kernel] = []

    def fetched(addresses: Addresses) -> Addresses:
        if program.memory.owner(addresses.flat[:1]).kind == "constant" and isinstance(kernel, Contract | Scan):
            return addresses
        dense = program.memory.new("scratch", addresses.shape).addresses
        before.append(Map(dense, Load(addresses)))
        return dense

    def stored(addresses: Addresses) -> Addresses:
        dense = program.memory.new("scratch", addresses.shape).addresses
        after.append(Map(addresses, Load(dense)))
        return dense

    for name in ("source", "factor", "value"):
        expression = getattr(kernel, name, None)
        if expression is not None:
            change = lambda leaf: Load(fetched(leaf.addresses)) if isinstance(leaf, Load) else leaf  # noqa: E731
            setattr(kernel, name, rewrite(expression, change))
    for part in kernel.chains if isinstance(kernel, Scan) else [kernel]:
        for item in fields(part):
            operand = getattr(part, item.name)
            if isinstance(operand, np.ndarray):
                put = item.name in ("out", "last_hidden", "last_cell")
                setattr(part, item.name, stored(operand) if put else fetched(operand))
    return before, after
