"""Linear recurrences along an axis: cumulative sums, selective scans. Each step waits for the one before.

Where neighbouring rows lie side by side in memory, every lane of a vector has a row of its own.
"""

import numpy as np

from ..expression import Load, loads
from ..program import Cumulate
from ..target import Target
from .code import Code, Pointer, Value
from .math import evaluate
from .operands import Operands, along, cuts, distinct, nest_of


def emit_cumulate(kernel: Cumulate, target: Target, operands: Operands, code: Code) -> None:
    """Rows, as many at a time as lie side by side; within them step after step."""
    sources = distinct(loads(kernel.source) + (loads(kernel.factor) if kernel.factor is not None else []))
    index = {source.tobytes(): number for number, source in enumerate(sources, 1)}
    tensors = [kernel.out, *sources]
    initial = [kernel.initial] if kernel.initial is not None else []
    pointers = [operands.pointer(tensor) for tensor in [*tensors, *initial]]
    row_sizes, row_steps = nest_of([along(tensor, 0) for tensor in [*tensors, *initial]])
    still = [np.zeros(kernel.out.shape[1], np.int64)] * len(initial)
    sizes, steps = nest_of([*(along(tensor, 1) for tensor in tensors), *still])
    beside = bool(row_sizes) and all(abs(step) <= 1 for step in row_steps[-1])
    lane_steps = row_steps[-1] if beside else [1] * len(pointers)

    def rows(at: list[Pointer], lanes: int) -> None:
        def element(there: list[Pointer], values: list[Value]) -> list[Value]:
            def load(node: Load) -> Value:
                number = index[node.addresses.tobytes()]
                return code.load(there[number], lane_steps[number], lanes)

            total = evaluate(code, kernel.source, load, None, lanes)
            if kernel.factor is not None:
                total = code.multiply_add(values[0], evaluate(code, kernel.factor, load, None, lanes), total)
            else:
                total = code.binary("fadd", values[0], total)
            code.store(values[0] if kernel.exclusive else total, there[0], lane_steps[0])
            return [total]

        start = code.load(at[-1], lane_steps[-1], lanes) if initial else code.number(0, lanes)
        code.nest(sizes, steps, at, element, [start])

    def side_by_side(at: list[Pointer], _: list[Value]) -> list[Value]:
        whole = row_sizes[-1] // target.width
        code.nest([whole], [[target.width * step for step in lane_steps]], at, full)
        for start, lanes in cuts(row_sizes[-1], target.width)[whole:]:
            rows([pointer.plus(start * step) for pointer, step in zip(at, lane_steps, strict=True)], lanes)
        return []

    def full(at: list[Pointer], _: list[Value]) -> list[Value]:
        rows(at, target.width)
        return []

    def single(at: list[Pointer], _: list[Value]) -> list[Value]:
        rows(at, 1)
        return []

    if beside:
        code.nest(row_sizes[:-1], row_steps[:-1], pointers, side_by_side)
    else:
        code.nest(row_sizes, row_steps, pointers, single)
