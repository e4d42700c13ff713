"""Recurrent layers: the input's share of all gates is one product; the rest a scan, or for one step, element-wise."""

from typing import Any

import numpy as np

from ...errors import UnsupportedModel
from ..expression import Expression, apply
from ..memory import Addresses
from ..program import Chain, Scan
from .environment import Environment, Tensor
from .views import constant_of

FLOAT = np.dtype(np.float32)
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
USUAL = {"LSTM": ["sigmoid", "tanh", "tanh"], "GRU": ["sigmoid", "tanh"], "RNN": ["tanh"]}


def recurrent(cell: str) -> Any:
    """The lowering of an LSTM, GRU or RNN."""

    def lowering(
        env: Environment,
        attributes: dict[str, Any],
        x: Tensor,
        w: Any,
        r: Any,
        b: Any = None,
        lengths: Any = None,
        hidden: Any = None,
        cells: Any = None,
        peepholes: Any = None,
        outputs: int = 1,
    ) -> list[Tensor]:
        activation = _check(cell, attributes, peepholes)
        weights, recurrence = constant_of(w, "W"), constant_of(r, "R")
        directions, size = weights.shape[0], recurrence.shape[2]
        swapped = bool(attributes.get("layout", 0))
        sequence = env.gather(env.addresses(x))
        sequence = sequence.swapaxes(0, 1) if swapped else sequence
        steps, batch = sequence.shape[:2]
        if lengths is not None and (constant_of(lengths, "sequence_lens") != steps).any():
            raise UnsupportedModel(f"sequence_lens are not all {steps}")
        bias = np.zeros((directions, 2, GATES[cell] * size), np.float32)
        if b is not None:
            bias = constant_of(b, "B").reshape(directions, 2, -1)
        linear = bool(attributes.get("linear_before_reset", 0))
        layer = _Layer(env, cell, size, linear, activation)
        shares = layer.inputs(sequence, weights, bias)
        states = [_state(env, value, swapped, directions, batch, size) for value in (hidden, cells)]
        y = env.fresh((steps, directions, batch, size))
        last = [env.fresh((directions, batch, size)) for _ in range(2)]
        for direction in range(directions):
            reverse = direction == 1 or attributes.get("direction", b"forward") == b"reverse"
            view = slice(None, None, -1 if reverse else 1)
            part = [None if state is None else state[direction] for state in states]
            inner = (shares[direction][view], recurrence[direction], bias[direction])
            layer.run(*inner, part, y[view, direction], [last[0][direction], last[1][direction]])
        if steps == 1:
            last[0] = y[0]
        results = [y.transpose(2, 0, 1, 3) if swapped else y]
        results += [value.swapaxes(0, 1) if swapped else value for value in last]
        return [Tensor(value, FLOAT) for value in results]

    return lowering


def _check(cell: str, attributes: dict[str, Any], peepholes: Any) -> str:
    """Refuse the rarer forms; returns the activation of an RNN."""
    if peepholes is not None:
        raise UnsupportedModel("peepholes are given, expected none")
    if "clip" in attributes or attributes.get("input_forget", 0):
        raise UnsupportedModel("clip and input_forget are not known")
    usual = USUAL[cell]
    named = [name.decode().lower() for name in attributes.get("activations", [])]
    if cell == "RNN" and named and set(named) in ({"tanh"}, {"relu"}):
        return named[0]
    if named != usual * (len(named) // len(usual)):
        raise UnsupportedModel(f"activations are {named}, expected {usual} in every direction")
    return usual[-1]


def _state(env: Environment, value: Any, swapped: bool, directions: int, batch: int, size: int) -> Addresses | None:
    """Initial states [directions, batch, size]; None if they are zero."""
    if value is None or (not isinstance(value, Tensor) and not np.any(value)):
        return None
    addresses = env.addresses(value)
    addresses = addresses.swapaxes(0, 1) if swapped else addresses
    return env.gather(np.broadcast_to(addresses, (directions, batch, size)))


class _Layer:
    """One recurrent layer; `run` lowers one direction of it."""

    def __init__(self, env: Environment, cell: str, size: int, linear: bool, activation: str):
        self.env, self.cell, self.size, self.linear, self.activation = env, cell, size, linear, activation

    def inputs(self, x: Addresses, w: np.ndarray, bias: np.ndarray) -> list[Addresses]:
        """The input's share of all gates, one product for all directions: x [T, B, I] -> [T, B, gates H] each."""
        steps, batch = x.shape[:2]
        early = bias[:, 0] + bias[:, 1]
        if self.cell == "GRU" and self.linear:
            # The recurrent bias of the hidden gate is multiplied by the reset gate, so it cannot be added beforehand.
            early[:, 2 * self.size :] = bias[:, 0, 2 * self.size :]
        weights = self.env.memory.constant(w.reshape(-1, w.shape[2]).T[None]).addresses
        offset = self.env.memory.constant(early.reshape(1, 1, -1)).addresses
        gates = self.env.contract(x.reshape(1, steps * batch, -1), weights, offset).reshape(steps, batch, -1)
        return np.split(gates, len(w), axis=2)

    def run(
        self,
        gates: Addresses,
        r: np.ndarray,
        bias: np.ndarray,
        states: list[Addresses | None],
        y: Addresses,
        last: list[Addresses],
    ) -> None:
        """gates [T, B, gates H], r [gates H, H], bias [2, gates H]; writes y [T, B, H] and last [B, H]."""
        env, size = self.env, self.size
        steps, batch = gates.shape[:2]
        late = bias[1][2 * size :] if self.cell == "GRU" and self.linear else None
        if steps == 1:
            self._step(gates[0], r, late, states, y[0], last)
            return
        recurrent = env.memory.constant(r.T).addresses
        bias_of_hidden = None if late is None else env.memory.constant(late).addresses
        chains = []
        for row in range(batch):
            chain = Chain(y[:, row], gates[:, row], recurrent, bias=bias_of_hidden, last_hidden=last[0][row])
            chain.hidden = None if states[0] is None else states[0][row]
            if self.cell == "LSTM":
                chain.cell = None if states[1] is None else states[1][row]
                chain.last_cell = last[1][row]
            chains.append(chain)
        env.kernels.append(Scan(self.cell.lower(), size, chains, self.linear, self.activation))

    def _step(
        self,
        gates: Addresses,
        r: np.ndarray,
        late: np.ndarray | None,
        states: list[Addresses | None],
        y: Addresses,
        last: list[Addresses],
    ) -> None:
        """A single step, as products and element-wise kernels that may be fused with their neighbours."""
        env, size = self.env, self.size
        hidden = states[0] if states[0] is not None else self._zeros(gates.shape[0])
        h = Tensor(hidden, FLOAT)
        given = [Tensor(gates[:, gate * size : (gate + 1) * size], FLOAT) for gate in range(GATES[self.cell])]
        if self.cell == "GRU":
            self._gru_step(given, h, r, late, y)
            return
        total = env.contract(hidden[None], env.memory.constant(r.T[None]).addresses, gates[None])[0]
        parts = [Tensor(total[:, gate * size : (gate + 1) * size], FLOAT) for gate in range(GATES[self.cell])]
        if self.cell == "RNN":
            make = lambda a: apply("tanh", a) if self.activation == "tanh" else apply("maximum", a, 0.0)  # noqa: E731
            env.copy(env.map(make, *parts).addresses, y)
            return
        before = states[1] if states[1] is not None else self._zeros(gates.shape[0])

        def memory(i: Expression, f: Expression, c: Expression, old: Expression) -> Expression:
            kept = apply("mul", apply("sigmoid", f), old)
            return apply("add", kept, apply("mul", apply("sigmoid", i), apply("tanh", c)))

        i, o, f, c = parts
        after = env.map(memory, i, f, c, Tensor(before, FLOAT))
        env.copy(after.addresses, last[1])
        out = env.map(lambda a, b: apply("mul", apply("sigmoid", a), apply("tanh", b)), o, after)
        env.copy(out.addresses, y)

    def _gru_step(self, given: list[Tensor], h: Tensor, r: np.ndarray, late: np.ndarray | None, y: Addresses) -> None:
        env, size = self.env, self.size

        def product(state: Tensor, first: int, last: int, bias: np.ndarray | None = None) -> list[Tensor]:
            weights = env.memory.constant(r[first * size : last * size].T[None]).addresses
            offset = None if bias is None else env.memory.constant(bias[None, None]).addresses
            out = env.contract(state.addresses[None], weights, offset)[0]
            return [Tensor(out[:, k * size : (k + 1) * size], FLOAT) for k in range(last - first)]

        def gate(a: Expression, b: Expression) -> Expression:
            return apply("sigmoid", apply("add", a, b))

        def mixed(z: Expression, new: Expression, old: Expression) -> Expression:
            return apply("add", new, apply("mul", z, apply("sub", old, new)))

        if self.linear:
            assert late is not None
            offset = np.concatenate([np.zeros(2 * size, np.float32), late])
            z, reset, inner = product(h, 0, 3, offset)

            def all_gates(*e: Expression) -> Expression:
                new = apply("tanh", apply("add", e[2], apply("mul", gate(e[1], e[4]), e[5])))
                return mixed(gate(e[0], e[3]), new, e[6])

            out = env.map(all_gates, *given, z, reset, inner, h)
        else:
            z, reset = product(h, 0, 2)
            after = env.map(lambda a, b, old: apply("mul", gate(a, b), old), given[1], reset, h)
            (inner,) = product(after, 2, 3)

            def hidden_gate(*e: Expression) -> Expression:
                return mixed(gate(e[0], e[1]), apply("tanh", apply("add", e[2], e[3])), e[4])

            out = env.map(hidden_gate, given[0], z, given[2], inner, h)
        env.copy(out.addresses, y)

    def _zeros(self, batch: int) -> Addresses:
        return self.env.memory.constant(np.zeros((batch, self.size), np.float32)).addresses


LOWERINGS = {cell: recurrent(cell) for cell in GATES}
