"""What the lowering of a node may use: values by name, and kernels by the kind of work."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx

from ...errors import UnsupportedModel
from ..expression import Expression, Load, Number, Result, apply
from ..memory import Addresses, Buffer, Memory, buffer_numbers, offsets
from ..program import Contract, Kernel, Map


@dataclass(frozen=True, eq=False)
class Tensor:
    """A value that is known when the model runs. Memory holds float32; `dtype` says what ONNX thinks it is."""

    addresses: Addresses
    dtype: np.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.addresses.shape)

    def view(self, addresses: Addresses) -> "Tensor":
        return Tensor(addresses, self.dtype)


class Environment:
    """Values of a graph, and the kernels written so far.

    Constants are NumPy arrays. A node whose inputs are all constant is evaluated when the model is compiled.
    """

    def __init__(self, opset: int, functions: dict[tuple[str, str, str], onnx.FunctionProto]):
        self.opset, self.functions = opset, functions
        self.memory = Memory()
        self.kernels: list[Kernel] = []
        self.values: dict[str, Any] = {}
        self._gathered: dict[bytes, Addresses] = {}

    # Values

    def addresses(self, value: Any) -> Addresses:
        """Addresses of a value; constants are put into memory."""
        if isinstance(value, Tensor):
            return value.addresses
        return self.memory.constant(np.asarray(value)).addresses

    def tensor(self, value: Any) -> Tensor:
        """A value as a tensor, even if it is constant."""
        return value if isinstance(value, Tensor) else Tensor(self.addresses(value), np.asarray(value).dtype)

    @contextmanager
    def scope(self, values: dict[str, Any], opset: int) -> Iterator[None]:
        """Inside, these are the values that are known by name: the body of a function, a branch."""
        outer = self.values, self.opset
        self.values, self.opset = values, opset
        try:
            yield
        finally:
            self.values, self.opset = outer

    def fresh(self, shape: Sequence[int]) -> Addresses:
        return self.memory.new("scratch", tuple(shape)).addresses

    def gather(self, addresses: Addresses) -> Addresses:
        """The same numbers in one buffer, as kernels need them; copied there if they are scattered."""
        if not addresses.size or len(np.unique(buffer_numbers(addresses))) == 1:
            return addresses
        key = np.ascontiguousarray(addresses).tobytes() + str(addresses.shape).encode()
        if key not in self._gathered:
            buffer = self.memory.new("scratch", addresses.shape)
            self._fill_constants(buffer, buffer.addresses, addresses)
            self.copy(addresses, buffer.addresses)
            self._gathered[key] = buffer.addresses
        return self._gathered[key]

    def _fill_constants(self, buffer: Buffer, target: Addresses, addresses: Addresses) -> None:
        """What never changes is written once and kept, for instance the border of a padded tensor."""
        for source in self.memory.owners(addresses):
            if source.kind == "constant" and source.data is not None:
                here = buffer_numbers(addresses) == source.number
                if buffer.data is None:
                    buffer.data, buffer.kept = np.zeros(buffer.size, np.float32), True
                buffer.data[offsets(target[here])] = source.data[offsets(addresses[here])]

    def settled(self, addresses: Addresses) -> Addresses:
        """Gather what is scattered over results; what has to do with states is left for later passes to place."""
        kinds = {buffer.kind for buffer in self.memory.owners(addresses)} if addresses.size else {"state"}
        return addresses if "state" in kinds or kinds == {"constant"} else self.gather(addresses)

    def copy(self, source: Addresses, target: Addresses) -> None:
        """Copy, one kernel for each buffer that numbers come from."""
        source = np.broadcast_to(source, target.shape)
        kept = self.memory.owner(target.flat[:1]).kept
        for buffer in self.memory.owners(source):
            here = buffer_numbers(source) == buffer.number
            if buffer.kind == "constant" and kept and self.memory.owner(target.flat[:1]).kind == "scratch":
                continue  # it is there already
            if here.all():
                self.kernels.append(Map(target, Load(source)))
            else:
                self.kernels.append(_piece(source, target, here))

    def bordered(self, addresses: Addresses, pads: Sequence[tuple[int, int]], fill: float = 0.0) -> Addresses:
        """The tensor between borders that are set once and stay; one pair (before, after) per axis."""
        if not any(before or after for before, after in pads):
            return self.gather(addresses)
        key = np.ascontiguousarray(addresses).tobytes() + f"{addresses.shape}{pads}{fill}".encode()
        if key not in self._gathered:
            shape = [size + before + after for size, (before, after) in zip(addresses.shape, pads, strict=True)]
            buffer = self.memory.new("scratch", tuple(shape), kept=True)
            if fill:
                buffer.data = np.full(buffer.size, fill, np.float32)
            inner = tuple(slice(before, before + size) for size, (before, _) in zip(addresses.shape, pads, strict=True))
            self._fill_constants(buffer, buffer.addresses[inner], addresses)
            self.copy(addresses, buffer.addresses[inner])
            self._gathered[key] = buffer.addresses
        return self._gathered[key]

    # Kernels

    def load(self, value: Any, shape: Sequence[int]) -> Expression:
        """An operand of an expression, broadcast."""
        if not isinstance(value, Tensor):
            value = np.asarray(value)
            if value.size == 1:
                return Number(float(value.ravel()[0]))
        return Load(np.broadcast_to(self.gather(self.addresses(value)), tuple(shape)))

    def map(self, make: Callable[..., Expression], *values: Any, dtype: Any = np.float32) -> Tensor:
        """Element by element: `make` gets one expression per value, all broadcast together."""
        shape = np.broadcast_shapes(*(value.shape for value in values))
        value = make(*(self.load(value, shape) for value in values))
        out = self.fresh(shape)
        if out.size:
            self.kernels.append(Map(out, value))
        return Tensor(out, np.dtype(dtype))

    def contract(self, a: Addresses, b: Addresses, bias: Addresses | None = None) -> Addresses:
        """[G, M, K] times [G, K, N] plus a bias that is broadcast; returns [G, M, N]."""
        a, b = self.gather(a), self.gather(b)
        out = self.fresh((a.shape[0], a.shape[1], b.shape[2]))
        value: Expression = Result()
        if bias is not None:
            value = apply("add", value, Load(np.broadcast_to(self.gather(bias), out.shape)))
        if not a.shape[2]:
            raise UnsupportedModel("a sum over no terms")
        if out.size:
            self.kernels.append(Contract(out, a, b, value))
        return out


def _piece(source: Addresses, target: Addresses, here: np.ndarray) -> Map:
    """A copy of a part; as a box where it is one, so that its shape stays known."""
    corners = [(int(index.min()), int(index.max()) + 1) for index in np.nonzero(here)]
    box = tuple(slice(first, last) for first, last in corners)
    if here[box].all() and prod(last - first for first, last in corners) == here.sum():
        return Map(target[box], Load(source[box]))
    return Map(target[here], Load(source[here]))
