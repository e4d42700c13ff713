"""Attention, which opset 23 brought, put together from the products and the softmax that it stands for."""

from typing import Any

import numpy as np

from ...errors import UnsupportedModel
from ..expression import apply
from .contraction import matmul
from .elementwise import where
from .environment import Environment, Tensor
from .normalization import softmax
from .reduction import reduction

ANYWHERE, NOWHERE = np.float32(0), np.float32(-np.inf)  # what a mask adds to a score


def _by_head(env: Environment, value: Any, heads: int | None) -> Any:
    """[batch, head, entry, size], also of [batch, entry, head * size]; heads only move addresses about."""
    x = env.tensor(value)
    if len(x.shape) == 4:
        return x
    if not heads:
        raise UnsupportedModel(f"an operand has shape {list(x.shape)} and the number of heads is not given")
    return x.view(x.addresses.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2))


def _joined(env: Environment, past: Any, x: Tensor) -> Tensor:
    """What was remembered, then what is new."""
    if past is None:
        return x
    return x.view(env.settled(np.concatenate([env.addresses(past), x.addresses], 2)))


def _repeated(x: Tensor, heads: int) -> Tensor:
    """Several heads of the queries share one of keys and values."""
    return x.view(np.repeat(x.addresses, heads // x.shape[1], 1))


def _bias(env: Environment, mask: Any, causal: bool, past: int, queries: int, entries: int) -> Any:
    """What is added to the scores: minus infinity where a query may not look; None if all may look anywhere."""
    if mask is not None and mask.shape[-1] != entries:
        raise UnsupportedModel(f"the mask has shape {list(mask.shape)}, expected {entries} entries in its last axis")
    if mask is not None and mask.dtype == np.bool_:
        known = not isinstance(mask, Tensor)
        mask = np.where(mask, ANYWHERE, NOWHERE) if known else where(env, {}, mask, ANYWHERE, NOWHERE)
    if not causal:
        return mask
    later = np.arange(entries) > past + np.arange(queries)[:, None]
    triangle = np.where(later, NOWHERE, ANYWHERE)
    if isinstance(mask, Tensor):
        return env.map(lambda a, b: apply("add", a, b), mask, triangle)
    return triangle if mask is None else mask + triangle


def _blinded(env: Environment, weights: Tensor, bias: Any) -> Tensor:
    """A query that may look nowhere gets 0 of everything, where the softmax has no number."""
    if not isinstance(bias, Tensor):
        most = bias.max(-1, keepdims=True)
        if not np.isneginf(most).any():
            return weights
    else:
        most = reduction("ReduceMax")(env, {}, bias, np.array([-1]))
    return env.map(lambda w, m: apply("select", apply("equal", m, -np.inf), 0.0, w), weights, most)


def attention(
    env: Environment,
    attributes: dict[str, Any],
    q: Any,
    k: Any,
    v: Any,
    mask: Any = None,
    past_key: Any = None,
    past_value: Any = None,
    lengths: Any = None,
    outputs: int = 1,
) -> list[Any]:
    if lengths is not None:
        raise UnsupportedModel("nonpad_kv_seqlen is given; expected none")
    if outputs > 3:
        raise UnsupportedModel("the scores are asked for; expected the result, the keys and the values")
    for side in ("left_window_size", "right_window_size"):
        if attributes.get(side, -1) != -1:
            raise UnsupportedModel(f"{side} is {attributes[side]}, expected -1")
    flat = len(q.shape) == 3
    q = _by_head(env, q, attributes.get("q_num_heads"))
    k, v = (_by_head(env, value, attributes.get("kv_num_heads")) for value in (k, v))
    keys, values = _joined(env, past_key, k), _joined(env, past_value, v)
    _, heads, queries, size = q.shape
    entries, cap = keys.shape[2], attributes.get("softcap", 0.0)
    scale = attributes.get("scale") or 1 / np.sqrt(size)
    bias = _bias(env, mask, bool(attributes.get("is_causal", 0)), entries - k.shape[2], queries, entries)

    across = _repeated(keys, heads).addresses.swapaxes(2, 3)
    scores = matmul(env, {}, env.map(lambda x: apply("mul", x, scale), q), keys.view(across))
    if cap:
        scores = env.map(lambda x: apply("mul", apply("tanh", apply("div", x, cap)), cap), scores)
    if bias is not None:
        scores = env.map(lambda x, b: apply("add", x, b), scores, bias)
    weights = softmax(False)(env, {"axis": -1}, scores)
    if bias is not None:
        weights = _blinded(env, weights, bias)
    y = matmul(env, {}, weights, _repeated(values, heads))
    if flat:
        y = y.view(y.addresses.swapaxes(1, 2).reshape(y.shape[0], queries, -1))
    return [y, keys, values][:outputs]


LOWERINGS: dict[str, Any] = {"Attention": attention}
