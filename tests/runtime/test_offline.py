"""Offline models, which hear seconds at once: pieces come together again, whatever length, rate and order."""

import numpy as np
import onnx
import pytest
import soundfile
from graphs import graph_model
from onnx import helper, numpy_helper

from hearloop.runtime import AudioError, BundleError, load_bundle
from hearloop.runtime.bundle_info import BundleInfo, Port
from hearloop.runtime.files import process_file
from hearloop.runtime.offline import OfflineProcessor

PIECE = 4000


@pytest.fixture(scope="module")
def separator(tmp_path_factory):
    """Two "talkers", x and -x / 2, which change places whenever the first sample of the piece is negative."""
    nodes = [
        helper.make_node("Mul", ["audio", "half"], ["other"]),
        helper.make_node("Concat", ["audio", "other"], ["one_way"], axis=1),
        helper.make_node("Concat", ["other", "audio"], ["another"], axis=1),
        helper.make_node("Gather", ["audio", "at"], ["first"], axis=2),
        helper.make_node("Less", ["first", "zero"], ["turned"]),
        helper.make_node("Where", ["turned", "another", "one_way"], ["enhanced"]),
    ]
    model = graph_model(
        nodes, {"audio": (1, 1, PIECE)}, {"enhanced": (1, 2, PIECE)}, {"half": -0.5, "zero": 0.0, "at": np.int64([0])}
    )
    info = BundleInfo(
        name="swaps",
        task="separate",
        sample_rate=16000,
        frame=PIECE,
        lookahead=0,
        channels_in=1,
        channels_out=2,
        front_end="waveform",
        window=None,
        inputs=(Port("audio", "audio", (1, 1, PIECE)),),
        outputs=(Port("enhanced", "audio", (1, 2, PIECE)),),
        states=(),
        parameters=0,
        macs_per_frame=0,
        license="CC0-1.0",
        mode="file",
    )
    helper.set_model_props(model, info.to_metadata())
    path = tmp_path_factory.mktemp("whole") / "swaps.onnx"
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("samples", [1, 100, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 5 * PIECE + 123])
@pytest.mark.parametrize("block", [77, 1024, 16384])
def test_talkers_keep_their_places_and_every_sample_comes_out_once(separator, rng, samples, block):
    sound = (0.1 * rng.standard_normal((1, samples))).astype(np.float32)
    processor = OfflineProcessor(load_bundle(separator), 1, 16000)
    parts = [processor.separate(sound[:, at : at + block]) for at in range(0, samples, block)]
    found = np.concatenate([*parts, processor.flush()], axis=-1)[:, 0]
    talkers = np.concatenate([sound, -sound / 2])
    expected = talkers[::-1] if sound[0, 0] < 0 else talkers
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_file_of_another_rate_keeps_its_rate_and_length(separator, rng, tmp_path):
    time_s = np.arange(3 * 44100) / 44100
    sound = 0.2 * np.sin(2 * np.pi * 440 * time_s + 0.1)
    soundfile.write(tmp_path / "in.wav", sound, 44100, "FLOAT")
    facts = process_file(tmp_path / "in.wav", tmp_path / "out.wav", separator)
    assert facts["targets"] == [tmp_path / "out.1.wav", tmp_path / "out.2.wav"]
    found = np.stack([soundfile.read(path)[0] for path in facts["targets"]], axis=1)
    rate = soundfile.info(tmp_path / "out.1.wav").samplerate
    assert (rate, found.shape, facts["channels"], facts["latency_samples"]) == (44100, (len(sound), 2), 1, 0)
    # Away from both ends, where the resampler has nothing to look at.
    np.testing.assert_allclose(found[500:-500], np.stack([sound, -sound / 2], axis=1)[500:-500], atol=2e-3)


def test_numbers_that_are_not_finite_are_taken_as_silence_and_counted(separator):
    processor = OfflineProcessor(load_bundle(separator), 1, 16000)
    sound = np.full((1, 100), 0.1, np.float32)
    sound[0, 50:60] = np.nan
    assert processor.separate(sound).shape == (2, 1, 0)
    found = processor.flush()[:, 0]
    assert np.isfinite(found).all()
    assert not found[:, 50:60].any()
    assert processor.events["bad_samples"] == 10


def test_a_piece_that_fails_is_shared_equally_and_counted(separator, rng, tmp_path):
    model = onnx.load(separator)
    half = next(constant for constant in model.graph.initializer if constant.name == "half")
    half.CopyFrom(numpy_helper.from_array(np.float32(np.nan), "half"))
    onnx.save(model, tmp_path / "broken.onnx")
    processor = OfflineProcessor(load_bundle(tmp_path / "broken.onnx"), 1, 16000)
    sound = (0.1 * rng.standard_normal((1, 9000))).astype(np.float32)
    found = np.concatenate([processor.separate(sound), processor.flush()], axis=-1)
    np.testing.assert_allclose(found, np.stack([sound, sound]) / 2, atol=1e-6)
    assert processor.events["failed_frames"] == 3  # pieces of 4000 that share 1000


def test_no_output_is_louder_than_the_ceiling(separator):
    processor = OfflineProcessor(load_bundle(separator), 1, 16000)
    processor.process(np.full((1, 1000), 4.0, np.float32))
    assert np.abs(processor.flush()).max() <= 10 ** (-1 / 20) * 1.0001


@pytest.mark.parametrize("samples", [0, 100, 3 * PIECE])
def test_the_remix_has_its_gains(separator, rng, samples):
    sound = (0.1 * rng.standard_normal((1, samples))).astype(np.float32)
    processor = OfflineProcessor(load_bundle(separator), 1, 16000, source_gains_db=(-6, 0))
    found = np.concatenate([processor.process(sound), processor.flush()], axis=1)
    gains = (1, 10 ** (-6 / 20)) if samples and sound[0, 0] < 0 else (10 ** (-6 / 20), 1)
    np.testing.assert_allclose(found, gains[0] * sound - gains[1] * sound / 2, atol=1e-6)


def test_another_number_of_channels_is_refused(separator):
    with pytest.raises(AudioError, match=r"hears 1 channel\(s\), the sound has 2"):
        OfflineProcessor(load_bundle(separator), 2, 16000)


def test_a_bundle_for_files_that_has_a_lookahead_is_refused(separator, tmp_path):
    model = onnx.load(separator)
    for entry in model.metadata_props:
        if entry.key == "hearloop":
            entry.value = entry.value.replace('"lookahead": 0', '"lookahead": 64').replace(
                f'"latency_samples": {PIECE}', f'"latency_samples": {PIECE + 64}'
            )
    onnx.save(model, tmp_path / "wrong.onnx")
    with pytest.raises(BundleError, match="key 'lookahead' is 64, but mode 'file' has 0"):
        load_bundle(tmp_path / "wrong.onnx")
