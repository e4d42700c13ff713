"""What the processor can do at most: multiply-adds in registers, and numbers read from memory."""

import ctypes
from collections.abc import Callable
from time import perf_counter

import numpy as np

from .emit.code import Code, Pointer, Value
from .machine import LoadedCode, assemble, load
from .plan import ALIGNMENT
from .target import Target, host_target

CHAINS = 10  # multiply-adds under way: two units, four or five cycles each
ROUNDS = 100
AT_LEAST = 2_000_000  # floats that are read in a round


def multiply_adds_per_second(target: Target | None = None) -> float:
    """Multiply-adds per second of one core when nothing has to be read: the best of some short runs."""
    target = target or host_target()
    count = 100_000
    code = Code()
    factor = _spread(code, "%factor", target.width)

    def turn(_: str, sums: list[Value]) -> list[Value]:
        return [code.multiply_add(total, factor, factor) for total in sums]

    _store(code, code.loop(count, turn, [factor] * CHAINS))
    _loaded, function = _build(code, "ptr %out, float %factor", target)
    out = np.zeros(1, np.float32)
    seconds = _quickest(lambda: function(out.ctypes.data, ctypes.c_float(0.5)))
    return CHAINS * target.width * count / seconds


def floats_per_second(size: int, target: Target | None = None) -> float:
    """Floats per second that one core reads from `size` floats, again and again: from the cache that they fit into."""
    target = target or host_target()
    line = CHAINS * target.width
    count = max(size // line, 1)
    turns = max(AT_LEAST // (count * line), 1)
    code = Code()

    def turn(at: list[Pointer], sums: list[Value]) -> list[Value]:
        loaded = [code.load(at[0].plus(number * target.width), 1, target.width) for number in range(CHAINS)]
        return [code.binary("fadd", total, one) for total, one in zip(sums, loaded, strict=True)]

    sums = code.nest([turns, count], [[0], [line]], [Pointer("%data")], turn, [code.number(0, target.width)] * CHAINS)
    _store(code, sums)
    _loaded, function = _build(code, "ptr %out, ptr %data", target)
    out, data = np.zeros(1, np.float32), np.ones(count * line + ALIGNMENT, np.float32)
    start = data.ctypes.data + -data.ctypes.data % (4 * ALIGNMENT)
    return count * line * turns / _quickest(lambda: function(out.ctypes.data, start))


def _spread(code: Code, name: str, lanes: int) -> Value:
    return code.broadcast(Value(name, 1), lanes)


def _store(code: Code, sums: list[Value]) -> None:
    """Put everything together and store it, so that nothing is left out as unused."""
    total = sums[0]
    for other in sums[1:]:
        total = code.binary("fadd", total, other)
    code.store(code.fold(total, lambda a, b: code.binary("fadd", a, b)), Pointer("%out"), 1)


def _build(code: Code, parameters: str, target: Target) -> tuple[LoadedCode, "ctypes._FuncPointer"]:
    """The function, and the code that it belongs to, which must outlive it."""
    body = "\n".join(code.lines)
    ir = f"define void @measured({parameters}) nounwind {{\nentry:\n{body}\n  ret void\n}}\n"
    loaded = load(assemble(ir + "\n".join(sorted(code.declarations)), target))
    kinds = [ctypes.c_float if each.startswith("float") else ctypes.c_void_p for each in parameters.split(", ")]
    return loaded, loaded.function("measured", *kinds)


def _quickest(call: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        started = perf_counter()
        call()
        best = min(best, perf_counter() - started)
    return best
