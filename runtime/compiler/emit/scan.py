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

WIDEST_PANEL = 8  # vectors of gates that are summed up side by side
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
    """Hidden state and gates wait in memory; the weights run past in panels.

    Weights that do not fit into the first-level cache are read forwards in one step and backwards in the next: what
    was read last is still there.
    """
    size, gates = kernel.hidden_size, _gates(kernel)
    total = gates * size
    hidden, cell, summed, reset = (_room(code, n) for n in (size, size, total, size))
    for room, state in ((hidden, chain.hidden), (cell, chain.cell)):
        source = operands.pointer(state) if state is not None else None
        for start, lanes in cuts(size, target.width):
            value = code.load(source.plus(start), 1, lanes) if source is not None else code.number(0, lanes)
            code.store(value, room.plus(start), 1)
    weights = _weights(memory, chain.recurrent)
    late = kernel.cell == "gru" and not kernel.linear_before_reset  # the hidden gate sees r h: a second product
    first = weights[:, : 2 * size] if late else weights
    packed = [(_panel(memory, operands, first, target), first.shape[1], 0)]
    if late:
        packed.append((_panel(memory, operands, weights[:, 2 * size :], target), size, 2 * size))
    rows, out = operands.pointer(chain.gates), operands.pointer(chain.out)
    own = operands.pointer(chain.bias) if chain.bias is not None else None

    def product(which: int, state: Pointer, inputs: Pointer | None, backwards: bool) -> None:
        """Sum up `inputs` and the recurrent share of some gates."""
        pointer, columns, base = packed[which]
        panels = _panels(columns, target)
        for panel in reversed(panels) if backwards else panels:
            span = sum(lanes for _, lanes in panel)
            begin = [state, pointer.plus(panel[0][0] * size)]
            steps = [1, span]
            if backwards:
                begin = [at.plus((size - 1) * step) for at, step in zip(begin, steps, strict=True)]
                steps = [-step for step in steps]
            sums = [
                code.load(inputs.plus(base + first), 1, lanes) if inputs is not None else code.number(0, lanes)
                for first, lanes in panel
            ]

            def term(moved: list[Pointer], values: list[Value], panel: list[tuple[int, int]] = panel) -> list[Value]:
                one = code.load(moved[0], 1, 1)
                results, position = [], 0
                for value, (_, lanes) in zip(values, panel, strict=True):
                    weight = code.load(moved[1].plus(position), 1, lanes)
                    results.append(code.multiply_add(code.broadcast(one, lanes), weight, value))
                    position += lanes
                return results

            sums = code.nest([size], [steps], begin, term, sums)
            for value, (first, _) in zip(sums, panel, strict=True):
                code.store(value, summed.plus(base + first), 1)

    def step(index: str, backwards: bool) -> None:
        row = code.moved(rows, index, _row_step(chain.gates))
        to = code.moved(out, index, _row_step(chain.out))
        # With linear_before_reset the input's share of the hidden gate must not be multiplied by r: it is added later.
        product(0, hidden, None if kernel.cell == "gru" else row, backwards)
        if late:
            for start, lanes in cuts(size, target.width):
                r = code.binary(
                    "fadd", code.load(summed.plus(size + start), 1, lanes), code.load(row.plus(size + start), 1, lanes)
                )
                r = operate(code, "sigmoid", [r])
                code.store(code.binary("fmul", r, code.load(hidden.plus(start), 1, lanes)), reset.plus(start), 1)
            product(1, reset, None, backwards)
        for start, lanes in cuts(size, target.width):
            gate = [code.load(summed.plus(g * size + start), 1, lanes) for g in range(gates)]
            state = code.load(hidden.plus(start), 1, lanes)
            if kernel.cell == "lstm":
                h, c = _lstm(code, gate[0], gate[1], gate[2], gate[3], code.load(cell.plus(start), 1, lanes))
                code.store(c, cell.plus(start), 1)
            elif kernel.cell == "rnn":
                h = _rnn(code, kernel, gate[0])
            else:
                given = [code.load(row.plus(g * size + start), 1, lanes) for g in range(3)]
                z = operate(code, "sigmoid", [code.binary("fadd", gate[0], given[0])])
                inner = gate[2]
                if own is not None:
                    inner = code.binary("fadd", inner, code.load(own.plus(start), 1, lanes))
                if kernel.linear_before_reset:
                    r = operate(code, "sigmoid", [code.binary("fadd", gate[1], given[1])])
                    inner = code.binary("fmul", r, inner)
                h = _mixed(code, z, operate(code, "tanh", [code.binary("fadd", given[2], inner)]), state)
            code.store(h, hidden.plus(start), 1)
            code.store(h, to.plus(start), 1)

    def there_and_back(index: str, _: list[Value]) -> list[Value]:
        even = code.assign(f"shl nuw nsw i64 {index}, 1")
        step(even, backwards=False)
        step(code.assign(f"add nuw nsw i64 {even}, 1"), backwards=True)
        return []

    def forwards(index: str, _: list[Value]) -> list[Value]:
        step(index, backwards=False)
        return []

    length = chain.out.shape[0]
    if size * total > FIRST_CACHE and length > 1:
        code.loop(length // 2, there_and_back)
        if length % 2:
            step(str(length - 1), backwards=False)
    else:
        code.loop(length, forwards)
    for room, state in ((hidden, chain.last_hidden), (cell, chain.last_cell)):
        if state is not None:
            target_pointer = operands.pointer(state)
            for start, lanes in cuts(size, target.width):
                code.store(code.load(room.plus(start), 1, lanes), target_pointer.plus(start), 1)


def _room(code: Code, size: int) -> Pointer:
    return Pointer(code.assign(f"alloca float, i64 {size}, align 64"))


def _panels(columns: int, target: Target) -> list[list[tuple[int, int]]]:
    """Vectors (start, lanes), in as few groups of about the same size as possible."""
    vectors = cuts(columns, target.width)
    groups = -(-len(vectors) // WIDEST_PANEL)
    bounds = [len(vectors) * group // groups for group in range(groups + 1)]
    return [vectors[start:end] for start, end in pairwise(bounds)]


def _panel(memory: Memory, operands: Operands, weights: np.ndarray, target: Target) -> Pointer:
    """Constant weights [H, columns] as [panel, k, lane]."""
    blocks = []
    for panel in _panels(weights.shape[1], target):
        first, last = panel[0][0], panel[-1][0] + panel[-1][1]
        blocks.append(weights[:, first:last].ravel())
    return operands.pointer(memory.constant(np.concatenate(blocks)).addresses)
