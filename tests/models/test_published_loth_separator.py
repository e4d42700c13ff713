"""The published separator of Look Once to Hear: golden vectors, whole and in frames, and every tensor accounted for."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hearloop.models.published import load
from hearloop.runtime.errors import HearloopError

GOLDEN = Path(__file__).parent / "golden" / "loth_separator.npz"
PUBLISHED = {
    "embed_dim": 256,
    "stft_chunk_size": 128,
    "stft_pad_size": 64,
    "num_ch": 2,
    "D": 64,
    "H": 64,
    "B": 3,
    "L": 4,
    "local_atten_len": 50,
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


@pytest.fixture(scope="module")
def network(weights, config):
    return load("loth_separator", weights, config).requires_grad_(False)


@pytest.fixture(scope="module")
def run(network, golden):
    """All frames in one call, with what the layers give on the way: (state, taps)."""
    taps = {}
    net = network.net
    attention = net.blocks[0][2].layer
    layers = {
        "conv": net.conv,
        "b0_intra_rnn": net.blocks[0][0].layer[1],
        "b0_Q": attention.query,
        "b0_K": attention.key,
        "b0_V": attention.value,
        "block0": net.blocks[0],
        "block1": net.blocks[1],
        "deconv": net.deconv,
    }

    def keep(name):
        def hook(layer, inputs, output):
            taps.setdefault(name, (output[0] if isinstance(output, tuple) else output).numpy())

        return hook

    hooks = [layer.register_forward_hook(keep(name)) for name, layer in layers.items()]
    mix = torch.from_numpy(golden["mix"])
    steering = network.steering(torch.from_numpy(golden["embed"])[:, 0])
    frames = torch.nn.functional.pad(mix, (0, 64)).unfold(-1, 192, 128)
    _, state = network.step(frames, steering, network.initial_state(1))
    for hook in hooks:
        hook.remove()
    return state, taps | {"embed_feat": steering.numpy().reshape(1, -1)}


def error(found, expected) -> float:
    """Largest difference as a fraction of the standard deviation."""
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / expected.std())


def test_the_whole_signal_and_frame_by_frame_are_as_published(network, golden):
    mix, embed = torch.from_numpy(golden["mix"]), torch.from_numpy(golden["embed"])
    offline, stream = network(mix, embed).numpy(), network.stream(mix, embed).numpy()
    assert error(offline, golden["out_offline"]) <= 1e-4
    assert error(stream, golden["out_stream"]) <= 1e-4
    assert error(stream, offline) <= 2e-5


def test_each_layer_gives_what_the_published_one_gives(run, golden, config):
    _, taps = run
    at = config["tap_frames"]
    assert error(taps["conv"][:, :, at], golden["tap/conv"]) <= 2e-4
    assert error(taps["embed_feat"], golden["tap/embed_feat"]) <= 2e-4
    assert error(taps["b0_intra_rnn"][0, at], golden["tap/b0_intra_rnn"]) <= 2e-4
    # The attention works on at most as many frames a time as its memory holds; these are the first ones.
    first = [index for index, frame in enumerate(at) if frame < config["local_atten_len"] - 1]
    for name in ("b0_Q", "b0_K", "b0_V"):
        assert error(taps[name][0][:, [at[i] for i in first]], golden[f"tap/{name}"][:, first]) <= 2e-4
    for name in ("block0", "block1"):
        assert error(taps[name].transpose(0, 3, 1, 2)[:, :, at], golden[f"tap/{name}"]) <= 2e-4
    assert error(taps["deconv"][:, :, at], golden["tap/deconv"]) <= 2e-4


def test_the_state_after_the_last_frame_is_as_published(run, golden):
    state, _ = run
    net = state["net"]
    assert error(net["conv"].numpy(), golden["state_final/conv_buf"]) <= 2e-4
    assert error(net["deconv"].numpy(), golden["state_final/deconv_buf"]) <= 2e-4
    for index, block in enumerate(net["blocks"]):
        recurrent, memory = block["1"]["1"], block["2"]
        prefix = f"state_final/gridnet_bufs.buf{index}"
        assert error(recurrent["hidden"].numpy(), golden[f"{prefix}.h0"]) <= 2e-4
        assert error(recurrent["cell"].numpy(), golden[f"{prefix}.c0"]) <= 2e-4
        assert error(memory["key"][0].numpy(), golden[f"{prefix}.K_buf"]) <= 2e-4
        assert error(memory["value"][0].numpy(), golden[f"{prefix}.V_buf"]) <= 2e-4


def test_a_missing_a_surplus_and_a_misshapen_tensor_are_named(weights, config):
    name = "tfgridnet.blocks.1.intra_rnn.weight_ih_l0"
    with pytest.raises(HearloopError, match=f"1 tensors are missing, the first is '{name}'"):
        load("loth_separator", {key: value for key, value in weights.items() if key != name}, config)
    with pytest.raises(HearloopError, match=r"tensor 'tfgridnet.film.weight' has no place"):
        load("loth_separator", weights | {"tfgridnet.film.weight": np.zeros(3, np.float32)}, config)
    with pytest.raises(HearloopError, match=rf"tensor '{name}' has shape \[8, 32\], expected \[32, 8\]"):
        load("loth_separator", weights | {name: weights[name].T}, config)


def test_the_published_size_has_the_published_tensors(shared):
    lines = (shared / "models" / "published-keys" / "loth_separator.tsv").read_text().splitlines()
    shapes = {key: [int(size) for size in shape.split("x")] for key, shape, *_ in (line.split("\t") for line in lines)}
    network = load("loth_separator", {key: torch.zeros(shape) for key, shape in shapes.items()}, PUBLISHED)
    assert sum(parameter.numel() for parameter in network.parameters()) == 2_037_960
