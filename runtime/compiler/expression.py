"""Expressions: what is computed for one element, as a small graph of operations.

Nodes may be shared: an expression is evaluated once per node, not once per path. Truth values are 1 and 0.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import erf, expit

from .memory import Addresses


@dataclass(frozen=True, eq=False)
class Load:
    """The numbers at these addresses; the array has the shape that the kernel asks for."""

    addresses: Addresses


@dataclass(frozen=True, eq=False)
class Number:
    value: float


@dataclass(frozen=True, eq=False)
class Result:
    """What the kernel has computed: the sum of a contraction, the mean of a reduction, and so on."""


@dataclass(frozen=True, eq=False)
class Apply:
    operation: str
    operands: "tuple[Expression, ...]"


Expression = Load | Number | Result | Apply


def _select(condition: np.ndarray, then: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    return np.where(condition != 0, then, otherwise)


def _c_fmod(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.fmod(a, b)


# Every operation, with its meaning in NumPy. Comparisons with NaN are false; `maximum` and `minimum` pass NaN on.
OPERATIONS: dict[str, Callable[..., np.ndarray]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "pow": np.power,
    "modulo": np.mod,  # sign of the divisor, as Python
    "remainder": _c_fmod,  # sign of the dividend, as C
    "maximum": np.maximum,
    "minimum": np.minimum,
    "neg": np.negative,
    "abs": np.abs,
    "sign": np.sign,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.rint,  # half to even
    "trunc": np.trunc,
    "sqrt": np.sqrt,
    "exp": np.exp,
    "log": np.log,
    "sigmoid": expit,
    "tanh": np.tanh,
    "erf": erf,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "less": np.less,
    "less_equal": np.less_equal,
    "equal": np.equal,
    "and": np.logical_and,
    "or": np.logical_or,
    "xor": np.logical_xor,
    "not": np.logical_not,
    "isnan": np.isnan,
    "isinf": np.isinf,
    "select": _select,  # condition, then, otherwise
}


def apply(operation: str, *operands: Expression | float) -> Expression:
    """An operation on expressions; plain numbers are wrapped."""
    if operation not in OPERATIONS:
        raise ValueError(f"operation {operation!r} is unknown")
    wrapped = (operand if isinstance(operand, Expression) else Number(float(operand)) for operand in operands)
    return Apply(operation, tuple(wrapped))


def loads(expression: Expression) -> list[Load]:
    """All distinct loads, in order of appearance."""
    return [node for node in walk(expression) if isinstance(node, Load)]


def walk(expression: Expression) -> Iterator[Expression]:
    """Every distinct node, operands before the operation."""
    seen: set[int] = set()
    stack: list[tuple[Expression, bool]] = [(expression, False)]
    while stack:
        node, expanded = stack.pop()
        if id(node) in seen:
            continue
        if isinstance(node, Apply) and not expanded:
            stack.append((node, True))
            stack.extend((operand, False) for operand in reversed(node.operands))
            continue
        seen.add(id(node))
        yield node


def rewrite(expression: Expression, change: Callable[[Expression], Expression]) -> Expression:
    """The same graph with every leaf (load, number, result) passed through `change`; sharing is kept."""
    done: dict[int, Expression] = {}
    for node in walk(expression):
        if isinstance(node, Apply):
            operands = tuple(done[id(operand)] for operand in node.operands)
            same = all(new is old for new, old in zip(operands, node.operands, strict=True))
            done[id(node)] = node if same else Apply(node.operation, operands)
        else:
            done[id(node)] = change(node)
    return done[id(expression)]


def operations_in(expression: Expression) -> int:
    return sum(isinstance(node, Apply) for node in walk(expression))


def evaluate(expression: Expression, load: Callable[[Addresses], np.ndarray], result: np.ndarray | None) -> np.ndarray:
    """Evaluate with NumPy in float32; `load` gives the numbers at addresses, `result` stands for Result."""
    done: dict[int, np.ndarray] = {}
    with np.errstate(all="ignore"):
        for node in walk(expression):
            match node:
                case Load():
                    value = load(node.addresses)
                case Number():
                    value = np.asarray(node.value, np.float32)
                case Result():
                    assert result is not None
                    value = result
                case Apply():
                    value = OPERATIONS[node.operation](*(done[id(operand)] for operand in node.operands))
            done[id(node)] = np.asarray(value, np.float32)
    return done[id(expression)]
