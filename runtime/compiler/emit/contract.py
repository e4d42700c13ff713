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
DOT_ROWS = 4  # of the matrix that are read side by side in dot products
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

    whole = terms // width

    def results(at: list[Pointer], columns: list[list[Pointer]]) -> None:
        """Results that share a row of a, each given by its pointers."""
        b = [column[-1] for column in columns]
        side = max(1, min(whole, DOT_SUMS // len(columns)))  # a single sum would wait for its own last addition

        def term(moved: list[Pointer], values: list[Value]) -> list[Value]:
            sums = []
            for lane in range(len(values) // len(columns)):
                row = code.load(moved[0].plus(lane * width), 1, width)
                for number, pointer in enumerate(moved[1:]):
                    vector = code.load(pointer.plus(lane * width), 1, width)
                    sums.append(code.multiply_add(row, vector, values[lane * len(columns) + number]))
            return sums

        turns = whole // side
        zeros = [code.number(0, width)] * (side * len(columns))
        sums = code.nest([turns], [[side * width] * (1 + len(b))], [at[-2], *b], term, zeros)
        rest = [pointer.plus(turns * side * width) for pointer in (at[-2], *b)]
        left = whole % side * len(columns)
        sums = term(rest, sums[:left]) + sums[left:]
        for number, column in enumerate(columns):
            one = _total(code, sums[number :: len(columns)])
            for k in range(whole * width, terms):
                one = code.multiply_add(code.load(at[-2].plus(k), 1, 1), code.load(column[-1].plus(k), 1, 1), one)

            def load(node: Load, column: list[Pointer] = column) -> Value:
                return code.load(column[index[node.addresses.tobytes()]], 1, 1)

            code.store(evaluate(code, kernel.value, load, one, 1), column[0], 1)

    def row(at: list[Pointer], _: list[Value]) -> list[Value]:
        if not n_sizes:
            results(at, [at])
            return []
        step = n_steps[-1]

        def beside(at: list[Pointer], count: int) -> list[list[Pointer]]:
            return [[p.plus(number * s) for p, s in zip(at, step, strict=True)] for number in range(count)]

        def group(at: list[Pointer], _: list[Value]) -> list[Value]:
            results(at, beside(at, DOT_ROWS))
            return []

        groups, rest = divmod(n_sizes[-1], DOT_ROWS)
        code.nest([groups], [[DOT_ROWS * s for s in step]], at, group)
        if rest:
            at = [p.plus(groups * DOT_ROWS * s) for p, s in zip(at, step, strict=True)]
            results(at, beside(at, rest))
        return []

    code.nest([*g_sizes, *m_sizes, *n_sizes[:-1]], [*g_steps, *m_steps, *n_steps[:-1]], pointers, row)


def _total(code: Code, sums: list[Value]) -> Value:
    """One number from some vectors."""
    while len(sums) > 1:
        pairs = zip(sums[::2], sums[1::2], strict=False)
        sums = [code.binary("fadd", a, b) for a, b in pairs] + sums[len(sums) // 2 * 2 :]
    return code.fold(sums[0], lambda x, y: code.binary("fadd", x, y))
