"""Matrix products: every form becomes one batch of products [G, M, K] times [G, K, N]."""

from typing import Any

import numpy as np

from ...errors import UnsupportedModel
from ..expression import apply
from ..memory import Addresses
from .environment import Environment, Tensor


def matmul(env: Environment, attributes: dict[str, Any], a: Any, b: Any, **_: Any) -> Tensor:
    x, y = env.addresses(a), env.addresses(b)
    row, column = x.ndim == 1, y.ndim == 1
    x, y = (x[None] if row else x), (y[:, None] if column else y)
    batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    shape = (*batch, x.shape[-2], y.shape[-1])
    if y.ndim == 2 or y.size == y.shape[-1] * y.shape[-2]:
        # One matrix for all: its rows are the rows of all batches.
        rows = np.broadcast_to(x, (*batch, *x.shape[-2:])).reshape(1, -1, x.shape[-1])
        out = env.contract(rows, y.reshape(1, *y.shape[-2:]))
    else:
        groups = int(np.prod(batch))
        left = np.broadcast_to(x, (*batch, *x.shape[-2:])).reshape(groups, *x.shape[-2:])
        right = np.broadcast_to(y, (*batch, *y.shape[-2:])).reshape(groups, *y.shape[-2:])
        out = env.contract(left, right)
    out = out.reshape(shape)
    if row:
        out = out[..., 0, :]
    if column:
        out = out[..., 0]
    return Tensor(out, np.dtype(np.float32))


def gemm(env: Environment, attributes: dict[str, Any], a: Any, b: Any, c: Any = None, **_: Any) -> Tensor:
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    if not isinstance(b, Tensor):
        b, alpha = np.asarray(b) * np.float32(alpha), 1.0
    x, y = env.addresses(a), env.addresses(b)
    x, y = (x.T if attributes.get("transA") else x), (y.T if attributes.get("transB") else y)
    if c is not None and not isinstance(c, Tensor):
        c, beta = np.asarray(c) * np.float32(beta), 1.0
    if alpha == 1 and beta == 1:
        bias = None if c is None else env.addresses(c)
        out = env.contract(x[None], y[None], bias)[0]
        return Tensor(out, np.dtype(np.float32))
    product = Tensor(env.contract(x[None], y[None])[0], np.dtype(np.float32))
    if c is None:
        return env.map(lambda p: apply("mul", p, alpha), product)
    return env.map(lambda p, q: apply("add", apply("mul", p, alpha), apply("mul", q, beta)), product, c)


def einsum(env: Environment, attributes: dict[str, Any], *operands: Any, **_: Any) -> Tensor:
    """Two operands, each letter once in each: batch, row, column and summed letters."""
    equation = attributes["equation"].decode().replace(" ", "")
    if len(operands) == 1:
        return _einsum_one(env, equation, operands[0])
    if "->" not in equation or len(operands) != 2 or "." in equation:
        raise UnsupportedModel(f"einsum {equation!r}; expected two operands, an arrow and no ellipsis")
    terms, result = equation.split("->")
    left, right = terms.split(",")
    if any(len(set(term)) != len(term) for term in (left, right)):
        raise UnsupportedModel(f"einsum {equation!r}: a letter twice in one operand")
    sizes = dict(zip(left + right, (*operands[0].shape, *operands[1].shape), strict=True))
    batch = [letter for letter in result if letter in left and letter in right]
    rows = [letter for letter in left if letter not in right]
    columns = [letter for letter in right if letter not in left]
    summed = [letter for letter in left if letter in right and letter not in result]
    if set(rows + columns + batch) != set(result):
        raise UnsupportedModel(f"einsum {equation!r}: a letter of one operand is summed alone")

    def arranged(value: Any, term: str, order: list[list[str]]) -> Addresses:
        letters = [letter for group in order for letter in group]
        view = env.addresses(value).transpose([term.index(letter) for letter in letters])
        return view.reshape([int(np.prod([sizes[letter] for letter in group])) for group in order])

    out = env.contract(
        arranged(operands[0], left, [batch, rows, summed]), arranged(operands[1], right, [batch, summed, columns])
    )
    found = batch + rows + columns
    out = out.reshape([sizes[letter] for letter in found])
    return Tensor(out.transpose([found.index(letter) for letter in result]), np.dtype(np.float32))


def _einsum_one(env: Environment, equation: str, operand: Tensor) -> Tensor:
    term, _, result = equation.partition("->")
    if sorted(term) != sorted(result) or len(set(term)) != len(term):
        raise UnsupportedModel(f"einsum {equation!r}; expected a transposition")
    return operand.view(operand.addresses.transpose([term.index(letter) for letter in result]))


LOWERINGS = {"MatMul": matmul, "Gemm": gemm, "Einsum": einsum}
