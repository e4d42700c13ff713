"""Types: memory holds float32 whatever ONNX calls it, so an integer is what an operation leaves of a number."""

from typing import Any

import numpy as np
import onnx

from ...errors import UnsupportedModel
from ..expression import Expression, apply
from .environment import Environment, Tensor

WIDE = (np.int32, np.int64)  # they hold every integer that is exact in memory


def as_type(x: Expression, dtype: Any) -> Expression:
    """A result as this type has it: integers are cut towards zero."""
    return apply("trunc", x) if np.issubdtype(dtype, np.integer) else x


def kept(x: Expression, dtype: Any) -> Expression:
    """What the bits of a type keep of a whole number: behind the largest of a narrow one comes the smallest."""
    if not np.issubdtype(dtype, np.integer) or dtype in WIDE:
        return x
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
    if target in WIDE:
        return Tensor(whole.addresses, target)
    return env.map(lambda a: kept(a, target), whole, dtype=target)


LOWERINGS = {"Cast": cast, "CastLike": cast}
