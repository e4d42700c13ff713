"""Functions of the domain `hearloop` that are known by name, because kernels say them better than their bodies."""

from typing import Any

import numpy as np

from ..expression import Load, apply
from ..memory import Addresses
from ..program import Cumulate
from .environment import Environment, Tensor

FLOAT = np.dtype(np.float32)


def selective_scan(
    env: Environment,
    attributes: dict[str, Any],
    x: Any,
    dt: Any,
    a: Any,
    b: Any,
    c: Any,
    d: Any,
    state: Any,
    **_: Any,
) -> list[Tensor]:
    """h_l = exp(dt_l a) h_(l-1) + dt_l b_l x_l^T, y_l = h_l^T c_l + d x_l, as a recurrence.

    x [S, L, H, P], dt [S, L, H], a and d [H], b and c [S, L, N], state [S, H, N, P]. The body sums over all pairs of
    entries, of which there are L times more than entries.
    """
    sequences, length, heads, width = x.shape
    states = b.shape[2]
    decay = env.map(lambda s, r: apply("exp", apply("mul", s, r)), dt, a)
    entered = env.map(lambda s, v: apply("mul", s, v), Tensor(env.addresses(dt)[..., None], FLOAT), x)
    # [S, L, H, N, P]: what lies side by side, the channels of a head, runs side by side.
    shape = (sequences, length, heads, states, width)
    operands = (
        np.broadcast_to(decay.addresses[..., None, None], shape),
        np.broadcast_to(entered.addresses[:, :, :, None], shape),
        np.broadcast_to(env.gather(env.addresses(b))[:, :, None, :, None], shape),
    )
    h = env.fresh(shape)
    decays, inputs, weights = (_along(operand, length) for operand in operands)
    before = env.addresses(state).reshape(-1) if isinstance(state, Tensor) or np.any(state) else None
    env.kernels.append(
        Cumulate(
            _along(h, length),
            apply("mul", Load(inputs), Load(weights)),
            Load(decays),
            None if before is None else env.gather(before),
        )
    )
    rows = np.broadcast_to(env.addresses(c)[:, :, None, None], (sequences, length, heads, 1, states))
    summed = env.contract(rows.reshape(-1, 1, states), h.reshape(-1, states, width)).reshape(x.shape)
    y = env.map(
        lambda total, gain, v: apply("add", total, apply("mul", gain, v)),
        Tensor(summed, FLOAT),
        Tensor(env.addresses(d)[:, None], FLOAT),
        x,
    )
    return [y, Tensor(h[:, -1], FLOAT)]


def _along(addresses: Addresses, length: int) -> Addresses:
    """[S, L, ...] as rows along the sequence: [S * ..., L]."""
    return np.moveaxis(addresses, 1, -1).reshape(-1, length)


LOWERINGS = {"SelectiveScan": selective_scan}
