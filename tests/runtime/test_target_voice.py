"""A chosen voice steers the model: in every engine and path alike, exchanged while it runs, without a click."""

import numpy as np
import pytest
import torch
from signals import noise

from hearloop.export import export_bundle
from hearloop.export.steering import export_steering
from hearloop.models import build
from hearloop.runtime import Controls, HearloopError, Processor
from hearloop.runtime.errors import BundleError
from hearloop.runtime.live import LiveLoop
from hearloop.runtime.software_device import SoftwareDevice
from hearloop.runtime.voice import Voice, steering_path

RATE = 16000
FRAME = 128


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    """An untrained target model that two voices steer to different masks, with its steering."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("target") / "target.onnx"
    model = build("target", channels=8, hidden=6, blocks=2, heads=2, memory=5, query=2, embedding=12).eval()
    with torch.no_grad():
        model.net.deconv.conv.weight.mul_(20)
    export_bundle(model, path, name="target", license="CC0-1.0")
    export_steering(model, steering_path(path))
    return path


@pytest.fixture(scope="module")
def voices():
    embeddings = np.random.default_rng(0).standard_normal((2, 12)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    return [Voice(embedding, "enroll", "1") for embedding in embeddings]


def test_the_voice_decides_what_is_heard(target, voices):
    samples = noise(RATE, 2)
    heard = [Processor(target, 2, engine="ort", voice=voice).process(samples) for voice in voices]
    assert np.abs(heard[0] - heard[1]).max() > 0.01


def test_engines_hear_the_same_voice(target, voices):
    samples = noise(RATE, 2)
    heard = [Processor(target, 2, engine=engine, voice=voices[1]).process(samples) for engine in ("ort", "compiled")]
    np.testing.assert_allclose(*heard, atol=1e-4 * np.abs(heard[0]).max())


@pytest.mark.parametrize("engine", ["ort", "compiled"])
def test_a_new_voice_is_that_of_a_processor_that_always_heard_it(target, voices, engine):
    """Once the model has forgotten: its recurrent layers do within a second or so."""
    samples, at = noise(4 * RATE, 2), 2 * FRAME * 60
    old, new = (Processor(target, 2, engine=engine, voice=voice).process(samples) for voice in voices)
    changed = Processor(target, 2, engine=engine, voice=voices[0])
    before = changed.process(samples[:, :at])
    changed.listen_to(voices[1])
    after = changed.process(samples[:, at:])
    np.testing.assert_array_equal(before, old[:, :at])
    np.testing.assert_allclose(after[:, -RATE:], new[:, -RATE:], atol=1e-3 * np.abs(new).max())


def test_a_change_does_not_click(target, voices):
    """A sine stays a sine whose level moves: no sample is further from its neighbours than in the steady parts."""
    time = np.arange(2 * RATE) / RATE
    samples = np.tile(0.2 * np.sin(2 * np.pi * 440 * time), (2, 1)).astype(np.float32)
    processor = Processor(target, 2, engine="ort", voice=voices[0])
    half = samples.shape[1] // 2
    parts = [processor.process(samples[:, :half])]
    processor.listen_to(voices[1])
    parts.append(processor.process(samples[:, half:]))
    bends = np.abs(np.diff(np.concatenate(parts, axis=1), 2)).max(axis=0)
    steady = max(bends[half - RATE // 2 : half - FRAME].max(), bends[-RATE // 2 :].max())
    assert bends[half - FRAME : half + RATE // 4].max() < 1.2 * steady


def test_a_reset_keeps_the_voice(target, voices):
    samples = noise(RATE, 2)
    processor = Processor(target, 2, engine="compiled", voice=voices[0])
    expected = processor.process(samples)
    processor.listen_to(voices[1])
    processor.process(samples)
    processor.listen_to(voices[0])
    processor.reset()
    np.testing.assert_array_equal(processor.process(samples), expected)


@pytest.mark.realtime
@pytest.mark.parametrize("path", ["native", "worker"])
def test_live_the_voice_is_exchanged_while_sound_goes_on(target, voices, path):
    samples = noise(3 * RATE, 2)
    device = SoftwareDevice(samples, RATE, FRAME)
    engine = "compiled" if path == "native" else "ort"
    with LiveLoop(target, device, engine, path=path, voice=voices[0]) as loop:
        loop.wait(1.0)
        loop.listen_to(voices[1])
        loop.wait()
        stats = loop.stats()
    late = round(loop.latency.total)
    heard = np.asarray(device.output)[:, late:]
    expected = Processor(target, 2, engine=engine, voice=voices[1]).process(samples)
    expected = expected[:, round(Processor(target, 2, engine=engine, voice=voices[1]).latency.total) :]
    if stats["misses"]:
        pytest.skip(f"{stats['misses']} misses on this machine; nothing is known of the rest")
    last = slice(2 * RATE, 2 * RATE + RATE // 2)
    np.testing.assert_allclose(heard[:, last], expected[:, last], atol=1e-2 * np.abs(expected).max())


def test_a_target_model_without_a_voice_is_refused_and_so_is_a_voice_without_one(target, voices):
    with pytest.raises(HearloopError, match="expected a voice"):
        Processor(target, 2)
    with pytest.raises(HearloopError, match="a voice goes with task 'target'"):
        Processor("enhance-small", voice=voices[0])


def test_a_map_of_another_size_or_with_a_hole_is_refused(target, voices):
    controls = Controls()
    controls.steer(np.zeros(10))
    with pytest.raises(HearloopError, match="has 9 values"):
        controls.steer(np.zeros(9))
    with pytest.raises(HearloopError, match="1 of them not finite"):
        controls.steer(np.array([np.nan, *range(9)]))
    processor = Processor(target, 2, engine="ort", voice=voices[0])
    with pytest.raises(BundleError, match="the voice has 3 values"):
        processor.listen_to(Voice(np.ones(3, np.float32), "other", "1"))
