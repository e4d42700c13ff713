"""Constant gains and offsets behind a contraction: gains go into the weights, offsets are added up beforehand.

This is what folds a batch normalisation into the convolution before it.
"""

import numpy as np

from ..expression import Apply, Expression, Load, Number, Result, apply, rewrite, walk
from ..memory import Addresses, Memory, offsets
from ..program import Contract, Program
from .uses import buffer_number


def fold_affine(program: Program) -> None:
    """Fold constant factors behind contractions into their constant operands."""
    for kernel in program.kernels:
        if isinstance(kernel, Contract):
            _fold(program.memory, kernel)


def _fold(memory: Memory, kernel: Contract) -> None:
    gain, offset, top, depth = _affine_chain(memory, kernel)
    if depth == 0:
        return
    if (gain == 1).all():
        if depth == 1:
            return
    elif _constant(memory, kernel.a) and (gain == gain[:, :, :1]).all():
        kernel.a = memory.constant(_values(memory, kernel.a) * gain[:, :, :1]).addresses
    elif _constant(memory, kernel.b) and (gain == gain[:, :1, :]).all():
        kernel.b = memory.constant(_values(memory, kernel.b) * gain[:, :1, :]).addresses
    else:
        return
    start: Expression = Result()
    if offset.any():
        start = apply("add", start, Load(_compressed(memory, offset)))
    kernel.value = _replace(kernel.value, top, start)


def _affine_chain(memory: Memory, kernel: Contract) -> tuple[np.ndarray, np.ndarray, Expression, int]:
    """Follow additions of and multiplications by constants up from the result: gain, offset, last node, length."""
    shape = kernel.out.shape
    gain, offset = np.ones(shape), np.zeros(shape)
    parents: dict[int, list[Apply]] = {}
    top: Expression | None = None
    for node in walk(kernel.value):
        if isinstance(node, Result):
            if top is not None:
                return gain, offset, node, 0  # two nodes for the result: left alone
            top = node
        if isinstance(node, Apply):
            for operand in node.operands:
                parents.setdefault(id(operand), []).append(node)
    assert top is not None
    depth = 0
    while len(above := parents.get(id(top), [])) == 1:
        node = above[0]
        others = [operand for operand in node.operands if operand is not top]
        if len(node.operands) != 2 or len(others) != 1 or (other := _number(memory, others[0], shape)) is None:
            break
        first = node.operands[0] is top
        if node.operation == "add":
            offset = offset + other
        elif node.operation == "sub" and first:
            offset = offset - other
        elif node.operation == "sub":
            gain, offset = -gain, other - offset
        elif node.operation == "mul":
            gain, offset = gain * other, offset * other
        elif node.operation == "div" and first and other.all():
            gain, offset = gain / other, offset / other
        else:
            break
        top, depth = node, depth + 1
    return gain, offset, top, depth


def _replace(value: Expression, old: Expression, new: Expression) -> Expression:
    if value is old:
        return new
    if isinstance(old, Result):
        return rewrite(value, lambda leaf: new if leaf is old else leaf)
    done: dict[int, Expression] = {id(old): new}
    for node in walk(value):
        if id(node) in done:
            continue
        if isinstance(node, Apply):
            done[id(node)] = Apply(node.operation, tuple(done[id(operand)] for operand in node.operands))
        else:
            done[id(node)] = node
    return done[id(value)]


def _number(memory: Memory, node: Expression, shape: tuple[int, ...]) -> np.ndarray | None:
    if isinstance(node, Number):
        return np.full(shape, node.value)
    if isinstance(node, Load) and _constant(memory, node.addresses):
        return _values(memory, node.addresses)
    return None


def _constant(memory: Memory, addresses: Addresses) -> bool:
    return memory.buffers[buffer_number(addresses)].kind == "constant"


def _values(memory: Memory, addresses: Addresses) -> np.ndarray:
    data = memory.buffers[buffer_number(addresses)].data
    assert data is not None
    return data[offsets(addresses)].astype(np.float64)


def _compressed(memory: Memory, values: np.ndarray) -> Addresses:
    """A constant without the axes along which nothing changes, read as if it had them."""
    small = values
    for axis in range(values.ndim):
        if (small == small.take([0], axis)).all():
            small = small.take([0], axis)
    return np.broadcast_to(memory.constant(small).addresses, values.shape)
