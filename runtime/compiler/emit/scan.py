"""Recurrent layers over several time steps. Each step waits for the one before."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from ..memory import Addresses, Memory, offsets
from ..program import Chain, Scan
from ..target import Target
from .code import Code, Pointer, Value, pieces
from .math import larger, operate
from .operands import Operands, along, cuts

WIDEST_BLOCK = 9  # vectors of gates that are summed up side by side
FIRST_CACHE = 6144  # floats of weights that stay in the first-level cache of any processor of today, beside the rest


def emit_scan(kernel: Scan, memory: Memory, target: Target, operands: Operands, code: Code) -> None:
    """Small layers entirely in registers, all chains side by side; larger ones chain by chain."""
    size = kernel.hidden_size
    if size in (2, 4, 8, 16) and size <= target.width and _alike(kernel):
        _emit_small(kernel, memory, target, operands, code)
    else:
        for chain in kernel.chains:
            _emit_large(kernel, chain, memory, target, operands, code)


def _alike(kernel: Scan) -> bool:
    return len({chain.out.shape[0] for chain in kernel.chains}) == 1


def _row_step(addresses: Addresses) -> int:
    return int(along(addresses, 0)[1]) if addresses.shape[0] > 1 else 0


def _gates(kernel: Scan) -> int:
    return {"lstm": 4, "gru": 3, "rnn": 1}[kernel.cell]


def _weights(memory: Memory, addresses: Addresses) -> np.ndarray:
    data = memory.owner(addresses.flat[:1]).data
    assert data is not None
    return np.asarray(data[offsets(addresses)])


def _emit_small(kernel: Scan, memory: Memory, target: Target, operands: Operands, code: Code) -> None:
    """As many chains as fit side by side into a vector run as one; all groups of them take turns in one loop."""
    side = target.width // kernel.hidden_size
    groups = [
        _Group(kernel, kernel.chains[at : at + n], memory, operands) for at, n in pieces(len(kernel.chains), side)
    ]
    count = len(groups)
    carried = [group.initial(code, "hidden") for group in groups]
    carried += [group.initial(code, "cell") for group in groups]

    def turn(index: str, values: list[Value]) -> list[Value]:
        after = [group.step(code, index, *values[at::count]) for at, group in enumerate(groups)]
        return [h for h, _ in after] + [c for _, c in after]

    last = code.loop(kernel.chains[0].out.shape[0], turn, carried)
    for at, group in enumerate(groups):
        group.keep(code, last[at], last[count + at])


class _Group:
    """Chains that run side by side in the lanes of one vector."""

    def __init__(self, kernel: Scan, chains: list[Chain], memory: Memory, operands: Operands):
        self.kernel, self.chains, self.operands = kernel, chains, operands
        self.gates, self.size = _gates(kernel), kernel.hidden_size
        self.lanes = self.size * len(chains)
        weights = [_weights(memory, chain.recurrent).reshape(self.size, self.gates, self.size) for chain in chains]
        packed = np.stack(weights, axis=2)  # [k, gate, chain, lane]
        self.weights = operands.pointer(memory.constant(packed.ravel()).addresses)
        self.inputs = [operands.pointer(chain.gates) for chain in chains]
        self.outputs = [operands.pointer(chain.out) for chain in chains]

    def _joined(self, code: Code, pointers: list[Pointer | None]) -> Value:
        """One vector from a part of each chain; zeros where a chain has none."""
        parts = [code.number(0, self.size) if at is None else code.load(at, 1, self.size) for at in pointers]
        while len(parts) > 1:
            width = 2 * parts[0].lanes
            parts = [code.shuffle(a, b, range(width)) for a, b in zip(parts[::2], parts[1::2], strict=True)]
        return parts[0]

    def _parted(self, code: Code, value: Value, pointers: list[Pointer | None]) -> None:
        for number, pointer in enumerate(pointers):
            if pointer is not None:
                start = number * self.size
                part = value if self.lanes == self.size else code.shuffle(value, value, range(start, start + self.size))
                code.store(part, pointer, 1)

    def _own(self, name: str) -> list[Pointer | None]:
        found = [getattr(chain, name) for chain in self.chains]
        return [self.operands.pointer(each) if each is not None else None for each in found]

    def initial(self, code: Code, name: str) -> Value:
        return self._joined(code, self._own(name))

    def step(self, code: Code, index: str, hidden: Value, cell: Value) -> tuple[Value, Value]:
        """One time step: the next hidden and cell state."""
        steps = [_row_step(chain.gates) for chain in self.chains]
        rows = [code.moved(row, index, step) for row, step in zip(self.inputs, steps, strict=True)]
        inputs = [self._joined(code, [row.plus(gate * self.size) for row in rows]) for gate in range(self.gates)]
        bias = self._joined(code, self._own("bias"))

        def product(gate: int, state: Value, total: Value) -> Value:
            for k in range(self.size):
                own = [start + k for start in range(0, self.lanes, self.size) for _ in range(self.size)]
                weight = code.load(self.weights.plus((k * self.gates + gate) * self.lanes), 1, self.lanes)
                total = code.multiply_add(code.shuffle(state, state, own), weight, total)
            return total

        hidden, cell = _cell(code, self.kernel, inputs, hidden, cell, bias, product)
        to = zip(self.outputs, [_row_step(chain.out) for chain in self.chains], strict=True)
        self._parted(code, hidden, [code.moved(out, index, step) for out, step in to])
        return hidden, cell

    def keep(self, code: Code, hidden: Value, cell: Value) -> None:
        """Store the states after the last step."""
        self._parted(code, hidden, self._own("last_hidden"))
        self._parted(code, cell, self._own("last_cell"))


def _cell(
    code: Code,
    kernel: Scan,
    inputs: list[Value],
    state: Value,
    cell: Value,
    bias: Value,
    product: Callable[[int, Value, Value], Value],
) -> tuple[Value, Value]:
    """The next hidden and cell state; `product(gate, state, total)` adds the recurrent share to a gate."""
    if kernel.cell == "lstm":
        i, o, f, c = (product(gate, state, inputs[gate]) for gate in range(4))
        return _lstm(code, i, o, f, c, cell)
    if kernel.cell == "rnn":
        total = product(0, state, inputs[0])
        return _rnn(code, kernel, total), cell
    z = operate(code, "sigmoid", [product(0, state, inputs[0])])
    r = operate(code, "sigmoid", [product(1, state, inputs[1])])
    if kernel.linear_before_reset:
        new = code.multiply_add(r, product(2, state, bias), inputs[2])
    else:
        new = product(2, code.binary("fmul", r, state), code.binary("fadd", inputs[2], bias))
    return _mixed(code, z, operate(code, "tanh", [new]), state), cell


def _lstm(code: Code, i: Value, o: Value, f: Value, c: Value, cell: Value) -> tuple[Value, Value]:
    gate = lambda value: operate(code, "sigmoid", [value])  # noqa: E731
    entered = code.binary("fmul", gate(i), operate(code, "tanh", [c]))
    after = code.multiply_add(gate(f), cell, entered)
    return code.binary("fmul", gate(o), operate(code, "tanh", [after])), after


def _rnn(code: Code, kernel: Scan, total: Value) -> Value:
    if kernel.activation == "tanh":
        return operate(code, "tanh", [total])
    return larger(code, total, code.number(0, total.lanes))


def _mixed(code: Code, z: Value, new: Value, state: Value) -> Value:
    return code.multiply_add(z, code.binary("fsub", state, new), new)


def _emit_large(kernel: Scan, chain: Chain, memory: Memory, target: Target, operands: Operands, code: Code) -> None:
    """States wait in memory; the weights run past, block by block.

    A block has all gates of some units, so that its new states are computed while the weights of the next block come
    in. Old and new hidden state take turns in two places. Weights that do not fit into the first-level cache are read
    forwards in one step and backwards in the next: what was read last is still there.
    """
    size, gates = kernel.hidden_size, _gates(kernel)
    places, cell, reset, update = (_room(code, size), _room(code, size)), *(_room(code, size) for _ in range(3))
    for room, state in ((places[0], chain.hidden), (cell, chain.cell)):
        source = operands.pointer(state) if state is not None else None
        for start, lanes in cuts(size, target.width):
            value = code.load(source.plus(start), 1, lanes) if source is not None else code.number(0, lanes)
            code.store(value, room.plus(start), 1)
    weights = _weights(memory, chain.recurrent)
    late = kernel.cell == "gru" and not kernel.linear_before_reset  # the hidden gate sees r h: a second product
    passes = [(0, 1), (2,)] if late else [tuple(range(gates))]
    layouts = [_layout(weights, size, which, target) for which in passes]
    packed = [operands.pointer(memory.constant(layout[1]).addresses) for layout in layouts]
    rows, out = operands.pointer(chain.gates), operands.pointer(chain.out)
    own = operands.pointer(chain.bias) if chain.bias is not None else None

    def product(state: Pointer, at: Pointer, sums: list[Value], backwards: bool) -> list[Value]:
        """Add the recurrent share, state times weights, to the sums of a block."""
        begin, steps = [state, at], [1, sum(value.lanes for value in sums)]
        if backwards:
            begin = [pointer.plus((size - 1) * step) for pointer, step in zip(begin, steps, strict=True)]
            steps = [-step for step in steps]

        def term(moved: list[Pointer], values: list[Value]) -> list[Value]:
            one = code.load(moved[0], 1, 1)
            results, position = [], 0
            for value in values:
                weight = code.load(moved[1].plus(position), 1, value.lanes)
                results.append(code.multiply_add(code.broadcast(one, value.lanes), weight, value))
                position += value.lanes
            return results

        return code.nest([size], [steps], begin, term, sums)

    def bias(start: int, lanes: int) -> Value:
        return code.load(own.plus(start), 1, lanes) if own is not None else code.number(0, lanes)

    def step(index: str, before: Pointer, after: Pointer, backwards: bool) -> None:
        row = code.moved(rows, index, _row_step(chain.gates))
        to = code.moved(out, index, _row_step(chain.out))

        def begin(gate: int, start: int, lanes: int) -> Value:
            """What a gate is before the product. The hidden gate of a GRU is multiplied by r before its input comes."""
            if kernel.cell == "gru" and gate == 2 and not late:
                return bias(start, lanes)
            given = code.load(row.plus(gate * size + start), 1, lanes)
            return code.binary("fadd", given, bias(start, lanes)) if gate == 2 and late else given

        def finish(number: int, start: int, lanes: int, gate: list[Value]) -> None:
            state = code.load(before.plus(start), 1, lanes)
            if late and number == 0:
                code.store(operate(code, "sigmoid", [gate[0]]), update.plus(start), 1)
                kept = code.binary("fmul", operate(code, "sigmoid", [gate[1]]), state)
                code.store(kept, reset.plus(start), 1)
                return
            if kernel.cell == "lstm":
                h, c = _lstm(code, gate[0], gate[1], gate[2], gate[3], code.load(cell.plus(start), 1, lanes))
                code.store(c, cell.plus(start), 1)
            elif kernel.cell == "rnn":
                h = _rnn(code, kernel, gate[0])
            elif late:
                h = _mixed(code, code.load(update.plus(start), 1, lanes), operate(code, "tanh", [gate[0]]), state)
            else:
                z, r = (operate(code, "sigmoid", [value]) for value in gate[:2])
                new = code.multiply_add(r, gate[2], code.load(row.plus(2 * size + start), 1, lanes))
                h = _mixed(code, z, operate(code, "tanh", [new]), state)
            code.store(h, after.plus(start), 1)
            code.store(h, to.plus(start), 1)

        for number, which in enumerate(passes):
            blocks = layouts[number][0]
            for block in reversed(blocks) if backwards else blocks:
                sums = [begin(gate, start, lanes) for gate in which for start, lanes in block]
                at = packed[number].plus(block[0][0] * size * len(which))
                sums = product(reset if late and number else before, at, sums, backwards)
                for start, lanes, gate in _paired(code, block, sums):
                    finish(number, start, lanes, gate)

    there_and_back = size * gates * size > FIRST_CACHE

    def two_steps(index: str, _: list[Value]) -> list[Value]:
        even = code.assign(f"shl nuw nsw i64 {index}, 1")
        step(even, places[0], places[1], backwards=False)
        step(code.assign(f"add nuw nsw i64 {even}, 1"), places[1], places[0], backwards=there_and_back)
        return []

    length = chain.out.shape[0]
    code.loop(length // 2, two_steps)
    if length % 2:
        step(str(length - 1), places[0], places[1], backwards=False)
    for room, state in ((places[length % 2], chain.last_hidden), (cell, chain.last_cell)):
        if state is not None:
            target_pointer = operands.pointer(state)
            for start, lanes in cuts(size, target.width):
                code.store(code.load(room.plus(start), 1, lanes), target_pointer.plus(start), 1)


def _paired(code: Code, block: list[tuple[int, int]], sums: list[Value]) -> list[tuple[int, int, list[Value]]]:
    """Units (start, lanes) and their gates; pairs of vectors as one: two chains of operations that share constants."""
    count = len(block)
    found = [(start, lanes, sums[number::count]) for number, (start, lanes) in enumerate(block)]
    joined = []
    while len(found) > 1 and found[0][1] == found[1][1] > 1:
        (start, lanes, low), (_, _, high), *found = found
        pairs = zip(low, high, strict=True)
        joined.append((start, 2 * lanes, [code.shuffle(a, b, range(2 * lanes)) for a, b in pairs]))
    return joined + found


def _room(code: Code, size: int) -> Pointer:
    return Pointer(code.assign(f"alloca float, i64 {size}, align 64"))


def _layout(
    weights: np.ndarray, size: int, gates: tuple[int, ...], target: Target
) -> tuple[list[list[tuple[int, int]]], np.ndarray]:
    """Blocks of vectors of units (start, lanes), and the weights [H, columns] as [block, k, gate, lane]."""
    vectors = cuts(size, target.width)
    count = -(-len(vectors) // max(WIDEST_BLOCK // len(gates), 1))
    bounds = [len(vectors) * block // count for block in range(count + 1)]
    blocks = [vectors[start:end] for start, end in pairwise(bounds)]
    parts = []
    for block in blocks:
        first, last = block[0][0], block[-1][0] + block[-1][1]
        parts.append(np.concatenate([weights[:, g * size + first : g * size + last] for g in gates], axis=1).ravel())
    return blocks, np.concatenate(parts)
