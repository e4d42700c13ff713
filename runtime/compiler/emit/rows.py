"""Kernels over rows: reduction, normalisation, softmax.

A row is swept in vectors, with the partial results of the lanes put together at its end; or, where neighbouring rows
lie side by side in memory, every lane has a row of its own. Long sweeps keep several partial results, because an
addition takes four cycles and the processor could begin two in each. A short row is read once and held.
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
Change = Callable[[Value], Value]
IDENTITY = {"sum": 0.0, "max": -np.inf, "min": np.inf, "prod": 1.0}
SWEEPS = {Reduce: 1, Normalize: 3, Softmax: 2}  # how often the source is read
PARTIAL_RESULTS = 4
MOST_HELD = 16  # vectors of a row that is kept in registers, or on the stack


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

    def read(self, at: list[Pointer], lanes: int) -> "_Held | _Swept":
        """A row, or as many as there are lanes, to be computed with."""
        vectors = self.sizes[-1] if self.by_lane else self.sizes[-1] / self.width
        if len(self.sizes) > 1 or vectors > MOST_HELD:
            return _Swept(self, at, lanes)
        step = self.steps[-1]
        if self.by_lane:
            parts = [(number, lanes) for number in range(self.sizes[-1])]
        else:
            parts = cuts(self.sizes[-1], self.width, overlap=not self.in_place)
        places = [[p.plus(start * s) for p, s in zip(at, step, strict=True)] for start, _ in parts]
        values = [self.value_of_source(place, n) for place, (_, n) in zip(places, parts, strict=True)]
        counted = sum(n for _, n in parts[:-1])
        again = 0 if self.by_lane else counted - parts[-1][0]
        return _Held(self, places, values, again)

    def store(self, at: list[Pointer], lanes: int, result: Value) -> None:
        """Store what the kernel makes of its result."""
        found = evaluate(self.code, self.kernel.value, self.load(self.behind, at, lanes), result, lanes)
        self.code.store(found, at[0], self.step[0])

    def spread(self, value: Value, lanes: int) -> Value:
        """A row's number for all lanes."""
        return value if self.by_lane else self.code.broadcast(value, lanes)


class _Held:
    """A row in registers: every number is read once, before any is stored."""

    def __init__(self, rows: _Rows, places: list[list[Pointer]], values: list[Value], again: int):
        self.rows, self.places, self.values = rows, places, values
        self.again = again  # lanes of the last vector that overlap the one before

    def each(self, change: Change) -> "_Held":
        return _Held(self.rows, self.places, [change(value) for value in self.values], self.again)

    def fold(self, term: Change, start: float, how: Combine, keep: bool = False) -> tuple["_Held", Value]:
        code = self.rows.code
        terms = [term(value) for value in self.values]
        if self.again:
            lanes = terms[-1].lanes
            fresh = ", ".join(f"i1 {int(lane >= self.again)}" for lane in range(lanes))
            terms[-1] = code.select(f"<{fresh}>", terms[-1], code.number(start, lanes))
        while len(terms) > 1 and terms[0].lanes == terms[1].lanes:
            alike = [each for each in terms if each.lanes == terms[0].lanes]
            pairs = zip(alike[::2], alike[1::2], strict=False)
            terms = [how(a, b) for a, b in pairs] + terms[len(alike) // 2 * 2 :]
        total = terms[0] if self.rows.by_lane else code.fold(terms[0], how)
        for rest in terms[1:]:
            total = how(total, code.fold(rest, how))
        return self, total

    def store(self, result: Change) -> None:
        for place, value in zip(self.places, self.values, strict=True):
            self.rows.store(place, value.lanes, result(value))


class _Swept:
    """A long row: swept over for every purpose, and computed anew each time, or kept where the result will be."""

    def __init__(
        self, rows: _Rows, at: list[Pointer], lanes: int, kept: bool = False, changes: tuple[Change, ...] = ()
    ):
        self.rows, self.at, self.lanes, self.kept, self.changes = rows, at, lanes, kept, changes

    def each(self, change: Change) -> "_Swept":
        return _Swept(self.rows, self.at, self.lanes, self.kept, (*self.changes, change))

    def _value(self, there: list[Pointer], width: int) -> Value:
        rows = self.rows
        value = rows.code.load(there[0], rows.step[0], width) if self.kept else rows.value_of_source(there, width)
        for change in self.changes:
            value = change(value)
        return value

    def fold(self, term: Change, start: float, how: Combine, keep: bool = False) -> tuple["_Swept", Value]:
        def body(there: list[Pointer], width: int, total: Value) -> Value:
            value = self._value(there, width)
            if keep:
                self.rows.code.store(value, there[0], self.rows.step[0])
            return how(total, term(value))

        total = self.rows.sweep(self.at, self.lanes, body, start, how)
        return _Swept(self.rows, self.at, self.lanes, kept=True) if keep else self, total

    def store(self, result: Change) -> None:
        def body(there: list[Pointer], width: int, unused: Value) -> Value:
            self.rows.store(there, width, result(self._value(there, width)))
            return unused

        self.rows.sweep(self.at, self.lanes, body, 0, lambda a, _: a)


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
    """Mean, then variance about it, then the result: one after the other, so that no digits are lost."""
    rows = _Rows(kernel, target, operands, code)
    add: Combine = lambda a, b: code.binary("fadd", a, b)  # noqa: E731
    count = int(np.prod(rows.sizes))

    def mean_of(total: Value) -> Value:
        return code.binary("fmul", total, code.number(1 / count, total.lanes))

    def row(at: list[Pointer], lanes: int) -> None:
        values = rows.read(at, lanes)
        if kernel.centered:
            values, total = values.fold(lambda x: x, 0, add)
            mean = mean_of(total)
            values = values.each(lambda x: code.binary("fsub", x, rows.spread(mean, x.lanes)))
        values, squares = values.fold(lambda x: code.binary("fmul", x, x), 0, add)
        power = code.binary("fadd", mean_of(squares), code.number(kernel.epsilon, lanes))
        gain = code.binary("fdiv", code.number(1, lanes), code.intrinsic("sqrt", power))
        values.store(lambda x: code.binary("fmul", x, rows.spread(gain, x.lanes)))

    rows.write(row)


def emit_softmax(kernel: Softmax, target: Target, operands: Operands, code: Code) -> None:
    """Maximum, exponentials and their sum, then the quotient; in a long row the exponentials wait in the output."""
    rows = _Rows(kernel, target, operands, code)
    add: Combine = lambda a, b: code.binary("fadd", a, b)  # noqa: E731
    # The exponential passes a NaN on, the maximum need not.
    largest: Combine = lambda a, b: code.select(code.compare("ogt", a, b), a, b)  # noqa: E731

    def row(at: list[Pointer], lanes: int) -> None:
        values, top = rows.read(at, lanes).fold(lambda x: x, -np.inf, largest)
        values = values.each(lambda x: code.binary("fsub", x, rows.spread(top, x.lanes)))
        if kernel.logarithm:
            values, total = values.fold(lambda x: decaying(code, x), 0, add, keep=True)
            total = logarithm(code, total)
            values.store(lambda x: code.binary("fsub", x, rows.spread(total, x.lanes)))
        else:
            values, total = values.each(lambda x: decaying(code, x)).fold(lambda x: x, 0, add, keep=True)
            share = code.binary("fdiv", code.number(1, lanes), total)
            values.store(lambda x: code.binary("fmul", x, rows.spread(share, x.lanes)))

    rows.write(row)
