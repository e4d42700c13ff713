"""The published GTCRN: golden vectors, whole and in frames, its state, and every tensor accounted for."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hearloop.models import build
from hearloop.models.frontend import Stft
from hearloop.models.published import load
from hearloop.runtime.errors import HearloopError

GOLDEN = Path(__file__).parent / "golden" / "gtcrn.npz"


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(GOLDEN))


@pytest.fixture(scope="module")
def weights(golden):
    return {key.removeprefix("sd/"): value for key, value in golden.items() if key.startswith("sd/")}


@pytest.fixture(scope="module")
def network(weights, golden):
    return load("gtcrn", weights, json.loads(str(golden["config"]))).requires_grad_(False)


def error(found, expected) -> float:
    """Largest difference as a fraction of the standard deviation."""
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / expected.std())


def test_the_whole_signal_and_frame_by_frame_are_as_published(network, golden):
    spec = torch.from_numpy(golden["spec"])
    assert error(network(spec).numpy(), golden["out_offline"]) <= 1e-4
    assert error(network.stream(spec).numpy(), golden["out_stream"]) <= 1e-4


def test_each_layer_gives_what_the_published_one_gives(network, golden):
    net, taps = network.net, {}
    layers = {"enc0": net.down[0], "enc1": net.down[1], "dp1": net.dual[0], "dp2": net.dual[1]}
    layers |= {f"enc{2 + index}": block for index, block in enumerate(net.encoder)}
    layers |= {"dec0": net.decoder[0], "dec4": net.up[1]}

    def keep(name):
        def hook(layer, inputs, output):
            taps[name] = (output[0] if isinstance(output, tuple) else output).numpy()

        return hook

    hooks = [layer.register_forward_hook(keep(name)) for name, layer in layers.items()]
    network(torch.from_numpy(golden["spec"]))
    for hook in hooks:
        hook.remove()
    for name, found in taps.items():
        assert error(found[:, :, [0, 1, 5, 11]], golden[f"tap/{name}"]) <= 2e-4, name


def test_the_state_after_the_last_frame_is_as_published(network, golden):
    spectrum = torch.from_numpy(golden["spec"]).transpose(1, 2).unsqueeze(1)
    _, state = network.net(spectrum, network.net.initial_state(1))
    rows = {1: slice(0, 2), 2: slice(2, 6), 5: slice(6, 16)}  # by dilation
    for side, (name, dilations) in enumerate((("encoder", (1, 2, 5)), ("decoder", (5, 2, 1)))):
        for index, dilation in enumerate(dilations):
            block = state[name][index]
            cache = golden["conv_cache"][side][:, :, rows[dilation]]
            assert error(block["depth"].numpy(), cache) <= 1e-4, (name, dilation)
            assert error(block["gate"].numpy(), golden["tra_cache"][side][index]) <= 1e-4, (name, dilation)
    for index, hidden in enumerate(state["dual"]):
        assert error(hidden.numpy(), golden["inter_cache"][index][None][0]) <= 1e-4


def test_the_streaming_model_with_its_own_front_end_gives_the_published_sound(network, golden):
    """The published transform is centred: it begins half a window before the sound, with the sound mirrored."""
    model = build("gtcrn").eval().requires_grad_(False)
    model.load_state_dict(network.net.state_dict())
    stft = Stft(model.window)
    sound = torch.from_numpy(golden["x"])[None]
    mirrored = torch.nn.functional.pad(sound, (256, 256), mode="reflect")
    spectrum, _ = stft.analysis(mirrored)
    spectrum = spectrum[:, :, 1:]  # the first frame of the stream is half empty
    assert error(spectrum[0, 0].transpose(0, 1)[None].numpy(), golden["spec"]) <= 1e-4
    enhanced, _ = model(spectrum, model.initial_state(1))
    audio, _ = stft.synthesis(enhanced)
    assert error(audio[0, :, 256:].numpy(), golden["out_wav"][:, : audio.shape[-1] - 256]) <= 1e-4


def test_the_filters_of_an_untrained_model_are_the_published_ones(golden):
    bands = build("gtcrn").bands
    np.testing.assert_allclose(bands.gathering.numpy(), golden["sd/erb.erb_fc.weight"], atol=1e-6)
    np.testing.assert_allclose(bands.spreading.numpy(), golden["sd/erb.ierb_fc.weight"], atol=1e-6)


def test_a_missing_a_surplus_and_a_misshapen_tensor_are_named(weights):
    name = "dpgrnn1.intra_rnn.rnn1.weight_ih_l0"
    with pytest.raises(HearloopError, match=f"1 tensors are missing, the first is '{name}'"):
        load("gtcrn", {key: value for key, value in weights.items() if key != name}, {})
    for surplus in ("decoder.de_convs.5.conv.weight", "encoder.en_convs.2.extra.weight", "film.weight"):
        with pytest.raises(HearloopError, match=rf"tensor '{surplus}' has no place"):
            load("gtcrn", weights | {surplus: np.zeros(3, np.float32)}, {})
    with pytest.raises(HearloopError, match=rf"tensor '{name}' has shape \[8, 12\], expected \[12, 8\]"):
        load("gtcrn", weights | {name: weights[name].T}, {})


def test_the_published_size_has_the_published_tensors(shared):
    lines = (shared / "models" / "published-keys" / "gtcrn_dns3.tsv").read_text().splitlines()
    pairs = [line.split("\t")[:2] for line in lines]
    shapes = {key: [int(size) for size in shape.split("x") if size.isdigit()] for key, shape in pairs}
    network = load("gtcrn", {key: torch.zeros(shape) for key, shape in shapes.items()}, {})
    trained = [parameter.numel() for parameter in network.parameters() if parameter.requires_grad]
    assert (sum(trained), sum(parameter.numel() for parameter in network.parameters())) == (23_669, 48_245)
