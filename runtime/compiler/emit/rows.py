"""Kernels over rows: reduction, normalisation, softmax.

A row is swept in vectors, with the partial results of the lanes put together at its end; or, where neighbouring rows
lie side by side in memory, every lane has a row of its own. Long sweeps keep several partial results, because an
addition takes four cycles and the processor could begin two in each.
"""

from collections.abc import Callable

import numpy as np

from ..expression import Load, loads
from ..program import Normalize, Reduce, Softmax
from ..target import Target
from .code import Code, Pointer, Value
from .math import decaying, evaluate, larger, logarithm, smaller
from .operands import Operands, along, cuts, distinct, nest_of

Combine = Callable[[Value, Value], Value]
IDENTITY = {"sum": 0.0, "max": -np.inf, "min": np.inf, "prod": 1.0}
SWEEPS = {Reduce: 1, Normalize: 3, Softmax: 2}  # how often the source is read
PARTIAL_RESULTS = 4


class _Rows:
    """Loops over the rows of a kernel, and sweeps within a row."""

    def __init__(self, kernel: Reduce | Normalize | Softmax, target: Target, operands: Operands, code: Code):
        self.code, self.kernel = code, kernel
        self.source = distinct(loads(kernel.source))
        behind = distinct(loads(kernel.value))
        self.flat = isinstance(kernel, Reduce)  # one result per row
        tensors = [kernel.out, *behind, *self.source]
        self.behind = {tensor.tobytes(): number for number, tensor in enumerate(behind, 1)}
        self.inside = {tensor.tobytes(): number for number, tensor in enumerate(self.source, 1 + len(behind))}
        self.pointers = [operands.pointer(tensor) for tensor in tensors]
        self.count = self.source[0].shape[1]
        self.row_sizes, self.row_steps = nest_of([along(tensor, 0) for tensor in tensors])
        across = [along(t, 1) if t.ndim == 2 else np.zeros(self.count, np.int64) for t in tensors]
        self.sizes, self.steps = nest_of(across)
        if not self.sizes:
            self.sizes, self.steps = [1], [[1] * len(tensors)]
        self.width = target.width
        reads = [1] * (1 + len(behind)) + [SWEEPS[type(kernel)]] * len(self.source)

        def scattered(step: list[int]) -> int:
            """How many elements are not beside their neighbour if the lanes go this way."""
            return sum(often for often, stride in zip(reads, step, strict=True) if abs(stride) > 1)

        enough = bool(self.row_sizes) and self.row_sizes[-1] >= target.width > 1
        self.by_lane = enough and scattered(self.row_steps[-1]) < scattered(self.steps[-1])
        self.in_place = any(tensor.flat[0] >> 40 == kernel.out.flat[0] >> 40 for tensor in [*behind, *self.source])
        self.step = self.row_steps[-1] if self.by_lane else self.steps[-1]  # from lane to lane

    def write(self, row: Callable[[list[Pointer], int], None]) -> None:
        """Call `row(pointers, lanes)` for every row, or for as many rows as there are lanes."""

        def together(lanes: int) -> Callable[[list[Pointer], list[Value]], list[Value]]:
            def turn(at: list[Pointer], _: list[Value]) -> list[Value]:
                row(at, lanes)
                return []

            return turn

        if not self.by_lane:
            self.code.nest(self.row_sizes, self.row_steps, self.pointers, together(1))
            return

        def beside(at: list[Pointer], _: list[Value]) -> list[Value]:
            step, whole = self.row_steps[-1], self.row_sizes[-1] // self.width
            self.code.nest([whole], [[self.width * s for s in step]], at, together(self.width))
            for start, lanes in cuts(self.row_sizes[-1], self.width, overlap=not self.in_place)[whole:]:
                row([pointer.plus(start * s) for pointer, s in zip(at, step, strict=True)], lanes)
            return []

        self.code.nest(self.row_sizes[:-1], self.row_steps[:-1], self.pointers, beside)

    def sweep(
        self,
        at: list[Pointer],
        rows: int,
        body: Callable[[list[Pointer], int, Value], Value],
        start: float,
        how: Combine,
    ) -> Value:
        """Run `body(pointers, lanes, total) -> total` over a row; the totals of all lanes, put together."""
        code, steps = self.code, self.steps
        vector_lanes = rows if self.by_lane else self.width
        whole = self.sizes[-1] if self.by_lane else self.sizes[-1] // self.width
        far = steps[-1] if self.by_lane else [stride * self.width for stride in steps[-1]]
        rest = [] if self.by_lane else cuts(self.sizes[-1], self.width)[whole:]

        def line(moved: list[Pointer], values: list[Value]) -> list[Value]:
            *vectors, single = values
            together = len(vectors)

            def turn(there: list[Pointer], carried: list[Value]) -> list[Value]:
                return [
                    body([p.plus(number * s) for p, s in zip(there, far, strict=True)], vector_lanes, total)
                    for number, total in enumerate(carried)
                ]

            vectors = code.nest([whole // together], [[together * s for s in far]], moved, turn, vectors)
            for number in range(whole - whole % together, whole):
                there = [pointer.plus(number * stride) for pointer, stride in zip(moved, far, strict=True)]
                vectors[number % together] = body(there, vector_lanes, vectors[number % together])
            for first, lanes in rest:
                there = [pointer.plus(first * stride) for pointer, stride in zip(moved, steps[-1], strict=True)]
                partial = body(there, lanes, code.number(start, lanes))
                single = how(single, code.fold(partial, how))
            return [*vectors, single]

        together = max(1, min(PARTIAL_RESULTS, whole))
        begin = [code.number(start, vector_lanes)] * together + [code.number(start, 1)]
        *vectors, single = code.nest(self.sizes[:-1], steps[:-1], at, line, begin)
        while len(vectors) > 1:
            vectors = [how(vectors[0], vectors[1]), *vectors[2:]]
        if self.by_lane:
            return vectors[0]
        return how(code.fold(vectors[0], how), single) if whole else single

    def load(self, table: dict[bytes, int], at: list[Pointer], lanes: int) -> Callable[[Load], Value]:
        def from_memory(node: Load) -> Value:
            number = table[node.addresses.tobytes()]
            return self.code.load(at[number], self.step[number], lanes)

        return from_memory

    def value_of_source(self, at: list[Pointer], lanes: int) -> Value:
        return evaluate(self.code, self.kernel.source, self.load(self.inside, at, lanes), None, lanes)

    def store(self, at: list[Pointer], lanes: int, result: Value) -> None:
        """Store what the kernel makes of its result."""
        found = evaluate(self.code, self.kernel.value, self.load(self.behind, at, lanes), result, lanes)
        self.code.store(found, at[0], self.step[0])

    def spread(self, value: Value, lanes: int) -> Value:
        """A row's number for all lanes."""
        return value if self.by_lane else self.code.broadcast(value, lanes)


def emit_reduce(kernel: Reduce, target: Target, operands: Operands, code: Code) -> None:
    """A sum, product, maximum or minimum per row."""
    rows = _Rows(kernel, target, operands, code)
    combine: dict[str, Combine] = {
        "sum": lambda a, b: code.binary("fadd", a, b),
        "prod": lambda a, b: code.binary("fmul", a, b),
        "max": lambda a, b: larger(code, a, b),
        "min": lambda a, b: smaller(code, a, b),
    }
    how = combine[kernel.how]

    def row(at: list[Pointer], lanes: int) -> None:
        def body(there: list[Pointer], width: int, total: Value) -> Value:
            return how(total, rows.value_of_source(there, width))

        rows.store(at, lanes, rows.sweep(at, lanes, body, IDENTITY[kernel.how], how))

    rows.write(row)


def emit_normalize(kernel: Normalize, target: Target, operands: Operands, code: Code) -> None:
    """Mean, then variance about it, then the result: three sweeps, so that no digits are lost."""
    rows = _Rows(kernel, target, operands, code)
    add: Combine = lambda a, b: code.binary("fadd", a, b)  # noqa: E731
    count = int(np.prod(rows.sizes))

    def row(at: list[Pointer], lanes: int) -> None:
        def mean_of(total: Value) -> Value:
            return code.binary("fmul", total, code.number(1 / count, total.lanes))

        mean = code.number(0, lanes)
        if kernel.centered:
            mean = mean_of(rows.sweep(at, lanes, lambda t, w, s: add(s, rows.value_of_source(t, w)), 0, add))

        def centre(there: list[Pointer], width: int) -> Value:
            return code.binary("fsub", rows.value_of_source(there, width), rows.spread(mean, width))

        def square(there: list[Pointer], width: int, total: Value) -> Value:
            distance = centre(there, width)
            return code.multiply_add(distance, distance, total)

        power = code.binary("fadd", mean_of(rows.sweep(at, lanes, square, 0, add)), code.number(kernel.epsilon, lanes))
        gain = code.binary("fdiv", code.number(1, lanes), code.intrinsic("sqrt", power))

        def store(there: list[Pointer], width: int, total: Value) -> Value:
            rows.store(there, width, code.binary("fmul", centre(there, width), rows.spread(gain, width)))
            return total

        rows.sweep(at, lanes, store, 0, add)

    rows.write(row)


def emit_softmax(kernel: Softmax, target: Target, operands: Operands, code: Code) -> None:
    """Maximum, exponentials and their sum, then the quotient; the exponentials wait in the output."""
    rows = _Rows(kernel, target, operands, code)
    add: Combine = lambda a, b: code.binary("fadd", a, b)  # noqa: E731
    # The exponential passes a NaN on, the maximum need not.
    largest: Combine = lambda a, b: code.select(code.compare("ogt", a, b), a, b)  # noqa: E731

    def row(at: list[Pointer], lanes: int) -> None:
        top = rows.sweep(at, lanes, lambda t, w, m: largest(m, rows.value_of_source(t, w)), -np.inf, largest)

        def raise_(there: list[Pointer], width: int, total: Value) -> Value:
            distance = code.binary("fsub", rows.value_of_source(there, width), rows.spread(top, width))
            power = decaying(code, distance)
            code.store(distance if kernel.logarithm else power, there[0], rows.step[0])
            return add(total, power)

        total = rows.sweep(at, lanes, raise_, 0, add)
        one = code.number(1, lanes)
        total = logarithm(code, total) if kernel.logarithm else code.binary("fdiv", one, total)

        def finish(there: list[Pointer], width: int, unused: Value) -> Value:
            found = code.load(there[0], rows.step[0], width)
            operation = "fsub" if kernel.logarithm else "fmul"
            rows.store(there, width, code.binary(operation, found, rows.spread(total, width)))
            return unused

        rows.sweep(at, lanes, finish, 0, add)

    rows.write(row)
