"""The published MossFormer and MossFormer2: golden vectors, their layers, and every tensor accounted for."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hearloop.models.published import load, mossformer1, mossformer2
from hearloop.runtime.errors import HearloopError

PUBLISHED = {
    "dim": 512,
    "num_layers": 24,
    "num_spks": 2,
    "kernel_size": 16,
    "group_size": 256,
    "query_key_dim": 128,
    "expansion_factor": 4.0,
    "conv_kernel": 17,
    "fsmn_inner": 256,
    "fsmn_lorder": 20,
}


@pytest.fixture(scope="module", params=["mossformer1", "mossformer2"])
def system(request):
    return request.param


@pytest.fixture(scope="module")
def golden(system):
    return dict(np.load(Path(__file__).parent / "golden" / f"{system}.npz"))


@pytest.fixture(scope="module")
def weights(golden):
    return {key.removeprefix("sd/"): value for key, value in golden.items() if key.startswith("sd/")}


@pytest.fixture(scope="module")
def config(golden):
    return json.loads(str(golden["config"]))


@pytest.fixture(scope="module")
def network(system, weights, config):
    return load(system, weights, config).requires_grad_(False)


def error(found, expected) -> float:
    """Largest difference as a fraction of the standard deviation."""
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / expected.std())


def test_the_output_is_as_published(network, golden):
    assert error(network(torch.from_numpy(golden["mix"])).numpy(), golden["out"]) <= 1e-4


def test_each_layer_gives_what_the_published_one_gives(network, golden):
    net = network.mask_net
    stack = net.mdl.intra_mdl["mossformerM"]
    first, taps = stack.layers[0], {}
    layers = {
        "maskin": net.norm,
        "hid": first.to_hidden,
        "qk": first.to_qk,
        "flash0": first,
        "mdl": net.mdl,
        "mask": net,
    }
    if stack.fsmn is not None:
        layers |= {"fsmn0_dense": stack.fsmn[0].gated_fsmn.fsmn.conv, "fsmn0": stack.fsmn[0]}

    def keep(name):
        def hook(layer, inputs, output):
            taps.setdefault(name, output.numpy())

        return hook

    hooks = [layer.register_forward_hook(keep(name)) for name, layer in layers.items()]
    network(torch.from_numpy(golden["mix"]))
    for hook in hooks:
        hook.remove()
    assert error(taps.pop("mask"), golden["mask"]) <= 2e-4
    assert {f"tap/{name}" for name in taps} == {name for name in golden if name.startswith("tap/")}
    for name, found in taps.items():
        assert error(found, golden[f"tap/{name}"]) <= 2e-4, name


def test_a_tensor_that_is_missing_surplus_or_misshapen_is_named(system, weights, config):
    key = "mask_net.mdl.intra_mdl.mossformerM.layers.1.to_qk.mdl.1.weight"
    with pytest.raises(HearloopError, match=f"1 tensors are missing, the first is '{key}'"):
        load(system, {name: value for name, value in weights.items() if name != key}, config)
    with pytest.raises(HearloopError, match=r"tensor 'extra' has no place"):
        load(system, {**weights, "extra": weights[key]}, config)
    with pytest.raises(HearloopError, match=rf"tensor '{key}' has shape"):
        load(system, {**weights, key: weights[key].ravel()}, config)
    with pytest.raises(HearloopError, match=r"lacks 'group_size'"):
        load(system, weights, {name: value for name, value in config.items() if name != "group_size"})


def test_a_prefix_before_all_keys_does_no_harm(system, weights, config, network, golden):
    again = load(system, {f"model.{key}": value for key, value in weights.items()}, config).requires_grad_(False)
    mix = torch.from_numpy(golden["mix"])
    assert torch.equal(again(mix), network(mix))


@pytest.mark.parametrize(("module", "count"), [(mossformer1, 42_101_834), (mossformer2, 55_735_394)])
def test_the_published_size(module, count):
    with torch.device("meta"):
        network = module.make(PUBLISHED)
    assert sum(parameter.numel() for parameter in network.parameters()) == count
