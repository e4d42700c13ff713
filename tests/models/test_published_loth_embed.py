"""The published enrolment network of Look Once to Hear: golden vectors, and every tensor accounted for."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hearloop.models.published import load
from hearloop.runtime.errors import HearloopError

GOLDEN = Path(__file__).parent / "golden" / "loth_embed.npz"
PUBLISHED = {
    "embed_dim": 256,
    "num_ch": 2,
    "n_fft": 128,
    "stride": 64,
    "num_blocks": 3,
    "emb_dim": 64,
    "lstm_hidden_units": 64,
    "attn_n_head": 4,
    "emb_ks": 4,
    "emb_hs": 1,
}


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(GOLDEN))


@pytest.fixture(scope="module")
def config(golden):
    return json.loads(str(golden["config"]))


@pytest.fixture(scope="module")
def weights(golden):
    return {key.removeprefix("sd/"): value for key, value in golden.items() if key.startswith("sd/")}


def error(found, expected) -> float:
    """Largest difference as a fraction of the standard deviation."""
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / expected.std())


def test_the_embedding_and_what_leads_to_it_are_as_published(weights, config, golden):
    network = load("loth_embed", weights, config).requires_grad_(False)
    layers = {"conv": network.conv, "block0": network.blocks[0], "block1": network.blocks[1]}
    layers["proj"] = network.embed_proj
    taps = {}
    for name, layer in layers.items():
        layer.register_forward_hook(lambda layer, inputs, output, name=name: taps.update({name: output.numpy()}))
    embedding = network(torch.from_numpy(golden["enroll"])).numpy()
    assert error(embedding, golden["embed"]) <= 1e-4
    for name, found in taps.items():
        assert error(found, golden[f"tap/{name}"]) <= 2e-4, name


def test_the_level_of_the_recording_does_not_matter(weights, config, golden):
    network = load("loth_embed", weights, config).requires_grad_(False)
    enroll = torch.from_numpy(golden["enroll"])
    np.testing.assert_allclose(network(100 * enroll), network(enroll), atol=1e-5)


def test_a_missing_a_surplus_and_a_misshapen_tensor_are_named(weights, config):
    name = "blocks.1.attn_conv_V_1.2.gamma"
    with pytest.raises(HearloopError, match=f"1 tensors are missing, the first is '{name}'"):
        load("loth_embed", {key: value for key, value in weights.items() if key != name}, config)
    with pytest.raises(HearloopError, match=r"tensor 'film.weight' has no place"):
        load("loth_embed", weights | {"film.weight": np.zeros(3, np.float32)}, config)
    with pytest.raises(HearloopError, match=rf"tensor '{name}' has shape \[1, 4\], expected"):
        load("loth_embed", weights | {name: weights[name][:, :, 0, 0]}, config)


def test_the_published_size_has_the_published_tensors(shared):
    lines = (shared / "models" / "published-keys" / "loth_embed.tsv").read_text().splitlines()
    shapes = {key: [int(size) for size in shape.split("x")] for key, shape, *_ in (line.split("\t") for line in lines)}
    network = load("loth_embed", {key: torch.zeros(shape) for key, shape in shapes.items()}, PUBLISHED)
    unused = 1_154
    assert sum(parameter.numel() for parameter in network.parameters()) == 2_368_681 - unused
