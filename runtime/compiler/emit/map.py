"""Element-wise kernels."""

import numpy as np

from ..expression import Load, loads, operations_in
from ..loops import loop_nest
from ..memory import Memory
from ..program import Map
from ..target import Target
from .code import Code, Pointer, Value
from .math import evaluate
from .operands import Operands, cuts, distinct, relative

STRIDED_LANE = 2.0  # what an element costs that is not beside its neighbour, where a whole vector costs 1


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
    if nest is None:
        _emit_table(kernel, memory, operands, code, columns, pointers, index)
        return
    in_place = any(source.flat[0] >> 40 == kernel.out.flat[0] >> 40 for source in sources)
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
