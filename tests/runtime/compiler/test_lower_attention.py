"""Attention of opset 23 against ONNX Runtime, with the memories of a stream around it."""

import numpy as np
import pytest
from onnx import helper

from hearloop.runtime.errors import UnsupportedModel

from .running import agree, model_of

HEADS, SIZE, PAST = 2, 8, 9


def stream(**attributes):
    """A frame looks at itself and at the entries before it; three inputs, two of them remembered."""
    rows = {"start": np.array([1]), "end": np.array([99]), "axis": np.array([1])}
    nodes = [
        helper.make_node("Concat", ["k", "q"], ["keys"], axis=1),
        helper.make_node("Concat", ["v", "q"], ["values"], axis=1),
        helper.make_node("Attention", ["q", "keys", "values", *attributes.pop("mask", [])], ["y"], **attributes),
        helper.make_node("Slice", ["keys", *rows], ["k_out"]),
        helper.make_node("Slice", ["values", *rows], ["v_out"]),
    ]
    shapes = {"q": (1, 1, HEADS * SIZE), "k": (1, PAST, HEADS * SIZE), "v": (1, PAST, HEADS * SIZE)}
    return nodes, {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}, rows


def of_opset_23(nodes, inputs, outputs, constants):
    model = model_of(nodes, inputs, outputs, constants, opset=23)
    model.ir_version = 11
    return model


@pytest.mark.parametrize("attributes", [{}, {"scale": 0.5}, {"softcap": 2.0}])
def test_a_frame_that_looks_at_a_memory(way, attributes, rng):
    """As PyTorch exports scaled_dot_product_attention from opset 23 on; it was refused."""
    nodes, inputs, rows = stream(q_num_heads=HEADS, kv_num_heads=HEADS, **attributes)
    feeds = [{"q": rng.standard_normal(inputs["q"].shape).astype(np.float32)} for _ in range(2 * PAST)]
    model = of_opset_23(nodes, inputs, ["y", "k_out", "v_out"], rows)
    agree(way, model, feeds, {"k": "k_out", "v": "v_out"})


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("kind", [np.bool_, np.float32])
def test_a_mask(way, kind, known, rng):
    seen = np.arange(PAST + 1) % 3 > 0
    mask = (seen if kind is np.bool_ else np.where(seen, 0, -np.inf).astype(np.float32))[None]
    nodes, inputs, constants = stream(q_num_heads=HEADS, kv_num_heads=HEADS, mask=["mask"])
    inputs |= {} if known else {"mask": mask}
    constants |= {"mask": mask} if known else {}
    feeds = [{"q": rng.standard_normal(inputs["q"].shape).astype(np.float32)} for _ in range(3)]
    feeds = [feed if known else feed | {"mask": mask} for feed in feeds]
    model = of_opset_23(nodes, inputs, ["y", "k_out", "v_out"], constants)
    agree(way, model, feeds, {"k": "k_out", "v": "v_out"})


def test_frames_that_do_not_look_ahead(way, rng):
    """Four heads of queries share two of keys; every query sees the past, itself and what is between."""
    shapes = {"q": (1, 4, 3, SIZE), "k": (1, 2, 3, SIZE), "v": (1, 2, 3, 5)}
    shapes |= {"past_k": (1, 2, PAST, SIZE), "past_v": (1, 2, PAST, 5)}
    feed = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    node = helper.make_node("Attention", ["q", "k", "v", "", "past_k", "past_v"], ["y", "keys", "values"], is_causal=1)
    agree(way, of_opset_23([node], feed, ["y", "keys", "values"], {}), [feed])


def test_scores_are_not_given(way):
    feed = {name: np.zeros((1, 1, 2, 4), np.float32) for name in "qkv"}
    node = helper.make_node("Attention", ["q", "k", "v"], ["y", "", "", "scores"])
    with pytest.raises(UnsupportedModel, match=r"node 'y' \(Attention\): the scores are asked for"):
        way(of_opset_23([node], feed, ["y", "scores"], {}))
