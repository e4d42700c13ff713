"""The published TIGER: golden vectors, its layers, and every tensor accounted for."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hearloop.models.published import load
from hearloop.models.published.tiger_speech import make
from hearloop.runtime.errors import HearloopError

GOLDEN = Path(__file__).parent / "golden" / "tiger_speech.npz"
PUBLISHED = {
    "out_channels": 128,
    "in_channels": 256,
    "upsampling_depth": 5,
    "att_n_head": 4,
    "att_hid_chan": 4,
    "win": 640,
    "stride": 160,
    "num_sources": 2,
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
    return load("tiger_speech", weights, config).requires_grad_(False)


def error(found, expected) -> float:
    """Largest difference as a fraction of the standard deviation."""
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / expected.std())


@pytest.mark.parametrize("rounds", [2, 3])
def test_the_output_is_as_published(network, golden, rounds):
    found = network(torch.from_numpy(golden["mix"]), num_blocks=rounds).numpy()
    assert error(found, golden[f"out_blocks{rounds}"]) <= 1e-4


def test_the_talkers_add_up_to_the_mixture(network, golden):
    found = network(torch.from_numpy(golden["mix"]), num_blocks=2).numpy()
    assert np.abs(found.sum(1, keepdims=True) - golden["mix"]).max() <= 1e-5 * np.abs(golden["mix"]).max()


def test_each_layer_gives_what_the_published_one_gives(network, golden):
    separator, taps = network.separator, {}
    layers = {"bn0": network.BN[0], "bn57": network.BN[57]}
    for path in ("freq", "frame"):
        layers |= dict(
            zip((f"{path}_msa", f"{path}_f3a", f"{path}_ln"), getattr(separator, f"{path}_path"), strict=True)
        )

    def keep(name):
        def hook(layer, inputs, output):
            taps.setdefault(name, output.numpy())

        return hook

    hooks = [layer.register_forward_hook(keep(name)) for name, layer in layers.items()]
    hooks.append(separator.register_forward_hook(keep("sep")))
    network(torch.from_numpy(golden["mix"]), num_blocks=2)
    for hook in hooks:
        hook.remove()
    picked = {"freq": [0, 9], "frame": [0, 57]}  # frames, bands
    for name, found in taps.items():
        path, _, layer = name.partition("_")
        if layer:
            found = np.take(found, picked[path], axis=0 if layer == "msa" else 2)
        elif name == "sep":
            found = np.moveaxis(found, 1, 2)[..., picked["freq"]]
        assert error(found, golden[f"tap/{name}"]) <= 2e-4, name


def test_a_tensor_that_is_missing_surplus_or_misshapen_is_named(weights, config):
    key = "separator.frame_path.1.Keys.3.norm.gamma"
    with pytest.raises(HearloopError, match=f"1 tensors are missing, the first is '{key}'"):
        load("tiger_speech", {name: value for name, value in weights.items() if name != key}, config)
    with pytest.raises(HearloopError, match=r"tensor 'extra' has no place"):
        load("tiger_speech", {**weights, "extra": weights[key]}, config)
    with pytest.raises(HearloopError, match=rf"tensor '{key}' has shape \[4\], expected \[1, 4, 1, 1\]"):
        load("tiger_speech", {**weights, key: weights[key].ravel()}, config)
    with pytest.raises(HearloopError, match=r"lacks 'att_n_head'"):
        load("tiger_speech", weights, {name: value for name, value in config.items() if name != "att_n_head"})


def test_the_published_size():
    network = make(PUBLISHED)
    assert sum(parameter.numel() for parameter in network.parameters()) == 821_932
    assert len(network.state_dict()) == 838
