"""Writing LLVM's language: one function at a time, as text.

A value is its name and its number of lanes. Kernels may contract a product and a sum to a fused multiply-add, but
nothing is assumed about NaN and infinity: safety checks rely on seeing them.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

FLAGS = "nsz contract"
ROUNDED = "nsz"  # a product is rounded before it is added


class Value(NamedTuple):
    """A float, or a vector of floats, or (as index or truth) something else that `name` stands for."""

    name: str
    lanes: int

    @property
    def type(self) -> str:
        return vector("float", self.lanes)


class Pointer(NamedTuple):
    """An address: a pointer's name and a constant distance from it, in floats."""

    name: str
    offset: int = 0

    def plus(self, offset: int) -> "Pointer":
        return Pointer(self.name, self.offset + offset)


def vector(kind: str, lanes: int) -> str:
    return kind if lanes == 1 else f"<{lanes} x {kind}>"


def constant(value: float) -> str:
    """A float32 as LLVM wants it: the bits of the double of the same value."""
    return f"0x{np.float64(np.float32(value)).view(np.uint64):016X}"


class Code:
    """The body of a function."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.declarations: set[str] = set()
        self._count = 0
        self._block = "entry"

    def name(self) -> str:
        self._count += 1
        return f"%v{self._count}"

    def assign(self, text: str) -> str:
        name = self.name()
        self.lines.append(f"  {name} = {text}")
        return name

    def call(self, function: str, result: str, arguments: Sequence[tuple[str, str]], flags: str = "") -> str:
        """Call a function by name; (type, value) pairs as arguments."""
        self.declarations.add(f"declare {result} @{function}({', '.join(kind for kind, _ in arguments)})")
        values = ", ".join(f"{kind} {value}" for kind, value in arguments)
        return self.assign(f"call {flags} {result} @{function}({values})")

    # Numbers

    def number(self, value: float, lanes: int) -> Value:
        text = constant(value)
        if lanes == 1:
            return Value(text, 1)
        return Value("<" + ", ".join([f"float {text}"] * lanes) + ">", lanes)

    def binary(self, operation: str, a: Value, b: Value, flags: str = FLAGS) -> Value:
        return Value(self.assign(f"{operation} {flags} {a.type} {a.name}, {b.name}"), a.lanes)

    def compare(self, condition: str, a: Value, b: Value) -> str:
        return self.assign(f"fcmp {condition} {a.type} {a.name}, {b.name}")

    def select(self, condition: str, then: Value, otherwise: Value) -> Value:
        truth = vector("i1", then.lanes)
        text = f"select {truth} {condition}, {then.type} {then.name}, {otherwise.type} {otherwise.name}"
        return Value(self.assign(text), then.lanes)

    def intrinsic(self, name: str, *operands: Value) -> Value:
        lanes, kind = operands[0].lanes, operands[0].type
        suffix = "f32" if lanes == 1 else f"v{lanes}f32"
        arguments = [(kind, operand.name) for operand in operands]
        return Value(self.call(f"llvm.{name}.{suffix}", kind, arguments), lanes)

    def multiply_add(self, a: Value, b: Value, c: Value) -> Value:
        return self.intrinsic("fmuladd", a, b, c)

    def lane(self, value: Value, index: int) -> Value:
        if value.lanes == 1:
            return value
        return Value(self.assign(f"extractelement {value.type} {value.name}, i32 {index}"), 1)

    def shuffle(self, a: Value, b: Value, indices: Sequence[int]) -> Value:
        if len(indices) == 1:
            return self.lane(a, indices[0])
        mask = ", ".join(f"i32 {index}" for index in indices)
        text = f"shufflevector {a.type} {a.name}, {b.type} {b.name}, <{len(indices)} x i32> <{mask}>"
        return Value(self.assign(text), len(indices))

    def broadcast(self, value: Value, lanes: int) -> Value:
        if lanes == 1:
            return value
        first = Value(self.assign(f"insertelement {vector('float', lanes)} poison, float {value.name}, i32 0"), lanes)
        return self.shuffle(first, first, [0] * lanes)

    def fold(self, value: Value, combine: Callable[[Value, Value], Value]) -> Value:
        """One number from all lanes, by halves."""
        while value.lanes > 1:
            half = value.lanes // 2
            low = self.shuffle(value, value, range(half))
            high = self.shuffle(value, value, range(half, value.lanes))
            value = combine(low, high)
        return value

    # Memory

    def at(self, pointer: Pointer) -> str:
        if not pointer.offset:
            return pointer.name
        return self.assign(f"getelementptr float, ptr {pointer.name}, i64 {pointer.offset}")

    def moved(self, pointer: Pointer, index: str, stride: int) -> Pointer:
        """The pointer, `index` times `stride` further."""
        if stride == 0 or index == "0":
            return pointer
        distance = index if stride == 1 else self.assign(f"mul nsw i64 {index}, {stride}")
        return Pointer(self.assign(f"getelementptr float, ptr {pointer.name}, i64 {distance}"), pointer.offset)

    def load(self, pointer: Pointer, stride: int, lanes: int) -> Value:
        """Lanes that lie `stride` floats apart."""
        if lanes == 1 or stride == 0:
            return self.broadcast(Value(self.assign(f"load float, ptr {self.at(pointer)}, align 4"), 1), lanes)
        if stride in (1, -1):
            start = pointer if stride == 1 else pointer.plus(1 - lanes)
            value = Value(self.assign(f"load {vector('float', lanes)}, ptr {self.at(start)}, align 4"), lanes)
            return value if stride == 1 else self.shuffle(value, value, range(lanes - 1, -1, -1))
        if stride == 2:  # two runs that overlap by one, so that nothing is read beyond the last lane
            low, high = self.load(pointer, 1, lanes), self.load(pointer.plus(lanes - 1), 1, lanes)
            return self.shuffle(low, high, [*range(0, lanes, 2), *range(lanes + 1, 2 * lanes, 2)])
        return self.gather([pointer.plus(lane * stride) for lane in range(lanes)])

    def gather(self, pointers: Sequence[Pointer]) -> Value:
        """A lane from each of these."""
        lanes = len(pointers)
        if lanes == 1:
            return self.load(pointers[0], 1, 1)
        gathered = "poison"
        for lane, pointer in enumerate(pointers):
            one = self.assign(f"load float, ptr {self.at(pointer)}, align 4")
            gathered = self.assign(f"insertelement {vector('float', lanes)} {gathered}, float {one}, i32 {lane}")
        return Value(gathered, lanes)

    def load_half(self, pointer: Pointer, lanes: int) -> Value:
        """float16 side by side, widened."""
        halves = self.assign(f"load {vector('half', lanes)}, ptr {self.at(pointer)}, align 4")
        kinds = f"{vector('half', lanes)} {halves} to {vector('float', lanes)}"
        return Value(self.assign(f"fpext {kinds}"), lanes)

    def store(self, value: Value, pointer: Pointer, stride: int) -> None:
        if value.lanes == 1 or stride == 1:
            self.lines.append(f"  store {value.type} {value.name}, ptr {self.at(pointer)}, align 4")
            return
        for lane in range(value.lanes):
            self.store(self.lane(value, lane), pointer.plus(lane * stride), 1)

    # Control

    def loop(
        self, count: int, body: Callable[[str, list[Value]], list[Value]], carried: Sequence[Value] = ()
    ) -> list[Value]:
        """Run `body(index, carried)` for index 0 .. count - 1; it returns what the next turn gets."""
        values = list(carried)
        if count <= 0:
            return values
        if count == 1:
            return body("0", values)
        self._count += 1
        label, end, before = f"loop{self._count}", f"end{self._count}", self._block
        index, following = self.name(), self.name()
        phis = [Value(self.name(), value.lanes) for value in values]
        self.lines += [f"  br label %{label}", f"{label}:"]
        mark = len(self.lines)
        self.lines += [""] * (1 + len(phis))
        self._block = label
        results = body(index, phis)
        latch = self._block
        self.lines[mark] = f"  {index} = phi i64 [ 0, %{before} ], [ {following}, %{latch} ]"
        for place, (phi, start, result) in enumerate(zip(phis, values, results, strict=True), mark + 1):
            self.lines[place] = (
                f"  {phi.name} = phi {phi.type} [ {start.name}, %{before} ], [ {result.name}, %{latch} ]"
            )
        self.lines.append(f"  {following} = add nuw nsw i64 {index}, 1")
        more = self.assign(f"icmp ult i64 {following}, {count}")
        self.lines += [f"  br i1 {more}, label %{label}, label %{end}", f"{end}:"]
        self._block = end
        return results

    def nest(
        self,
        sizes: Sequence[int],
        strides: Sequence[Sequence[int]],
        pointers: Sequence[Pointer],
        body: Callable[[list[Pointer], list[Value]], list[Value]],
        carried: Sequence[Value] = (),
    ) -> list[Value]:
        """Nested loops that move pointers: strides[loop][pointer]."""
        if not sizes:
            return body(list(pointers), list(carried))

        def turn(index: str, values: list[Value]) -> list[Value]:
            moved = [self.moved(p, index, s) for p, s in zip(pointers, strides[0], strict=True)]
            return self.nest(sizes[1:], strides[1:], moved, body, values)

        return self.loop(sizes[0], turn, carried)


def pieces(count: int, width: int) -> Iterator[tuple[int, int]]:
    """Cut `count` into vectors: (start, lanes), of `width` first and then of halves."""
    start = 0
    while width >= 1:
        while count - start >= width:
            yield start, width
            start += width
        width //= 2
