"""What every kernel means, in NumPy: slow, plain, and what all other back ends are compared with."""

from collections.abc import Callable

import numpy as np
from scipy.special import expit, log_softmax, softmax

from .expression import Expression, evaluate
from .memory import Addresses, Buffer, buffer_numbers, offsets
from .program import Chain, Contract, Cumulate, Kernel, Map, Normalize, Program, Reduce, Scan, Softmax

REDUCTIONS: dict[str, Callable[..., np.ndarray]] = {"sum": np.sum, "max": np.max, "min": np.min, "prod": np.prod}


class Reference:
    """Runs a program with NumPy; at any stage of its translation, rings and all."""

    def __init__(self, program: Program):
        self.program = program
        self.numbers = [np.zeros(buffer.size, np.float32) for buffer in program.memory.buffers]
        self.positions = [0] * len(self.numbers)
        self.reset()

    def reset(self) -> None:
        for buffer in self.program.memory.buffers:
            self.numbers[buffer.number][:] = 0 if buffer.data is None else buffer.data
            self.positions[buffer.number] = 0

    def load(self, addresses: Addresses) -> np.ndarray:
        numbers = buffer_numbers(addresses)
        out = np.empty(addresses.shape, np.float32)
        for number in np.unique(numbers).tolist():
            here = numbers == number
            out[here] = self.numbers[number][self._places(number, addresses[here])]
        return out

    def store(self, addresses: Addresses, values: np.ndarray) -> None:
        numbers = buffer_numbers(addresses)
        values = np.broadcast_to(np.asarray(values, np.float32), addresses.shape)
        for number in np.unique(numbers).tolist():
            here = numbers == number
            self.numbers[number][self._places(number, addresses[here])] = values[here]

    def _places(self, number: int, addresses: Addresses) -> np.ndarray:
        buffer: Buffer = self.program.memory.buffers[number]
        places = offsets(addresses)
        if buffer.ring is None:
            return places
        ring = buffer.ring
        slot = places // ring.stride % (2 * ring.slots)
        moved = (slot + self.positions[number]) % (2 * ring.slots)
        return places + (moved - slot) * ring.stride

    def step(self) -> None:
        for kernel in self.program.kernels:
            self.run(kernel)
        following = [self.load(state.following) for state in self.program.states]
        for state, value in zip(self.program.states, following, strict=True):
            self.store(state.current, value)
        for buffer in self.program.memory.buffers:
            if buffer.ring is not None:
                self.positions[buffer.number] = (self.positions[buffer.number] + buffer.ring.step) % buffer.ring.slots

    def value(self, expression: Expression, result: np.ndarray | None = None) -> np.ndarray:
        return evaluate(expression, self.load, result)

    def run(self, kernel: Kernel) -> None:
        match kernel:
            case Map():
                self.store(kernel.out, self.value(kernel.value))
            case Contract():
                a, b = self.load(kernel.a).astype(np.float64), self.load(kernel.b).astype(np.float64)
                self.store(kernel.out, self.value(kernel.value, (a @ b).astype(np.float32)))
            case Reduce():
                source = self.value(kernel.source).astype(np.float64)
                self.store(kernel.out, self.value(kernel.value, REDUCTIONS[kernel.how](source, 1).astype(np.float32)))
            case Normalize():
                x = self.value(kernel.source).astype(np.float64)
                if kernel.centered:
                    x -= x.mean(1, keepdims=True)
                x /= np.sqrt((x * x).mean(1, keepdims=True) + kernel.epsilon)
                self.store(kernel.out, self.value(kernel.value, x.astype(np.float32)))
            case Softmax():
                x = self.value(kernel.source).astype(np.float64)
                with np.errstate(invalid="ignore"):  # a row of minus infinities is no number
                    normal = (log_softmax if kernel.logarithm else softmax)(x, axis=1)
                self.store(kernel.out, self.value(kernel.value, normal.astype(np.float32)))
            case Cumulate():
                self._cumulate(kernel)
            case Scan():
                for chain in kernel.chains:
                    self._chain(kernel, chain)

    def _cumulate(self, kernel: Cumulate) -> None:
        source = np.broadcast_to(self.value(kernel.source), kernel.out.shape)
        factor = np.ones_like(source) if kernel.factor is None else self.value(kernel.factor)
        factor = np.broadcast_to(factor, kernel.out.shape)
        total = np.zeros(len(source)) if kernel.initial is None else self.load(kernel.initial).astype(np.float64)
        out = np.empty(source.shape, np.float32)
        for t in range(source.shape[1]):
            before = total
            total = total * factor[:, t] + source[:, t]
            out[:, t] = before if kernel.exclusive else total
        self.store(kernel.out, out)

    def _chain(self, scan: Scan, chain: Chain) -> None:
        size = scan.hidden_size
        gates, recurrent = self.load(chain.gates).astype(np.float64), self.load(chain.recurrent).astype(np.float64)
        hidden = np.zeros(size) if chain.hidden is None else self.load(chain.hidden).astype(np.float64)
        cell = np.zeros(size) if chain.cell is None else self.load(chain.cell).astype(np.float64)
        bias = np.zeros(size) if chain.bias is None else self.load(chain.bias).astype(np.float64)
        for t, gate in enumerate(gates):
            if scan.cell == "lstm":
                i, o, f, c = (gate + hidden @ recurrent).reshape(4, size)
                cell = expit(f) * cell + expit(i) * np.tanh(c)
                hidden = expit(o) * np.tanh(cell)
            elif scan.cell == "gru":
                z, r = expit(gate[: 2 * size] + hidden @ recurrent[:, : 2 * size]).reshape(2, size)
                own = recurrent[:, 2 * size :]
                inner = r * (hidden @ own + bias) if scan.linear_before_reset else (r * hidden) @ own + bias
                hidden = (1 - z) * np.tanh(gate[2 * size :] + inner) + z * hidden
            else:
                pre = gate + hidden @ recurrent
                hidden = np.tanh(pre) if scan.activation == "tanh" else np.maximum(pre, 0)
            self.store(chain.out[t], hidden)
        if chain.last_hidden is not None:
            self.store(chain.last_hidden, hidden)
        if chain.last_cell is not None:
            self.store(chain.last_cell, cell)
