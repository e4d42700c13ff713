"""Element-wise kernels."""

import numpy as np

from ..expression import Load, loads, operations_in
from ..loops import loop_nest
from ..memory import Memory
from ..program import Map
from ..target import Target
from .code import Code, Pointer, Value
from .math import evaluate
from .operands import Operands, cuts, distinct, nest_of, relative

STRIDED_LANE = 2.0  # what an element costs that is not beside its neighbour, where a whole vector costs 1
LONGEST_PATTERN = 256  # elements that are written out one vector after the other


def emit_map(kernel: Map, memory: Memory, target: Target, operands: Operands, code: Code) -> None:
    """Loops over the elements in the order of memory; the axis that suits vectors best is innermost."""
    sources = distinct(loads(kernel.value))
    tensors = [kernel.out, *sources]
    order = np.argsort(kernel.out.ravel(), kind="stable")
    columns = [relative(tensor).ravel()[order] for tensor in tensors]
    starts = [tensor.ravel()[order[:1]] for tensor in tensors]
    pointers = [operands.pointer(start) for start in starts]
    columns = [column - column[0] for column in columns]
    index = {source.tobytes(): number for number, source in enumerate(sources, 1)}
    nest = loop_nest(columns)
    in_place = any(source.flat[0] >> 40 == kernel.out.flat[0] >> 40 for source in sources)
    if nest is None:
        length = None if in_place else _pattern(columns)
        if length is None:
            _emit_table(kernel, memory, operands, code, columns, pointers, index)
        else:
            _emit_pattern(kernel, target, code, columns, length, pointers, index)
        return
    sizes, strides = [size for size, _ in nest] or [1], [s for _, s in nest] or [[1] * len(tensors)]
    axis = min(range(len(sizes)), key=lambda a: _cost(sizes, strides, a, target.width, operations_in(kernel.value)))
    count, step = sizes.pop(axis), strides.pop(axis)

    def elements(moved: list[Pointer], _: list[Value]) -> list[Value]:
        def vector(at: list[Pointer], lanes: int) -> list[Value]:
            def load(node: Load) -> Value:
                number = index[node.addresses.tobytes()]
                return code.load(at[number], step[number], lanes)

            code.store(evaluate(code, kernel.value, load, None, lanes), at[0], step[0])
            return []

        whole = count // target.width
        if whole:
            far = [stride * target.width for stride in step]
            code.nest([whole], [far], moved, lambda at, _: vector(at, target.width))
        for start, lanes in cuts(count, target.width, overlap=not in_place)[whole:]:
            vector([pointer.plus(start * stride) for pointer, stride in zip(moved, step, strict=True)], lanes)
        return []

    code.nest(sizes, strides, pointers, elements)


def _cost(sizes: list[int], strides: list[list[int]], axis: int, width: int, operations: int) -> float:
    """Estimated work if this axis is cut into vectors."""
    count, step = sizes[axis], strides[axis]
    others = float(np.prod(sizes)) / count
    per_cut = [operations + sum(1 if s in (0, 1) else STRIDED_LANE * n for s in step) for _, n in cuts(count, width)]
    return others * sum(per_cut)


def _pattern(columns: list[np.ndarray]) -> int | None:
    """After how many elements the offsets repeat themselves, but for a distance that loops can give."""
    count = columns[0].size
    for length in range(2, min(count, LONGEST_PATTERN) + 1):
        if count % length:
            continue
        tables = [column.reshape(-1, length) for column in columns]
        repeats = all((table == table[:, :1] + table[:1]).all() for table in tables)
        if repeats and loop_nest([table[:, 0] for table in tables]) is not None:
            return length
    return None


def _emit_pattern(
    kernel: Map,
    target: Target,
    code: Code,
    columns: list[np.ndarray],
    length: int,
    pointers: list[Pointer],
    index: dict[bytes, int],
) -> None:
    """Loops over the repetitions of a pattern without order, such as Resize makes: vectors with shuffled lanes."""
    sizes, strides = nest_of([column[::length] for column in columns])
    pattern = [column[:length] for column in columns]
    # A load may fetch what lies between the lanes that it needs, but nothing outside of the operand.
    low, high = [column.min() for column in columns], [column.max() for column in columns]
    first = [column[::length].min() for column in columns]
    last = [column[::length].max() for column in columns]

    def lanes_of(number: int, start: int, lanes: int, at: Pointer) -> Value:
        wanted = pattern[number][start : start + lanes]
        nearest, span = int(wanted.min()), int(wanted.max() - wanted.min()) + 1
        size = 1 << (span - 1).bit_length()
        for begin in (nearest, nearest + span - size):
            if (
                size <= target.width
                and low[number] <= first[number] + begin
                and last[number] + begin + size - 1 <= high[number]
            ):
                fetched = code.load(at.plus(begin), 1, size)
                return (
                    code.shuffle(fetched, fetched, (wanted - begin).tolist())
                    if size > 1
                    else code.broadcast(fetched, lanes)
                )
        return code.gather([at.plus(int(offset)) for offset in wanted])

    def repetition(at: list[Pointer], _: list[Value]) -> list[Value]:
        for start, lanes in cuts(length, target.width, overlap=True):

            def load(node: Load, start: int = start, lanes: int = lanes) -> Value:
                number = index[node.addresses.tobytes()]
                return lanes_of(number, start, lanes, at[number])

            value = evaluate(code, kernel.value, load, None, lanes)
            steps = np.diff(pattern[0][start : start + lanes])
            if (steps == 1).all():
                code.store(value, at[0].plus(int(pattern[0][start])), 1)
            else:
                for lane, offset in enumerate(pattern[0][start : start + lanes]):
                    code.store(code.lane(value, lane), at[0].plus(int(offset)), 1)
        return []

    code.nest(sizes, strides, pointers, repetition)


def _emit_table(
    kernel: Map,
    memory: Memory,
    operands: Operands,
    code: Code,
    columns: list[np.ndarray],
    pointers: list[Pointer],
    index: dict[bytes, int],
) -> None:
    """One loop over tables of offsets, for addresses without order."""
    tables = [memory.constant(column.astype(np.int32).view(np.float32)).addresses for column in columns]
    table_pointers = [operands.pointer(table) for table in tables]

    def element(at: list[Pointer], _: list[Value]) -> list[Value]:
        def place(number: int) -> Pointer:
            offset = code.assign(f"load i32, ptr {code.at(at[number])}, align 4")
            wide = code.assign(f"sext i32 {offset} to i64")
            return code.moved(pointers[number], wide, 1)

        def load(node: Load) -> Value:
            return code.load(place(index[node.addresses.tobytes()]), 1, 1)

        value = evaluate(code, kernel.value, load, None, 1)
        code.store(value, place(0), 1)
        return []

    code.nest([kernel.out.size], [[1] * len(tables)], table_pointers, element)
