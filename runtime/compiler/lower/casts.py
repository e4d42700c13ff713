"""Types: memory holds float32 whatever ONNX calls it, so an integer is what an operation leaves of a number."""

from typing import Any

import numpy as np
import onnx

from ...errors import UnsupportedModel
from ..expression import Expression, apply
from .environment import Environment, Tensor


def as_type(x: Expression, dtype: Any) -> Expression:
    """A result as this type has it: integers are cut towards zero."""
    return apply("trunc", x) if np.issubdtype(dtype, np.integer) else x


def wrapped(x: Expression, dtype: Any) -> Expression:
    """What the bits of an integer type keep of a whole number: behind the largest comes the smallest."""
    lowest, count = float(np.iinfo(dtype).min), 2.0 ** np.iinfo(dtype).bits
    return apply("sub", x, apply("mul", count, apply("floor", apply("div", apply("sub", x, lowest), count))))


def cast(env: Environment, attributes: dict[str, Any], x: Any, like: Any = None, **_: Any) -> Any:
    target = np.dtype(like.dtype if like is not None else onnx.helper.tensor_dtype_to_np_dtype(attributes["to"]))
    source = np.dtype(x.dtype)
    if not isinstance(x, Tensor):  # only the type comes from a value that is computed
        return np.asarray(x).astype(target)
    if target == np.bool_:
        return env.map(lambda a: apply("not", apply("equal", a, 0.0)), x, dtype=target)
    if target.kind not in "fiu":
        raise UnsupportedModel(f"a cast to {target}")
    if target.kind == "f" or np.can_cast(source, target):
        return Tensor(x.addresses, target)
    whole = env.map(lambda a: as_type(a, target), x) if source.kind == "f" else x
    if target in (np.int32, np.int64):  # they hold every integer that is exact in memory
        return Tensor(whole.addresses, target)
    return env.map(lambda a: wrapped(a, target), whole, dtype=target)


LOWERINGS = {"Cast": cast, "CastLike": cast}
