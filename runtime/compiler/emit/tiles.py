"""The tiles of a matrix product, and the order in which constant operands are laid out for them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..expression import Load, loads
from ..memory import Addresses, Memory, offsets
from ..program import Contract
from ..target import Target
from .code import Code, Pointer, Value
from .math import evaluate
from .operands import Operands, along, cuts, distinct, nest_of

MOST_UNROLLED = 12  # terms of a sum that are written out instead of looped over
WIDEST_ROW = 8  # vectors, where there is only one row
FEW_WEIGHTS = 8192  # that stay in the first-level cache: nothing is gained by halving them

# Adds one outer product: pointers of a and b, sums, distances from the pointers, and the number of the term.
Term = Callable[[Pointer, Pointer, list[Value], int, int, int], list[Value]]


@dataclass(frozen=True)
class Tiling:
    """How a matrix is cut: rows per tile, and panels of vectors (start, lanes)."""

    rows: int
    panels: list[list[tuple[int, int]]]


def is_constant(memory: Memory, addresses: Addresses) -> bool:
    return memory.owner(addresses.flat[:1]).kind == "constant"


def stride_along(addresses: Addresses, axis: int) -> int:
    column = along(addresses, axis)
    return int(column[1]) if len(column) > 1 else 1


def row_of_vectors(count: int, width: int, overlap: bool = True) -> list[tuple[int, int]]:
    return cuts(count, width if count >= width else max(width // 2, 1), overlap)


def _tiling(rows: int, columns: int, target: Target, overlap: bool) -> Tiling:
    """The tiles that need the fewest cycles: two multiply-adds, two loads, and eight results under way at a time."""
    vectors = row_of_vectors(columns, target.width, overlap)
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
    return Tiling(best[2], [vectors[start : start + wide] for start in range(0, len(vectors), wide)])


def _split(count: int, size: int) -> list[int]:
    return [size] * (count // size) + ([count % size] if count % size else [])


def emit_tiles(
    kernel: Contract, memory: Memory, target: Target, operands: Operands, code: Code, half_weights: bool
) -> None:
    """One kernel, tile by tile; `half_weights` allows float16 for the weights of a matrix-vector product."""
    groups, rows, columns = kernel.out.shape
    terms = kernel.a.shape[2]
    sources = distinct(loads(kernel.value))
    plain = [kernel.out, *sources]  # operands [G, M, N]
    index = {source.tobytes(): number for number, source in enumerate(sources, 1)}
    packed_a, packed_b = is_constant(memory, kernel.a), is_constant(memory, kernel.b)
    at_a, at_b = len(plain), len(plain) + 1

    # Loops along M and N: the innermost of each is cut into tiles; the last column counts, for packed operands.
    m_sizes, m_steps = nest_of([*(along(t, 1) for t in plain), _column(kernel.a, 1, packed_a), np.arange(rows)])
    n_sizes, n_steps = nest_of([*(along(t, 2) for t in plain), _column(kernel.b, 2, packed_b), np.arange(columns)])
    height, m_step = (m_sizes.pop(), m_steps.pop()) if m_sizes else (1, [0] * (len(plain) + 2))
    width, n_step = (n_sizes.pop(), n_steps.pop()) if n_sizes else (1, [1] * (len(plain) + 2))
    # What is added to where it lies must be added once: vectors that overlap would do it twice.
    out = memory.owner(kernel.out)
    in_place = any(memory.owner(source) is out for source in sources)
    tiling = _tiling(height, width, target, overlap=not in_place)
    half = half_weights and _halves(memory, kernel, tiling, target)
    in_b = lambda numbers: numbers // 2 if half else numbers  # noqa: E731  # packed numbers -> distance in floats
    a_size = height * terms  # of packed a, for one turn of the outer loops along M
    b_size = in_b(terms * sum(lanes for panel in tiling.panels for _, lanes in panel))
    if packed_a:
        a_pointer = operands.pointer(memory.constant(_packed_rows(memory, kernel.a, height, tiling.rows)).addresses)
    else:
        a_pointer = operands.pointer(kernel.a)
    if packed_b:
        packed = _packed_panels(memory, kernel.b, width, tiling)
        packed = packed.astype(np.float16).view(np.float32) if half else packed
        b_pointer = operands.pointer(memory.constant(packed).addresses)
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
                if half:
                    vectors.append(code.load_half(b.plus(in_b(k * b_row + start)), lanes))
                elif packed_b:
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
            code, k_columns, at[at_a], at[at_b], (high if packed_a else 0, in_b(b_row) if packed_b else 0), term, sums
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
        far = [stride * span for stride in n_step[:-2]] + [0, in_b(terms * span) if packed_b else n_step[-2] * span]
        code.nest([equal], [far], at, lambda moved, _: column_of_tiles(moved, first))
        done = equal * span
        for panel in tiling.panels[equal:]:
            rest = list(at)
            if packed_b:
                rest[at_b] = rest[at_b].plus(in_b(terms * done))
            done += sum(lanes for _, lanes in panel)
            column_of_tiles(rest, panel)
        return []

    code.nest([*g_sizes, *n_sizes, *m_sizes], [*g_steps, *n_outer, *m_outer], pointers, panels)


def _halves(memory: Memory, kernel: Contract, tiling: Tiling, target: Target) -> bool:
    """Whether weights are better read as float16: the product waits for memory, and the processor can widen them.

    A row of results uses every weight once; with more rows the arithmetic takes longer than the reading.
    """
    one_row = kernel.out.shape[1] == 1
    whole = all(lanes == target.width for panel in tiling.panels for _, lanes in panel)
    if not (target.half and one_row and whole and is_constant(memory, kernel.b) and kernel.b.size > FEW_WEIGHTS):
        return False
    return bool(np.abs(_values(memory, kernel.b)).max() < np.finfo(np.float16).max)


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


def _packed_panels(memory: Memory, b: Addresses, width: int, tiling: Tiling) -> np.ndarray:
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
