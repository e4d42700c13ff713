"""Enrolling a voice, from the command line: checked, kept as an embedding, listed, renamed, forgotten."""

import argparse
import json
import unicodedata
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hearloop.export import export_bundle
from hearloop.models import build
from hearloop.models.simulation.sphere import spherical_head
from hearloop.models.simulation.starter import synthetic_voice
from hearloop.runtime.bundle import load_bundle
from hearloop.runtime.controls import Controls
from hearloop.runtime.errors import BundleError, HearloopError
from hearloop.runtime.profiles import read_profile, save_profile
from hearloop.runtime.voice import Voice, hear_voice, mean_voice, steering_map
from hearloop.tools import enroll as enroll_command
from hearloop.tools.main import main
from hearloop.tools.voices import VoiceKeys, add_voice_arguments, chosen_voices

RATE = 16000


ONE_LOOK = '{"schema": 1, "embedding": [1.0], "model": "m", "version": "1", "enrolled": "", "look": {}, "looks": 1}'


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Untrained, of one checkpoint as the training leaves it: an enrolment, and a target model with its steering."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    sizes = {
        "target": {"channels": 8, "hidden": 6, "blocks": 1, "heads": 2, "memory": 5, "query": 2, "embedding": 12},
        "enroll": {"channels": 8, "hidden": 6, "blocks": 1, "embedding": 12},
    }
    content = {
        "model": "target",
        "config": {},
        "parts": {name: {"model": name, "config": config} for name, config in sizes.items()},
        "weights": {
            f"{name}.{key}": value
            for name, config in sizes.items()
            for key, value in build(name, **config).state_dict().items()
        },
        "training": {},
        "quality": [],
    }
    torch.save(content, folder / "best.pt")
    for name in sizes:
        output = str(folder / f"{name}.onnx")
        assert main(["export", str(folder / "best.pt"), output, "--part", name, "--license", "CC0-1.0"]) == 0
    return folder


@pytest.fixture(scope="module")
def look(tmp_path_factory):
    rng = np.random.default_rng(3)
    voice = 0.1 * synthetic_voice(rng, 3 * RATE, 180, 0.9)
    ears = np.stack([np.convolve(voice, ear)[: len(voice)] for ear in spherical_head().response(3)], axis=1)
    path = tmp_path_factory.mktemp("look") / "look.wav"
    soundfile.write(path, ears + 1e-4 * rng.standard_normal(ears.shape), RATE, subtype="FLOAT")
    return path


@pytest.fixture(autouse=True)
def profiles(tmp_path, monkeypatch):
    monkeypatch.setenv("HEARLOOP_PROFILES", str(tmp_path / "profiles"))
    return tmp_path / "profiles"


def enroll(models, look, name="Ada", *more):
    return main(["enroll", name, "--from", str(look), "--model", str(models / "enroll.onnx"), "--engine", "ort", *more])


def test_a_voice_is_kept_without_its_recording(models, look, profiles, capsys):
    assert enroll(models, look) == 0
    assert "straight ahead" in capsys.readouterr().out
    (file,) = profiles.iterdir()
    content = json.loads(file.read_text())
    assert len(content["embedding"]) == 12
    assert file.stat().st_size < 2000
    sound, rate = soundfile.read(look, dtype="float32")
    expected = hear_voice(np.ascontiguousarray(sound.T), rate, models / "enroll.onnx", "ort")
    np.testing.assert_allclose(read_profile("Ada").voice.embedding, expected.embedding, atol=1e-6)


def test_profiles_are_listed_renamed_and_forgotten(models, look, profiles, capsys):
    assert main(["profiles"]) == 0
    assert "no voices are enrolled" in capsys.readouterr().out
    enroll(models, look)
    assert main(["profiles", "--rename", "Ada", "Ada L."]) == 0
    capsys.readouterr()
    assert main(["profiles"]) == 0
    assert capsys.readouterr().out.startswith("Ada L.: 20")
    assert main(["profiles", "--delete", "Ada L."]) == 0
    assert list(profiles.iterdir()) == []


def test_a_name_that_is_taken_is_not_overwritten_unawares(models, look, capsys):
    assert enroll(models, look) == 0
    before = read_profile("Ada").voice.embedding
    assert enroll(models, look) == 1
    assert "is there already" in capsys.readouterr().err
    assert enroll(models, look, "Ada", "--overwrite") == 0
    np.testing.assert_array_equal(read_profile("Ada").voice.embedding, before)
    assert enroll(models, look, "Bea") == 0
    assert main(["profiles", "--rename", "Ada", "Bea"]) == 1
    assert read_profile("Ada").name == "Ada"


def written(folder, look, seed, by=1.0):
    """Another look at the same person: a little of something else in it, at another level."""
    sound, rate = soundfile.read(look)
    noise = 1e-2 * np.random.default_rng(seed).standard_normal(sound.shape)
    soundfile.write(folder / f"{seed}.wav", by * (sound + noise), rate, subtype="FLOAT")
    return folder / f"{seed}.wav"


def test_every_look_at_a_person_counts_as_much_as_each_before(models, look, tmp_path, capsys):
    looks = [look, written(tmp_path, look, 1), written(tmp_path, look, 2, by=0.5)]
    for number, path in enumerate(looks):
        assert enroll(models, path, "Ada", *["--again"] * (number > 0)) == 0
    assert "enrolled from 3 looks" in capsys.readouterr().out
    sounds = [soundfile.read(path, dtype="float32")[0].T for path in looks]
    voices = [hear_voice(np.ascontiguousarray(sound), RATE, models / "enroll.onnx", "ort") for sound in sounds]
    assert len({voice.embedding.tobytes() for voice in voices}) == 3
    profile = read_profile("Ada")
    assert profile.looks == 3
    np.testing.assert_allclose(profile.voice.embedding, mean_voice(voices).embedding, atol=1e-3)
    assert main(["profiles", "--rename", "Ada", "Bea"]) == 0
    assert read_profile("Bea").looks == 3
    capsys.readouterr()
    assert main(["profiles"]) == 0
    assert ", 3 looks, 3.0 s" in capsys.readouterr().out


def test_where_a_voice_hardly_stands_out_another_look_is_advised(models, look, tmp_path, capsys):
    advice = "look again elsewhere, or nearer (hearloop enroll 'Ada' --again)"
    assert enroll(models, look) == 0
    assert advice not in capsys.readouterr().out
    sound, rate = soundfile.read(look)
    after = 9 * rate // 10
    sound[after:] = 1e-3 * np.random.default_rng(1).standard_normal(sound[after:].shape)
    soundfile.write(tmp_path / "short.wav", sound, rate, subtype="FLOAT")
    assert enroll(models, tmp_path / "short.wav", "Ada", "--overwrite") == 0
    assert advice in capsys.readouterr().out
    assert enroll(models, look, "Ada", "--again", "--anyway") == 0
    assert advice not in capsys.readouterr().out


def test_another_look_at_somebody_else_is_refused_and_changes_nothing(models, look, profiles, capsys):
    assert enroll(models, look, "Ada", "--again") == 1
    assert "no profile 'Ada'" in capsys.readouterr().err
    enroll(models, look)
    known = read_profile("Ada")
    aside = np.roll(known.voice.embedding, 1)
    save_profile(replace(known, voice=replace(known.voice, embedding=aside)), overwrite=True)
    before = (profiles / "Ada.json").read_bytes()
    assert enroll(models, look, "Ada", "--again") == 1
    told = f"sounds like somebody else than 'Ada': likeness {aside @ known.voice.embedding:.2f}, expected 0.6 at least"
    assert told in capsys.readouterr().err
    assert (profiles / "Ada.json").read_bytes() == before


def test_a_look_that_is_kept_anyway_counts_like_any_other(models, look, capsys):
    enroll(models, look)
    known = read_profile("Ada")
    aside = np.roll(known.voice.embedding, 1)
    save_profile(replace(known, voice=replace(known.voice, embedding=aside)), overwrite=True)
    alike = float(aside @ known.voice.embedding)
    assert alike < 0.6
    assert enroll(models, look, "Ada", "--again", "--anyway") == 0
    assert f"likeness to 'Ada' so far: {alike:.2f}" in capsys.readouterr().out
    both = aside + known.voice.embedding
    np.testing.assert_allclose(read_profile("Ada").voice.embedding, both / np.linalg.norm(both), atol=1e-5)


def test_a_look_heard_by_another_model_does_not_mix_with_those_before(models, look, tmp_path, capsys):
    enroll(models, look)
    torch.manual_seed(1)
    other = build("enroll", channels=8, hidden=6, blocks=1, embedding=12).eval()
    export_bundle(other, tmp_path / "enroll.onnx", name="enroll", license="CC0-1.0")
    assert enroll(tmp_path, look, "Ada", "--again") == 1
    assert "their embeddings mean different things" in capsys.readouterr().err
    assert read_profile("Ada").looks == 1


def test_profiles_of_before_were_made_of_one_look(models, look, profiles):
    enroll(models, look)
    content = json.loads((profiles / "Ada.json").read_text())
    del content["looks"]
    (profiles / "Ada.json").write_text(json.dumps(content))
    assert read_profile("Ada").looks == 1


@settings(max_examples=30)
@given(st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_the_mean_voice_has_unit_norm_and_no_order(count, seed):
    rng = np.random.default_rng(seed)
    embeddings = rng.standard_normal((count, 16)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    voices = [Voice(embedding, "enroll", "1") for embedding in embeddings]
    mean = mean_voice(voices)
    assert np.linalg.norm(mean.embedding) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(mean_voice(voices[::-1]).embedding, mean.embedding, atol=1e-6)
    together = embeddings.sum(axis=0)
    np.testing.assert_allclose(mean.embedding * np.linalg.norm(together), together, atol=1e-5)
    assert (mean.model, mean.version) == ("enroll", "1")


def test_looks_that_have_no_mean_are_told():
    voice = Voice(np.eye(1, 12, dtype=np.float32)[0], "enroll", "1")
    with pytest.raises(HearloopError, match="expected one at least"):
        mean_voice([])
    with pytest.raises(HearloopError, match="leave nothing in the mean"):
        mean_voice([voice, replace(voice, embedding=-voice.embedding)])


def test_a_look_with_problems_is_refused_and_nothing_is_kept(models, look, tmp_path, profiles, capsys):
    sound, rate = soundfile.read(look)
    soundfile.write(tmp_path / "short.wav", sound[:rate], rate)
    assert enroll(models, tmp_path / "short.wav") == 1
    assert "it lasts 1.0 s" in capsys.readouterr().err
    assert not profiles.exists()
    assert enroll(models, tmp_path / "short.wav", "Ada", "--anyway") == 0


def test_a_profile_that_can_not_be_written_leaves_nothing_behind(models, look, profiles, capsys):
    (profiles / "Ada.json").mkdir(parents=True)
    assert enroll(models, look, "Ada", "--overwrite") == 1
    assert "cannot be written" in capsys.readouterr().err
    assert [path.name for path in profiles.iterdir()] == ["Ada.json"]


@pytest.mark.parametrize("name", ["../ada", "", "a/b", ".hidden", "x" * 65, "\u0301a", "a\n", "\U0001d49c" * 64])
def test_a_name_can_not_leave_the_folder(models, look, name, capsys):
    assert enroll(models, look, name) == 1
    assert "profile name" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"schema": 1, "embedding": [2.0], "model": "m", "version": "1", "enrolled": "", "look": {}}']
    + [ONE_LOOK.replace("1}", f"{looks}}}") for looks in ("0", '"many"', "null", "Infinity")]
    + [ONE_LOOK.replace("{}", found) for found in ("null", "[1]", '{"seconds": null}')],
)
def test_a_damaged_profile_is_named_and_can_be_made_again(models, look, profiles, content, capsys):
    profiles.mkdir()
    (profiles / "Ada.json").write_text(content)
    with pytest.raises(HearloopError, match="Ada"):
        read_profile("Ada")
    assert main(["profiles"]) == 0
    assert "enroll 'Ada' again" in capsys.readouterr().out
    assert enroll(models, look, "Ada", "--overwrite") == 0
    assert read_profile("Ada").voice.model == "enroll"


def test_an_unknown_profile_is_told_with_those_that_are_known(models, look):
    enroll(models, look)
    with pytest.raises(HearloopError, match="known are Ada"):
        read_profile("Bea")


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


def test_a_name_that_is_taken_or_none_is_refused_before_anybody_has_spoken(models, look, capsys, monkeypatch):
    monkeypatch.setattr(enroll_command, "record", lambda *_: pytest.fail("the look would be lost"))
    enroll(models, look)
    for name, told in (("Ada", "is there already"), ("a/b", "profile name 'a/b'")):
        assert main(["enroll", name, "--model", str(models / "enroll.onnx")]) == 1
        assert told in capsys.readouterr().err
    assert main(["enroll", "Bea", "--again"]) == 1
    assert "no profile 'Bea'" in capsys.readouterr().err


def test_a_look_is_taken_at_the_rate_of_the_device(models, look, capsys, monkeypatch):
    sound = np.ascontiguousarray(soundfile.read(look, dtype="float32")[0].T)
    asked = []
    monkeypatch.setattr(enroll_command, "record", lambda *given: asked.append(given) or (sound, 12000))
    assert main(["enroll", "Ada", "--seconds", "3", "--input", "ears", "--model", str(models / "enroll.onnx")]) == 0
    assert asked == [(3.0, "ears")]
    assert read_profile("Ada").look["seconds"] == pytest.approx(4.0)
    expected = hear_voice(sound, 12000, models / "enroll.onnx", "ort").embedding
    np.testing.assert_allclose(read_profile("Ada").voice.embedding, expected, atol=1e-6)


@pytest.mark.parametrize(
    "name", ["\u092a\u094d\u0930\u093f\u092f\u093e", "e\u0301lodie", "\u674e\u96f7", "_a", "J. O'Neil-2"]
)
def test_names_of_all_scripts_are_names(models, look, name, capsys):
    assert enroll(models, look, name) == 0
    assert read_profile(unicodedata.normalize("NFD", name)).looks == 1
    capsys.readouterr()
    assert main(["profiles"]) == 0
    assert capsys.readouterr().out.startswith(unicodedata.normalize("NFC", name) + ": 20")


def test_a_profile_that_can_not_be_deleted_is_told(profiles, capsys):
    (profiles / "Ada.json").mkdir(parents=True)
    assert main(["profiles", "--delete", "Ada"]) == 1
    assert "Ada.json: cannot be deleted" in capsys.readouterr().err
    assert main(["profiles", "--delete", "Bea"]) == 1
    assert "no profile 'Bea'; known are Ada" in capsys.readouterr().err


def test_a_look_that_is_no_recording_of_both_ears_is_named(models, look, tmp_path, capsys):
    soundfile.write(tmp_path / "one-ear.wav", soundfile.read(look)[0][:, 0], RATE)
    assert process(models, look, tmp_path, "--enroll", str(tmp_path / "one-ear.wav")) == 1
    assert "one-ear.wav: the look has shape (1, " in capsys.readouterr().err
    (tmp_path / "look.raw").write_bytes(bytes(2000))
    assert process(models, look, tmp_path, "--enroll", str(tmp_path / "look.raw")) == 1
    assert "look.raw: not a sound file" in capsys.readouterr().err
