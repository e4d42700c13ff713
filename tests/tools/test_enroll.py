"""Enrolling a voice, from the command line: checked, and kept as an embedding."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
import soundfile
import torch
from enrolment import RATE, enroll, written
from hypothesis import given, settings
from hypothesis import strategies as st

from hearloop.export import export_bundle
from hearloop.models import build
from hearloop.runtime.errors import HearloopError
from hearloop.runtime.profiles import profile_names, read_profile, save_profile
from hearloop.runtime.voice import Voice, hear_voice, mean_voice
from hearloop.tools import enroll as enroll_command
from hearloop.tools.main import main

pytestmark = pytest.mark.usefixtures("profiles")


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
    save_profile(replace(known, voice=replace(known.voice, embedding=aside), heard=()), overwrite=True)
    before = (profiles / "Ada.json").read_bytes()
    assert enroll(models, look, "Ada", "--again") == 1
    told = f"sounds like somebody else than 'Ada': likeness {aside @ known.voice.embedding:.2f}, expected 0.6 at least"
    assert told in capsys.readouterr().err
    assert (profiles / "Ada.json").read_bytes() == before


def test_a_look_is_not_counted_twice(models, look, profiles, tmp_path, capsys):
    looks = [look, written(tmp_path, look, 1), written(tmp_path, look, 2, by=0.5)]
    for number, path in enumerate(looks):
        assert enroll(models, path, "Ada", *["--again"] * (number > 0)) == 0
        before = (profiles / "Ada.json").read_bytes()
        for known in looks[: number + 1]:
            assert enroll(models, known, "Ada", "--again") == 1
            assert "this look is what 'Ada' was enrolled from" in capsys.readouterr().err
        assert (profiles / "Ada.json").read_bytes() == before


def test_a_look_at_a_person_of_before_is_known_again(models, look, profiles, capsys):
    """Of profiles that have no fingerprints one look is known by its likeness."""
    enroll(models, look)
    save_profile(replace(read_profile("Ada"), heard=()), overwrite=True)
    assert enroll(models, look, "Ada", "--again") == 1
    assert "this look is what 'Ada' was enrolled from" in capsys.readouterr().err


def meanwhile(monkeypatch, do):
    """Something else happens between the first question for a profile and the end of the look."""
    read_look = enroll_command.read_look

    def read(*given):
        monkeypatch.setattr(enroll_command, "read_look", read_look)
        assert do() == 0
        return read_look(*given)

    monkeypatch.setattr(enroll_command, "read_look", read)


def test_of_two_looks_at_the_same_time_none_is_lost(models, look, tmp_path, monkeypatch):
    enroll(models, look)
    first, second = written(tmp_path, look, 1), written(tmp_path, look, 2)
    meanwhile(monkeypatch, lambda: enroll(models, first, "Ada", "--again"))
    assert enroll(models, second, "Ada", "--again") == 0
    assert read_profile("Ada").looks == 3


def test_a_voice_that_is_forgotten_during_a_look_does_not_come_back(models, look, tmp_path, monkeypatch, capsys):
    enroll(models, look)
    meanwhile(monkeypatch, lambda: main(["profiles", "--delete", "Ada"]))
    assert enroll(models, written(tmp_path, look, 1), "Ada", "--again") == 1
    assert "no profile 'Ada'" in capsys.readouterr().err
    assert profile_names() == []


@pytest.mark.parametrize("factor", [2.0, np.nan])
def test_what_is_no_embedding_takes_the_place_of_no_voice(models, look, tmp_path, profiles, factor, capsys):
    enroll(models, look)
    before = (profiles / "Ada.json").read_bytes()
    model = onnx.load(models / "enroll.onnx")
    for node in model.graph.node:
        node.output[:] = ["unscaled" if name == "embedding" else name for name in node.output]
    model.graph.node.append(onnx.helper.make_node("Mul", ["unscaled", "factor"], ["embedding"]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(factor), "factor"))
    onnx.save(model, tmp_path / "enroll.onnx")
    assert enroll(tmp_path, look, "Ada", "--overwrite") == 1
    assert f"model 'enroll' gives an embedding of norm {factor:.3f}; expected 1" in capsys.readouterr().err
    assert (profiles / "Ada.json").read_bytes() == before


def test_of_a_look_that_is_too_long_the_beginning_is_kept_anyway(models, look, tmp_path, capsys):
    sound, rate = soundfile.read(look)
    soundfile.write(tmp_path / "long.wav", np.tile(sound, (11, 1)), rate, subtype="FLOAT")
    assert enroll(models, tmp_path / "long.wav") == 1
    assert "long.wav: the look lasts 33.0 s, expected 30 s at most" in capsys.readouterr().err
    assert enroll(models, tmp_path / "long.wav", "Ada", "--anyway") == 0
    assert read_profile("Ada").look["seconds"] == 30
    assert main(["enroll", "Bea", "--seconds", "31"]) == 1
    assert "--seconds is 31; expected more than 0 and at most 30" in capsys.readouterr().err


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
