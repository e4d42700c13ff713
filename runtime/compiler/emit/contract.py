"""Matrix products: convolutions, linear layers, attention.

The innermost body keeps a tile of the result, some rows by some vectors, in registers, and adds to it one outer product
after another. Constant operands are laid out in the order in which the tiles read them. What is behind the product,
bias, activation, other operands, is computed while the tile is still in registers.
"""

import numpy as np

from ..expression import Apply, Expression, Load, Result, loads, rewrite
from ..memory import Addresses, Memory
from ..program import Contract
from ..target import Target
from .code import Code, Pointer, Value
from .math import evaluate
from .operands import Operands, along, distinct, nest_of
from .tiles import emit_tiles, is_constant, row_of_vectors, stride_along

STREAMED = 32768  # floats of a matrix that is read once and does not fit into the second-level cache
STREAMS = 10  # rows of such a matrix that are read at the same time
DOT_SUMS = 8  # partial sums of a dot product: additions that are under way at the same time


def emit_contract(
    kernel: Contract, memory: Memory, target: Target, operands: Operands, code: Code, half_weights: bool
) -> None:
    """Choose the orientation, then write the loops."""
    swapped = Contract(
        kernel.out.swapaxes(1, 2),
        kernel.b.swapaxes(1, 2),
        kernel.a.swapaxes(1, 2),
        rewrite(kernel.value, lambda leaf: Load(leaf.addresses.swapaxes(1, 2)) if isinstance(leaf, Load) else leaf),
    )
    straight, turned = (_cost(memory, each, target.width) for each in (kernel, swapped))
    best = kernel if straight <= turned else swapped
    step = stride_along(best.b, 2)
    scattered = not is_constant(memory, best.b) and step not in (0, 1, 2) and best.b.shape[1] >= target.width
    if scattered and _runs(best.a, 2) and _runs(best.b, 1):
        _emit_dot(best, target, operands, code)
    else:
        for part in _streamed(best, memory):
            emit_tiles(part, memory, target, operands, code, half_weights)


def _streamed(kernel: Contract, memory: Memory) -> list[Contract]:
    """A row times a matrix that is larger than the caches, as the sum of some rows of the matrix after another.

    A few rows at a time run through memory as processors like it, from end to end; the sums wait in the output.
    """
    _, rows, columns = kernel.out.shape
    terms = kernel.a.shape[2]
    large = columns * terms > STREAMED and terms > 2 * STREAMS
    fixed = is_constant(memory, kernel.b)
    if rows > 1 or not large or fixed or abs(stride_along(kernel.b, 2)) > 1:
        return [kernel]
    out = memory.owner(kernel.out)
    if any(memory.owner(load.addresses) is out for load in loads(kernel.value)):
        return [kernel]  # what is behind the product could be overwritten by the sums
    before = Apply("add", (Result(), Load(kernel.out)))
    parts = []
    for start in range(0, terms, STREAMS):
        end = min(start + STREAMS, terms)
        value: Expression = Result() if start == 0 else before
        if end == terms:
            value = rewrite(kernel.value, lambda leaf: before if isinstance(leaf, Result) else leaf)
        parts.append(Contract(kernel.out, kernel.a[:, :, start:end], kernel.b[:, start:end], value))
    return parts


def _cost(memory: Memory, kernel: Contract, width: int) -> float:
    """Estimated work per product if N is cut into vectors."""
    _, rows, columns = kernel.out.shape
    terms = kernel.a.shape[2]
    vectors = sum(1 if lanes == width else 1.5 for _, lanes in row_of_vectors(columns, width))
    step = 0 if is_constant(memory, kernel.b) else abs(stride_along(kernel.b, 2))
    load = 1.0 if step <= 1 else 2.0 if step == 2 else 1.5 * width
    store = 1.0 if abs(stride_along(kernel.out, 2)) <= 1 else width
    return rows * vectors * (1 + (load + 1) / min(rows, 4) + store / terms)


def _runs(addresses: Addresses, axis: int) -> bool:
    """Whether an operand runs through memory without gaps along an axis."""
    return bool((np.diff(along(addresses, axis)) == 1).all())


def _emit_dot(kernel: Contract, target: Target, operands: Operands, code: Code) -> None:
    """Both operands run along K: one vector of partial sums per result, added up at the end."""
    _, rows, columns = kernel.out.shape
    terms, width = kernel.a.shape[2], target.width
    sources = distinct(loads(kernel.value))
    plain = [kernel.out, *sources]
    index = {source.tobytes(): number for number, source in enumerate(sources, 1)}
    tensors = [*plain, kernel.a, kernel.b]
    pointers = [operands.pointer(tensor) for tensor in tensors]
    zeros = [np.zeros(count, np.int64) for count in (rows, columns)]
    g_sizes, g_steps = nest_of([along(tensor, 0) for tensor in tensors])
    m_sizes, m_steps = nest_of([*(along(t, 1) for t in plain), along(kernel.a, 1), zeros[0]])
    n_sizes, n_steps = nest_of([*(along(t, 2) for t in plain), zeros[1], along(kernel.b, 2)])

    def result(at: list[Pointer], _: list[Value]) -> list[Value]:
        def term(moved: list[Pointer], values: list[Value]) -> list[Value]:
            sums = []
            for lane, value in enumerate(values):
                a, b = (code.load(pointer.plus(lane * width), 1, width) for pointer in moved)
                sums.append(code.multiply_add(a, b, value))
            return sums

        # Several sums side by side: a single one would wait for its own last addition every time.
        whole = terms // width
        side = min(whole, DOT_SUMS)
        turns = whole // side
        sums = code.nest([turns], [[side * width] * 2], at[-2:], term, [code.number(0, width)] * side)
        rest = [pointer.plus(turns * side * width) for pointer in at[-2:]]
        sums = term(rest, sums[: whole % side]) + sums[whole % side :]
        while len(sums) > 1:
            pairs = zip(sums[::2], sums[1::2], strict=False)
            sums = [code.binary("fadd", a, b) for a, b in pairs] + sums[len(sums) // 2 * 2 :]
        one = code.fold(sums[0], lambda x, y: code.binary("fadd", x, y))
        for k in range(whole * width, terms):
            a, b = (code.load(pointer.plus(k), 1, 1) for pointer in at[-2:])
            one = code.multiply_add(a, b, one)
        value = evaluate(code, kernel.value, lambda n: code.load(at[index[n.addresses.tobytes()]], 1, 1), one, 1)
        code.store(value, at[0], 1)
        return []

    code.nest([*g_sizes, *m_sizes, *n_sizes], [*g_steps, *m_steps, *n_steps], pointers, result)
