"""Whose voice a target model lets through, chosen on the command line and by a key."""

import argparse

import numpy as np
import onnx
import pytest
import soundfile
import torch
from enrolment import RATE, enroll, written

from hearloop.export import export_bundle
from hearloop.models import build
from hearloop.runtime.bundle import load_bundle
from hearloop.runtime.controls import Controls
from hearloop.runtime.errors import AudioError, BundleError
from hearloop.runtime.profiles import read_profile
from hearloop.runtime.voice import Voice, hear_voice, steering_map, steering_path
from hearloop.tools.main import main
from hearloop.tools.voices import VoiceKeys, add_voice_arguments, chosen_voices

pytestmark = pytest.mark.usefixtures("profiles")


def test_the_map_of_a_voice_fits_the_target_model(models):
    version = load_bundle(models / "enroll.onnx").info.version
    embedding = np.full(12, 12**-0.5, np.float32)
    found = steering_map(models / "target.onnx", Voice(embedding, "enroll", version))
    assert found.shape == (1, 8, 1, 97)
    assert np.isfinite(found).all()
    assert found.std() > 0


def test_voices_and_models_that_do_not_belong_together_are_told(models, tmp_path):
    voice = Voice(np.ones(1, np.float32), "other", "1")
    with pytest.raises(BundleError, match="the voice has 1 values"):
        steering_map(models / "target.onnx", voice)
    with pytest.raises(BundleError, match="expected 'target'"):
        steering_map(models / "enroll.onnx", voice)
    with pytest.raises(BundleError, match="expected 'enroll'"):
        hear_voice(np.zeros((2, RATE), np.float32), RATE, models / "target.onnx", "ort")
    lonely = tmp_path / "target.onnx"
    lonely.write_bytes((models / "target.onnx").read_bytes())
    with pytest.raises(BundleError, match="no such file"):
        steering_map(lonely, voice)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e25, -1.1e4])
def test_one_value_that_is_no_sound_makes_no_voice(models, look, value):
    sound = np.ascontiguousarray(soundfile.read(look, dtype="float32")[0].T)
    sound[1, 100] = value
    with pytest.raises(
        AudioError, match="the look holds 1 values that are not finite or beyond 10000; expected -1 to 1"
    ):
        hear_voice(sound, RATE, models / "enroll.onnx")


def test_a_steering_belongs_to_the_target_that_it_was_exported_with(models, tmp_path):
    torch.manual_seed(1)
    sizes = {"channels": 8, "hidden": 6, "blocks": 1, "heads": 2, "memory": 5, "query": 2, "embedding": 12}
    export_bundle(build("target", **sizes).eval(), tmp_path / "target.onnx", name="target", license="CC0-1.0")
    beside = tmp_path / "target-steering.onnx"
    beside.write_bytes((models / "target-steering.onnx").read_bytes())
    voice = Voice(np.eye(1, 12, dtype=np.float32)[0], "enroll", load_bundle(models / "enroll.onnx").info.version)
    with pytest.raises(
        BundleError, match=r"target-steering\.onnx: belongs to version \w{12} of its target; model 'target'"
    ):
        steering_map(tmp_path / "target.onnx", voice)
    graph = onnx.load(beside)
    del graph.metadata_props[:]
    onnx.save(graph, beside)  # as of before, when it did not say
    assert np.isfinite(steering_map(tmp_path / "target.onnx", voice)).all()


@pytest.mark.parametrize("name", ["target", "target-small"])
def test_a_target_and_its_steering_ship_together(name):
    bundle = load_bundle(name)
    metadata = {entry.key: entry.value for entry in onnx.load(steering_path(bundle.path)).metadata_props}
    assert metadata == {"enroll_version": load_bundle("enroll").info.version, "target_version": bundle.info.version}


def test_a_voice_that_was_enrolled_with_other_weights_is_refused(models, look, tmp_path, capsys):
    """Its values mean something else: they would steer the model to nobody, or to somebody else."""
    torch.manual_seed(1)
    other = build("enroll", channels=8, hidden=6, blocks=1, embedding=12).eval()
    export_bundle(other, tmp_path / "enroll.onnx", name="enroll", license="CC0-1.0")
    enroll(tmp_path, look)
    with pytest.raises(
        BundleError, match=r"the voice was heard by 'enroll' of version \w{12}; .* enroll the voice again"
    ):
        steering_map(models / "target.onnx", read_profile("Ada").voice)
    enroll(models, look, "Ada", "--overwrite")
    assert np.isfinite(steering_map(models / "target.onnx", read_profile("Ada").voice)).all()


def process(models, look, tmp_path, *more):
    sounds = 0.1 * np.random.default_rng(5).standard_normal((RATE, 2))
    soundfile.write(tmp_path / "in.wav", sounds, RATE, subtype="FLOAT")
    target = ["--model", str(models / "target.onnx"), "--enroll-model", str(models / "enroll.onnx"), "--engine", "ort"]
    return main(["process", str(tmp_path / "in.wav"), str(tmp_path / "out.wav"), *target, *more])


def test_a_file_is_processed_for_an_enrolled_voice_or_for_one_in_a_look(models, look, tmp_path):
    enroll(models, look)
    heard = []
    for how in (["--target", "Ada"], ["--enroll", str(look)]):
        assert process(models, look, tmp_path, *how) == 0
        heard.append(soundfile.read(tmp_path / "out.wav", dtype="float32")[0])
    np.testing.assert_array_equal(*heard)
    assert heard[0].shape == (RATE, 2)
    assert np.abs(heard[0]).max() > 0


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ([], "expected a voice"),
        (["--target", "Bea"], "no profile 'Bea'"),
        (["--target", "Ada", "--target", "Bea"], "2 voices are given"),
        (["--target", "Ada", "--model", "enhance-small"], "goes with task 'target'"),
        (["--enroll", "nowhere.wav"], "no such file"),
    ],
)
def test_a_wrong_choice_of_voice_is_told_and_nothing_is_written(models, look, tmp_path, more, told, capsys):
    enroll(models, look)
    if "Bea" in more and "Ada" in more:
        enroll(models, look, "Bea")
    capsys.readouterr()
    assert process(models, look, tmp_path, *more) == 1
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out.wav").exists()


def test_a_look_that_is_no_recording_of_both_ears_is_named(models, look, tmp_path, capsys):
    soundfile.write(tmp_path / "one-ear.wav", soundfile.read(look)[0][:, 0], RATE)
    assert process(models, look, tmp_path, "--enroll", str(tmp_path / "one-ear.wav")) == 1
    assert "one-ear.wav: the look has shape (1, " in capsys.readouterr().err
    (tmp_path / "look.raw").write_bytes(bytes(2000))
    assert process(models, look, tmp_path, "--enroll", str(tmp_path / "look.raw")) == 1
    assert "look.raw: not a sound file" in capsys.readouterr().err


def test_a_key_goes_from_voice_to_voice_and_a_voice_that_does_not_fit_is_told_before_any_sound(models):
    embeddings = np.eye(2, 12, dtype=np.float32)
    version = load_bundle(models / "enroll.onnx").info.version
    voices = [(name, Voice(embedding, "enroll", version)) for name, embedding in zip("ab", embeddings, strict=True)]
    controls, model = Controls(), str(models / "target.onnx")
    controls.steer(steering_map(model, voices[0][1]))
    keys = VoiceKeys(controls, model, voices)
    for expected in "baba":
        keys.press("t")
        assert str(keys) == f"voice {expected}"
        np.testing.assert_array_equal(controls.voice_target, steering_map(model, dict(voices)[expected]).ravel())
    with pytest.raises(BundleError, match="the voice has 3 values"):
        VoiceKeys(controls, model, [("c", Voice(np.ones(3, np.float32), "other", "1"))])


def test_voices_keep_their_order_and_looks_of_one_name_are_two(models, look, tmp_path, capsys):
    enroll(models, look)
    (tmp_path / "there").mkdir()
    other = written(tmp_path, look, 1).rename(tmp_path / "there" / look.name)
    parser = argparse.ArgumentParser()
    add_voice_arguments(parser)
    given = ["--enroll", str(look), "--target", "Ada", "--enroll", str(other)]
    voices = chosen_voices(parser.parse_args([*given, "--enroll-model", str(models / "enroll.onnx")]))
    assert [name for name, _ in voices] == [str(look), "Ada", str(other)]
    np.testing.assert_array_equal(voices[0][1].embedding, voices[1][1].embedding)
    assert np.abs(voices[0][1].embedding - voices[2][1].embedding).max() > 1e-4
    assert process(models, look, tmp_path, "--enroll", str(look), "--enroll", str(other)) == 1
    assert "2 voices are given" in capsys.readouterr().err
