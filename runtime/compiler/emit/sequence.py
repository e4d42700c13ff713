"""Kernels along time: cumulative sums and recurrent layers. Each step waits for the one before."""

from collections.abc import Callable
from functools import partial

import numpy as np

from ..expression import Load, loads
from ..memory import Addresses, Memory, offsets
from ..program import Chain, Cumulate, Scan
from ..target import Target
from .code import Code, Pointer, Value
from .math import evaluate, larger, operate
from .operands import Operands, along, cuts, distinct, nest_of

WIDEST_PANEL = 8  # vectors of gates that are summed up side by side


def emit_cumulate(kernel: Cumulate, operands: Operands, code: Code) -> None:
    """Row by row, element by element."""
    sources = distinct(loads(kernel.source) + (loads(kernel.factor) if kernel.factor is not None else []))
    tensors = [kernel.out, *sources]
    index = {source.tobytes(): number for number, source in enumerate(sources, 1)}
    initial = [kernel.initial] if kernel.initial is not None else []
    pointers = [operands.pointer(tensor) for tensor in [*tensors, *initial]]
    row_sizes, row_steps = nest_of([along(tensor, 0) for tensor in [*tensors, *initial]])
    sizes, steps = nest_of(
        [along(tensor, 1) for tensor in tensors] + [np.zeros(kernel.out.shape[1], int)] * len(initial)
    )

    def row(at: list[Pointer], _: list[Value]) -> list[Value]:
        def element(there: list[Pointer], values: list[Value]) -> list[Value]:
            def load(node: Load) -> Value:
                return code.load(there[index[node.addresses.tobytes()]], 1, 1)

            total = evaluate(code, kernel.source, load, None, 1)
            if kernel.factor is not None:
                total = code.multiply_add(values[0], evaluate(code, kernel.factor, load, None, 1), total)
            else:
                total = code.binary("fadd", values[0], total)
            code.store(values[0] if kernel.exclusive else total, there[0], 1)
            return [total]

        start = code.load(at[-1], 1, 1) if initial else code.number(0, 1)
        code.nest(sizes, steps, at, element, [start])
        return []

    code.nest(row_sizes, row_steps, pointers, row)


def emit_scan(kernel: Scan, memory: Memory, target: Target, operands: Operands, code: Code) -> None:
    """Small layers entirely in registers, all chains side by side; larger ones chain by chain."""
    size = kernel.hidden_size
    if size in (2, 4, 8, 16) and size <= target.width and _alike(kernel):
        _emit_small(kernel, memory, operands, code)
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


def _emit_small(kernel: Scan, memory: Memory, operands: Operands, code: Code) -> None:
    size, gates, chains = kernel.hidden_size, _gates(kernel), kernel.chains
    lstm = kernel.cell == "lstm"
    at = []
    for chain in chains:
        weights = operands.pointer(memory.constant(_weights(memory, chain.recurrent).ravel()).addresses)
        bias = operands.pointer(chain.bias) if chain.bias is not None else None
        at.append((operands.pointer(chain.gates), operands.pointer(chain.out), weights, bias))

    def begin(state: Addresses | None) -> Value:
        return code.number(0, size) if state is None else code.load(operands.pointer(state), 1, size)

    carried = [begin(chain.hidden) for chain in chains]
    if lstm:
        carried += [begin(chain.cell) for chain in chains]

    def product(number: int, gate: int, state: Value, total: Value) -> Value:
        for k in range(size):
            one = code.shuffle(state, state, [k] * size)
            weight = code.load(at[number][2].plus((k * gates + gate) * size), 1, size)
            total = code.multiply_add(one, weight, total)
        return total

    def turn(index: str, values: list[Value]) -> list[Value]:
        hidden, cells = [], []
        for number, chain in enumerate(chains):
            row = code.moved(at[number][0], index, _row_step(chain.gates))
            inputs = [code.load(row.plus(gate * size), 1, size) for gate in range(gates)]
            own = at[number][3]
            bias = code.load(own, 1, size) if own is not None else code.number(0, size)
            state = values[number]
            cell = values[len(chains) + number] if lstm else state
            h, c = _cell(code, kernel, inputs, state, cell, bias, partial(product, number))
            code.store(h, code.moved(at[number][1], index, _row_step(chain.out)), 1)
            hidden.append(h)
            cells.append(c)
        return hidden + (cells if lstm else [])

    last = code.loop(chains[0].out.shape[0], turn, carried)
    for number, chain in enumerate(chains):
        if chain.last_hidden is not None:
            code.store(last[number], operands.pointer(chain.last_hidden), 1)
        if chain.last_cell is not None:
            code.store(last[len(chains) + number], operands.pointer(chain.last_cell), 1)


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
    """Hidden state and gates wait in memory; the weights run past in panels."""
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

    def product(which: int, state: Pointer, inputs: Pointer | None) -> None:
        """Sum up `inputs` and the recurrent share of some gates."""
        pointer, columns, base = packed[which]
        start = 0
        for panel in _panels(columns, target):
            span = sum(lanes for _, lanes in panel)
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

            sums = code.nest([size], [[1, span]], [state, pointer.plus(start)], term, sums)
            for value, (first, _) in zip(sums, panel, strict=True):
                code.store(value, summed.plus(base + first), 1)
            start += span * size

    def turn(index: str, _: list[Value]) -> list[Value]:
        row = code.moved(rows, index, _row_step(chain.gates))
        to = code.moved(out, index, _row_step(chain.out))
        # With linear_before_reset the input's share of the hidden gate must not be multiplied by r: it is added later.
        product(0, hidden, None if kernel.cell == "gru" else row)
        if late:
            for start, lanes in cuts(size, target.width):
                r = code.binary(
                    "fadd", code.load(summed.plus(size + start), 1, lanes), code.load(row.plus(size + start), 1, lanes)
                )
                r = operate(code, "sigmoid", [r])
                code.store(code.binary("fmul", r, code.load(hidden.plus(start), 1, lanes)), reset.plus(start), 1)
            product(1, reset, None)
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
        return []

    code.loop(chain.out.shape[0], turn)
    for room, state in ((hidden, chain.last_hidden), (cell, chain.last_cell)):
        if state is not None:
            target_pointer = operands.pointer(state)
            for start, lanes in cuts(size, target.width):
                code.store(code.load(room.plus(start), 1, lanes), target_pointer.plus(start), 1)


def _room(code: Code, size: int) -> Pointer:
    return Pointer(code.assign(f"alloca float, i64 {size}, align 64"))


def _panels(columns: int, target: Target) -> list[list[tuple[int, int]]]:
    vectors = cuts(columns, target.width)
    return [vectors[start : start + WIDEST_PANEL] for start in range(0, len(vectors), WIDEST_PANEL)]


def _panel(memory: Memory, operands: Operands, weights: np.ndarray, target: Target) -> Pointer:
    """Constant weights [H, columns] as [panel, k, lane]."""
    blocks = []
    for panel in _panels(weights.shape[1], target):
        first, last = panel[0][0], panel[-1][0] + panel[-1][1]
        blocks.append(weights[:, first:last].ravel())
    return operands.pointer(memory.constant(np.concatenate(blocks)).addresses)
