"""Matrix products: convolutions, linear layers, attention.

The innermost body keeps a tile of the result, some rows by some vectors, in registers, and adds to it one outer product
after another. Constant operands are laid out in the order in which the tiles read them. What is behind the product,
bias, activation, other operands, is computed while the tile is still in registers.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..expression import Apply, Expression, Load, Result, loads, rewrite
from ..memory import Addresses, Memory, offsets
from ..program import Contract
from ..target import Target
from .code import Code, Pointer, Value
from .math import evaluate
from .operands import Operands, along, cuts, distinct, nest_of

MOST_UNROLLED = 12  # terms of a sum that are written out instead of looped over
WIDEST_ROW = 8  # vectors, where there is only one row
STREAMED = 32768  # floats of a matrix that is read once and does not fit into the second-level cache
STREAMS = 10  # rows of such a matrix that are read at the same time
DOT_SUMS = 8  # partial sums of a dot product: additions that are under way at the same time

# Adds one outer product: pointers of a and b, sums, distances from the pointers, and the number of the term.
Term = Callable[[Pointer, Pointer, list[Value], int, int, int], list[Value]]


@dataclass(frozen=True)
class _Tiling:
    """How a matrix is cut: rows per tile, and panels of vectors (start, lanes)."""

    rows: int
    panels: list[list[tuple[int, int]]]


def emit_contract(kernel: Contract, memory: Memory, target: Target, operands: Operands, code: Code) -> None:
    """Choose the orientation, then write the loops."""
    swapped = Contract(
        kernel.out.swapaxes(1, 2),
        kernel.b.swapaxes(1, 2),
        kernel.a.swapaxes(1, 2),
        rewrite(kernel.value, lambda leaf: Load(leaf.addresses.swapaxes(1, 2)) if isinstance(leaf, Load) else leaf),
    )
    straight, turned = (_cost(memory, each, target.width) for each in (kernel, swapped))
    best = kernel if straight <= turned else swapped
    step = _stride(best.b, 2)
    scattered = not _constant(memory, best.b) and step not in (0, 1, 2) and best.b.shape[1] >= target.width
    if scattered and _runs(best.a, 2) and _runs(best.b, 1):
        _emit_dot(best, target, operands, code)
    else:
        for part in _streamed(best, memory):
            _emit_tiles(part, memory, target, operands, code)


def _streamed(kernel: Contract, memory: Memory) -> list[Contract]:
    """A row times a matrix that is larger than the caches, as the sum of some rows of the matrix after another.

    A few rows at a time run through memory as processors like it, from end to end; the sums wait in the output.
    """
    _, rows, columns = kernel.out.shape
    terms = kernel.a.shape[2]
    large = columns * terms > STREAMED and terms > 2 * STREAMS
    if rows > 1 or not large or _constant(memory, kernel.b) or abs(_stride(kernel.b, 2)) > 1 or loads(kernel.value):
        return [kernel]
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
    vectors = sum(1 if lanes == width else 1.5 for _, lanes in _row(columns, width))
    step = 0 if _constant(memory, kernel.b) else abs(_stride(kernel.b, 2))
    load = 1.0 if step <= 1 else 2.0 if step == 2 else 1.5 * width
    store = 1.0 if abs(_stride(kernel.out, 2)) <= 1 else width
    return rows * vectors * (1 + (load + 1) / min(rows, 4) + store / terms)


def _constant(memory: Memory, addresses: Addresses) -> bool:
    return memory.owner(addresses.flat[:1]).kind == "constant"


def _runs(addresses: Addresses, axis: int) -> bool:
    """Whether an operand runs through memory without gaps along an axis."""
    return bool((np.diff(along(addresses, axis)) == 1).all())


def _stride(addresses: Addresses, axis: int) -> int:
    column = along(addresses, axis)
    return int(column[1]) if len(column) > 1 else 1


def _row(count: int, width: int) -> list[tuple[int, int]]:
    return cuts(count, width, overlap=True) if count >= width else cuts(count, max(width // 2, 1), overlap=True)


def _tiling(rows: int, columns: int, target: Target) -> _Tiling:
    """The tiles that need the fewest cycles: two multiply-adds, two loads, and eight results under way at a time."""
    vectors = _row(columns, target.width)
    best: tuple[float, int, int] | None = None
    for wide in range(1, min(len(vectors), WIDEST_ROW) + 1):
        for high in range(1, rows + 1):
            if high > 1 and high * wide + wide + 1 > target.registers:
                break
            cycles = 0.0
            for w in _split(len(vectors), wide):
                cycles += sum(max(h * w, h + w, 8) for h in _split(rows, high))
            if best is None or cycles < best[0]:
                best = (cycles, wide, high)
    assert best is not None
    wide = best[1]
    return _Tiling(best[2], [vectors[start : start + wide] for start in range(0, len(vectors), wide)])


def _split(count: int, size: int) -> list[int]:
    return [size] * (count // size) + ([count % size] if count % size else [])


def _emit_tiles(kernel: Contract, memory: Memory, target: Target, operands: Operands, code: Code) -> None:
    groups, rows, columns = kernel.out.shape
    terms = kernel.a.shape[2]
    sources = distinct(loads(kernel.value))
    plain = [kernel.out, *sources]  # operands [G, M, N]
    index = {source.tobytes(): number for number, source in enumerate(sources, 1)}
    packed_a, packed_b = _constant(memory, kernel.a), _constant(memory, kernel.b)
    at_a, at_b = len(plain), len(plain) + 1

    # Loops along M and N: the innermost of each is cut into tiles; the last column counts, for packed operands.
    m_sizes, m_steps = nest_of([*(along(t, 1) for t in plain), _column(kernel.a, 1, packed_a), np.arange(rows)])
    n_sizes, n_steps = nest_of([*(along(t, 2) for t in plain), _column(kernel.b, 2, packed_b), np.arange(columns)])
    height, m_step = (m_sizes.pop(), m_steps.pop()) if m_sizes else (1, [0] * (len(plain) + 2))
    width, n_step = (n_sizes.pop(), n_steps.pop()) if n_sizes else (1, [1] * (len(plain) + 2))
    tiling = _tiling(height, width, target)
    a_size = height * terms  # of packed a, for one turn of the outer loops along M
    b_size = terms * sum(lanes for panel in tiling.panels for _, lanes in panel)
    if packed_a:
        a_pointer = operands.pointer(memory.constant(_packed_rows(memory, kernel.a, height, tiling.rows)).addresses)
    else:
        a_pointer = operands.pointer(kernel.a)
    if packed_b:
        b_pointer = operands.pointer(memory.constant(_packed_panels(memory, kernel.b, width, tiling)).addresses)
    else:
        b_pointer = operands.pointer(kernel.b)
    pointers = [*(operands.pointer(tensor) for tensor in plain), a_pointer, b_pointer]
    g_columns = [along(tensor, 0) for tensor in plain]
    g_columns.append(np.arange(groups) * (rows * terms) if packed_a else along(kernel.a, 0))
    g_columns.append(np.arange(groups) * (columns // width * b_size) if packed_b else along(kernel.b, 0))
    g_sizes, g_steps = nest_of(g_columns)
    m_outer = [[*s[:-2], s[-1] // height * a_size if packed_a else s[-2], 0] for s in m_steps]
    n_outer = [[*s[:-2], 0, s[-1] // width * b_size if packed_b else s[-2]] for s in n_steps]
    k_columns = [np.zeros(terms, np.int64) if packed_a else along(kernel.a, 2)]
    k_columns.append(np.zeros(terms, np.int64) if packed_b else along(kernel.b, 1))

    def tile(at: list[Pointer], high: int, panel: list[tuple[int, int]]) -> list[Value]:
        """One tile of the result, from its first row and the panel's base."""
        shapes = [lanes for _, lanes in panel]
        b_row = sum(shapes)
        sums = [code.number(0, lanes) for _ in range(high) for lanes in shapes]

        def term(a: Pointer, b: Pointer, values: list[Value], ka: int, kb: int, k: int) -> list[Value]:
            vectors, start = [], 0
            for first, lanes in panel:
                if packed_b:
                    vectors.append(code.load(b.plus(k * b_row + start), 1, lanes))
                else:
                    vectors.append(code.load(b.plus(kb + first * n_step[-2]), n_step[-2], lanes))
                start += lanes
            results = []
            for row in range(high):
                number = a.plus(k * high + row) if packed_a else a.plus(ka + row * m_step[-2])
                one = code.load(number, 0, 1)
                wide = {lanes: code.broadcast(one, lanes) for lanes in set(shapes)}
                for column, vector in enumerate(vectors):
                    total = values[row * len(panel) + column]
                    results.append(code.multiply_add(wide[vector.lanes], vector, total))
            return results

        sums = _sum(
            code, k_columns, at[at_a], at[at_b], (high if packed_a else 0, b_row if packed_b else 0), term, sums
        )
        for row in range(high):
            for column, (first, lanes) in enumerate(panel):

                def load(node: Load, row: int = row, first: int = first, lanes: int = lanes) -> Value:
                    number = index[node.addresses.tobytes()]
                    start = at[number].plus(row * m_step[number] + first * n_step[number])
                    return code.load(start, n_step[number], lanes)

                value = evaluate(code, kernel.value, load, sums[row * len(panel) + column], lanes)
                code.store(value, at[0].plus(row * m_step[0] + first * n_step[0]), n_step[0])
        return []

    def panels(at: list[Pointer], _: list[Value]) -> list[Value]:
        def column_of_tiles(at: list[Pointer], panel: list[tuple[int, int]]) -> list[Value]:
            whole = height // tiling.rows
            far = [stride * tiling.rows for stride in m_step[:-2]]
            far += [tiling.rows * (terms if packed_a else m_step[-2]), 0]
            code.nest([whole], [far], at, lambda moved, _: tile(moved, tiling.rows, panel))
            if height % tiling.rows:
                rest = [pointer.plus(whole * stride) for pointer, stride in zip(at, far, strict=True)]
                tile(rest, height % tiling.rows, panel)
            return []

        first = tiling.panels[0]
        span = sum(lanes for _, lanes in first)
        equal = 0
        while equal < len(tiling.panels) and tiling.panels[equal] == [(s + equal * span, n) for s, n in first]:
            equal += 1
        far = [stride * span for stride in n_step[:-2]] + [0, terms * span if packed_b else n_step[-2] * span]
        code.nest([equal], [far], at, lambda moved, _: column_of_tiles(moved, first))
        done = equal * span
        for panel in tiling.panels[equal:]:
            rest = list(at)
            if packed_b:
                rest[at_b] = rest[at_b].plus(terms * done)
            done += sum(lanes for _, lanes in panel)
            column_of_tiles(rest, panel)
        return []

    code.nest([*g_sizes, *n_sizes, *m_sizes], [*g_steps, *n_outer, *m_outer], pointers, panels)


def _column(addresses: Addresses, axis: int, packed: bool) -> np.ndarray:
    column = along(addresses, axis)
    return np.zeros_like(column) if packed else column


def _sum(
    code: Code,
    k_columns: list[np.ndarray],
    a: Pointer,
    b: Pointer,
    packed: tuple[int, int],
    term: Term,
    sums: list[Value],
) -> list[Value]:
    """The loops over the terms; short ones are written out, and a short innermost one as well."""
    terms = len(k_columns[0])
    if terms <= MOST_UNROLLED:
        for k in range(terms):
            sums = term(a, b, sums, int(k_columns[0][k]), int(k_columns[1][k]), k)
        return sums
    sizes, steps = nest_of([*k_columns, np.arange(terms)])
    inner, inner_step = sizes[-1], steps[-1]
    unrolled = next(u for u in (8, 7, 6, 5, 4, 3, 2, 1) if inner % u == 0 and (u == 1 or u * len(sums) <= 32))
    sizes = [*sizes[:-1], inner // unrolled]
    steps = [*steps[:-1], [stride * unrolled for stride in inner_step]]
    moves = [[s[0] + s[2] * packed[0], s[1] + s[2] * packed[1]] for s in steps]

    def turn(at: list[Pointer], values: list[Value]) -> list[Value]:
        for u in range(unrolled):
            values = term(at[0], at[1], values, u * inner_step[0], u * inner_step[1], u)
        return values

    return code.nest(sizes, moves, [a, b], turn, sums)


def _packed_rows(memory: Memory, a: Addresses, height: int, rows: int) -> np.ndarray:
    """Constant a [G, M, K] as [g, outer m, tile, k, row]."""
    values = _values(memory, a)
    blocks = [
        values[g, start : start + min(rows, end - start)].T.ravel()
        for g in range(values.shape[0])
        for end in range(height, values.shape[1] + 1, height)
        for start in range(end - height, end, rows)
    ]
    return np.concatenate(blocks)


def _packed_panels(memory: Memory, b: Addresses, width: int, tiling: _Tiling) -> np.ndarray:
    """Constant b [G, K, N] as [g, outer n, panel, k, lane]."""
    values = _values(memory, b)
    blocks = [
        np.concatenate([values[g, :, base + start : base + start + lanes] for start, lanes in panel], axis=1).ravel()
        for g in range(values.shape[0])
        for base in range(0, values.shape[2], width)
        for panel in tiling.panels
    ]
    return np.concatenate(blocks)


def _values(memory: Memory, addresses: Addresses) -> np.ndarray:
    data = memory.owner(addresses.flat[:1]).data
    assert data is not None
    return np.asarray(data[offsets(addresses)])


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
