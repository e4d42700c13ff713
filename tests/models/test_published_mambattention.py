"""The published MambAttention: golden vectors, its layers, and every tensor accounted for."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hearloop.models.published import load
from hearloop.models.published.mambattention import make
from hearloop.runtime.errors import HearloopError

GOLDEN = Path(__file__).parent / "golden" / "mambattention.npz"
PUBLISHED = {
    "hid_feature": 64,
    "num_tfmamba": 4,
    "d_state": 16,
    "d_conv": 4,
    "expand": 4,
    "norm_epsilon": 1e-5,
    "beta": 2.0,
    "n_fft": 400,
    "n_head": 8,
    "dense_depth": 4,
}


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(GOLDEN))


@pytest.fixture(scope="module")
def weights(golden):
    return {key.removeprefix("sd/"): value for key, value in golden.items() if key.startswith("sd/")}


@pytest.fixture(scope="module")
def config(golden):
    return json.loads(str(golden["config"]))


@pytest.fixture(scope="module")
def network(weights, config):
    return load("mambattention", weights, config).requires_grad_(False)


@pytest.fixture(scope="module")
def results(network, golden):
    """The output, and by name what layers gave in their first call."""
    block, taps = network.TFMambAttention[0], {}
    layers = {
        "enc": network.dense_encoder,
        "block0": block,
        "b0_attn_time": block.attention,
        "b0_time_mamba": block.time_mamba,
        "mask": network.mask_decoder,
    }

    def keep(name):
        def hook(layer, inputs, output):
            taps.setdefault(name, output.numpy())

        return hook

    hooks = [layer.register_forward_hook(keep(name)) for name, layer in layers.items()]
    output = network(torch.from_numpy(golden["noisy_mag"]), torch.from_numpy(golden["noisy_pha"]))
    for hook in hooks:
        hook.remove()
    return [value.numpy() for value in output], taps


def error(found, expected) -> float:
    """Largest difference as a fraction of the standard deviation."""
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / expected.std())


def test_the_output_is_as_published(results, golden):
    magnitude, phase = results[0]
    assert error(magnitude, golden["out_mag"]) <= 1e-4
    # An angle jumps where it wraps; its cosine and sine do not.
    for part in (np.cos, np.sin):
        assert np.abs(part(phase) - part(golden["out_pha"])).max() <= 1e-3


@pytest.mark.parametrize("name", ["enc", "b0_attn_time", "b0_time_mamba", "block0", "mask"])
def test_each_layer_gives_what_the_published_one_gives(results, golden, name):
    found = results[1][name]
    found = found[:4] if name.startswith("b0") else found[:, :, [0, 1, 9, 18]]
    assert error(found, golden[f"tap/{name}"]) <= 2e-4


def test_a_tensor_that_is_missing_surplus_or_misshapen_is_named(weights, config):
    key = "TFMambAttention.1.time_mamba.forward_blocks.0.mixer.A_log"
    with pytest.raises(HearloopError, match=f"1 tensors are missing, the first is '{key}'"):
        load("mambattention", {name: value for name, value in weights.items() if name != key}, config)
    with pytest.raises(HearloopError, match=r"tensor 'extra' has no place"):
        load("mambattention", {**weights, "extra": weights[key]}, config)
    with pytest.raises(HearloopError, match=rf"tensor '{key}' has shape \[4, 32\], expected \[32, 4\]"):
        load("mambattention", {**weights, key: weights[key].T}, config)
    with pytest.raises(HearloopError, match=r"lacks 'd_state'"):
        load("mambattention", weights, {name: value for name, value in config.items() if name != "d_state"})


def test_the_published_size():
    assert sum(parameter.numel() for parameter in make(PUBLISHED).parameters()) == 2_325_841


def test_the_published_tensors(shared):
    listed = {}
    for line in (shared / "models/published-keys/mambattention.tsv").read_text().splitlines():
        key, shape = line.split("\t")[:2]
        listed[key] = tuple(int(size) for size in shape.split("x"))
    assert {key: tuple(value.shape) for key, value in make(PUBLISHED).state_dict().items()} == listed
