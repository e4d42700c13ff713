"""Bundles and checkpoints of every task, with random weights: both say the same, and what does not fit is named."""

import numpy as np
import pytest
import torch

pytest.importorskip("pesq", reason="pesq is not installed")
pytest.importorskip("pystoi", reason="pystoi is not installed")

from hearloop.export import export_bundle
from hearloop.export.recording import export_recording
from hearloop.export.restore import restore
from hearloop.export.steering import export_steering
from hearloop.models import build
from hearloop.models.evaluation import network
from hearloop.models.evaluation.systems import CommandSystem, open_system
from hearloop.models.published.recording import Recording
from hearloop.models.training.checkpoint import read_checkpoint, write_checkpoint
from hearloop.runtime.errors import HearloopError

SIZES = {
    "separate-tiger-small": {
        "size": 8,
        "channels": 8,
        "rounds": 1,
        "scales": 2,
        "heads": 2,
        "query": 2,
        "memory": 4,
    },
    "target": {"channels": 8, "hidden": 6, "blocks": 2, "heads": 2, "memory": 5, "query": 2, "embedding": 12},
    "target-small": {"channels": 4, "hidden": 8, "bands": 8, "blocks": 2, "embedding": 12, "rank": 4, "delays": 4},
    "target-around": {
        **{"channels": 4, "hidden": 8, "bands": 8, "blocks": 2, "embedding": 12, "rank": 4, "delays": 4, "turns": 3},
        "listener": {"channels": 4, "width": 8, "bands": 8, "blocks": 1, "hidden": 12, "layers": 1},
    },
    "enroll": {"channels": 8, "hidden": 6, "blocks": 1, "embedding": 12},
}


def checkpoint(folder, name, model, config):
    path = folder / f"{name}.pt"
    write_checkpoint(
        path, {"model": name, "config": config, "weights": model.state_dict(), "training": {}, "quality": []}
    )
    return str(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Model -> checkpoint and bundle of it; what steers the target lies beside its bundle."""
    folder = tmp_path_factory.mktemp("models")
    found = {}
    for name, config in SIZES.items():
        torch.manual_seed(len(name))
        model = build(name, **config).eval().requires_grad_(False)
        if name == "target":
            model.net.deconv.conv.weight.mul_(10)  # far from the mixture, so that the voice counts
        if name in ("target-small", "target-around"):
            model.mask.weight.mul_(10)
        bundle = folder / f"{name}.onnx"
        export_bundle(model, bundle, name=name, license="CC0-1.0")
        if name.startswith("target"):
            export_steering(model, folder / f"{name}-steering.onnx")
        found[name] = checkpoint(folder, name, model, config), str(bundle)
    return found


def sound(channels, samples, seed=0):
    return 0.1 * np.random.default_rng(seed).standard_normal((channels, samples)).astype(np.float32)


def close(found, expected, tolerance=1e-4):
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("samples", [4000, 4097])
def test_a_bundle_separates_as_its_checkpoint_does_and_the_talkers_line_up_with_the_mixture(files, samples):
    network, bundle = (open_system(path) for path in files["separate-tiger-small"])
    assert network.task == bundle.task == "separate"
    assert network.latency_ms == bundle.latency_ms == 12
    mixture = sound(1, samples)
    talkers = bundle.process(mixture)
    close(talkers, network.process(mixture))
    close(bundle.process(mixture), talkers)  # nothing is left of the recording before
    # This model lets its talkers add up to the mixture, sample for sample.
    close(talkers.sum(axis=0, keepdims=True), mixture)


@pytest.mark.parametrize("name", ["target", "target-small", "target-around"])
def test_a_bundle_keeps_the_talker_of_a_look_as_its_checkpoint_does(files, name):
    (network, bundle), (enroll_network, enroll_bundle) = files[name], files["enroll"]
    mixture, looks = sound(2, 5000), [sound(2, 6000, seed) * [[1], [0.3]] for seed in (1, 2)]
    looks = [look.astype(np.float32) for look in looks]
    systems = [open_system(bundle, enroll_network), open_system(network, enroll_bundle)]
    expected = open_system(network, enroll_network)
    kept = [expected.process(mixture, [look]) for look in looks]
    assert np.abs(kept[0] - kept[1]).max() > 1e-3 * np.abs(kept[0]).max()
    for system in systems:
        assert system.task == "target"
        for look, found in zip(looks, kept, strict=True):
            close(system.process(mixture, [look]), found)
    with pytest.raises(HearloopError, match="no look at the target"):
        expected.process(mixture)


def test_what_was_trained_together_is_one_system_and_its_enrolment_serves_others(files, tmp_path):
    (network, bundle), (enroll, _) = files["target"], files["enroll"]
    parts = {name: read_checkpoint(path) for name, path in (("target", network), ("enroll", enroll))}
    joint = {
        "model": "target",
        "config": SIZES["target"],
        "weights": {f"{part}.{key}": value for part, each in parts.items() for key, value in each["weights"].items()},
        "parts": {part: {"model": part, "config": SIZES[part]} for part in parts},
        "training": {},
        "quality": [],
    }
    write_checkpoint(tmp_path / "best.pt", joint)
    path = str(tmp_path / "best.pt")
    mixture, look = sound(2, 5000), sound(2, 6000, 1)
    expected = open_system(network, enroll).process(mixture, [look])
    close(open_system(path).process(mixture, [look]), expected)
    close(open_system(bundle, path).process(mixture, [look]), expected)


def test_of_several_looks_the_mean_voice_is_heard(files):
    (network, _), (enroll, _) = files["target"], files["enroll"]
    system = open_system(network, enroll)
    mixture, looks = sound(2, 5000), [sound(2, 6000, seed) for seed in (1, 2)]
    once, other = (system.process(mixture, [look]) for look in looks)
    both = system.process(mixture, looks)
    close(system.process(mixture, looks[::-1]), both)
    close(system.process(mixture, [looks[0]] * 2), once)
    assert min(np.abs(both - each).max() for each in (once, other)) > 1e-4 * np.abs(both).max()
    with pytest.raises(HearloopError, match="there are 2 looks at the target; a command takes one"):
        CommandSystem("cp {input} {output} {look}").process(mixture, looks)


def test_pieces_give_what_the_whole_gives(files, monkeypatch):
    system = open_system(files["separate-tiger-small"][0])
    mixture = sound(1, 9000)
    whole = system.process(mixture)
    monkeypatch.setattr(network, "PIECE_FRAMES", 7)
    close(system.process(mixture), whole)


def test_both_ears_get_one_mask_from_a_checkpoint_as_they_do_from_the_processor(tmp_path):
    model = build("enhance-small").eval().requires_grad_(False)
    restore(model, "enhance-small")
    network = open_system(checkpoint(tmp_path, "enhance-small", model, {}))
    bundle = open_system("enhance-small")
    # Quiet enough for the limiter, which only the processor has.
    ears = sound(2, 8000) * np.float32(0.3)
    close(network.process(ears), bundle.process(ears), 2e-3)
    close(network.process(ears[:1]), bundle.process(ears[:1]), 2e-3)


def test_what_does_not_fit_is_named(files, tmp_path):
    with pytest.raises(HearloopError, match="task 'enroll'; expected enhance or separate or target"):
        open_system(files["enroll"][1])
    with pytest.raises(HearloopError, match="has the task 'separate'; expected enroll"):
        open_system(files["target"][0], files["separate-tiger-small"][0])
    checkpoint_alone, bundle = (open_system(path) for path in files["separate-tiger-small"])
    with pytest.raises(HearloopError, match=r"hears 1 channel\(s\), the recording has 2"):
        checkpoint_alone.process(sound(2, 2000))
    assert bundle.process(sound(2, 2000)).shape == (4, 2000)  # the processor has both talkers at both ears
    enroll = build("enroll", **SIZES["enroll"] | {"embedding": 16})
    longer = checkpoint(tmp_path, "enroll", enroll, SIZES["enroll"] | {"embedding": 16})
    with pytest.raises(HearloopError, match=r"takes embeddings of 12 values, .* gives 16"):
        open_system(files["target"][0], longer).process(sound(2, 2000), [sound(2, 2000)])
    alone = tmp_path / "alone.onnx"
    with open(files["target"][1], "rb") as bundle:
        alone.write_bytes(bundle.read())
    with pytest.raises(HearloopError, match=r"alone-steering\.onnx: no such file"):
        open_system(str(alone), files["enroll"][0]).process(sound(2, 2000), [sound(2, 2000)])


def test_a_bundle_that_hears_files_as_a_whole_lines_up_as_well(tmp_path):
    halves = Recording(None, lambda _, audio: torch.cat([0.75 * audio, 0.25 * audio], 1), "separate", 2, 4000)
    export_recording(halves, tmp_path / "halves.onnx", name="halves", license="CC0-1.0")
    system = open_system(str(tmp_path / "halves.onnx"))
    mixture = sound(1, 9001)
    assert system.task == "separate"
    close(system.process(mixture), mixture * np.float32([[0.75], [0.25]]))
    close(system.process(mixture[:, :100]), mixture[:, :100] * np.float32([[0.75], [0.25]]))
