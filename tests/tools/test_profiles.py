"""Profiles: their names, their files, and what becomes of damaged ones."""

import json
import unicodedata
from dataclasses import replace

import numpy as np
import pytest
from enrolment import enroll

from hearloop.runtime import profiles as kept
from hearloop.runtime.errors import HearloopError
from hearloop.runtime.profiles import new_profile, read_profile, save_profile, with_another_look
from hearloop.runtime.voice import Voice
from hearloop.tools.main import main

pytestmark = pytest.mark.usefixtures("profiles")


ONE_LOOK = '{"schema": 1, "embedding": [1.0], "model": "m", "version": "1", "enrolled": "", "look": {}, "looks": 1}'


def test_profiles_are_listed_renamed_and_forgotten(models, look, profiles, capsys):
    assert main(["profiles"]) == 0
    assert "no voices are enrolled" in capsys.readouterr().out
    enroll(models, look)
    assert main(["profiles", "--rename", "Ada", "Ada L."]) == 0
    (profiles / ".half.json").touch()  # what a process that was killed has left
    capsys.readouterr()
    assert main(["profiles"]) == 0
    assert capsys.readouterr().out.startswith("Ada L.: 20")
    (profiles / ".half.json").unlink()
    assert main(["profiles", "--delete", "Ada L."]) == 0
    assert list(profiles.iterdir()) == []


def test_profiles_of_before_were_made_of_one_look(models, look, profiles):
    enroll(models, look)
    content = json.loads((profiles / "Ada.json").read_text())
    del content["looks"]
    (profiles / "Ada.json").write_text(json.dumps(content))
    assert read_profile("Ada").looks == 1


def test_a_profile_that_can_not_be_written_leaves_nothing_behind(models, look, profiles, capsys):
    (profiles / "Ada.json").mkdir(parents=True)
    assert enroll(models, look, "Ada", "--overwrite") == 1
    assert "cannot be written" in capsys.readouterr().err
    assert [path.name for path in profiles.iterdir()] == ["Ada.json"]


def test_a_profile_that_can_not_be_deleted_is_told(profiles, capsys):
    (profiles / "Ada.json").mkdir(parents=True)
    assert main(["profiles", "--delete", "Ada"]) == 1
    assert "Ada.json: cannot be deleted" in capsys.readouterr().err
    assert main(["profiles", "--delete", "Bea"]) == 1
    assert "no profile 'Bea'; known are Ada" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../ada", "", "a/b", ".hidden", "x" * 65, "\u0301a", "a\n", "\U0001d49c" * 64])
def test_a_name_can_not_leave_the_folder(models, look, name, capsys):
    assert enroll(models, look, name) == 1
    assert "profile name" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["\u092a\u094d\u0930\u093f\u092f\u093e", "e\u0301lodie", "\u674e\u96f7", "_a", "J. O'Neil-2"]
)
def test_names_of_all_scripts_are_names(models, look, name, capsys):
    assert enroll(models, look, name) == 0
    assert read_profile(unicodedata.normalize("NFD", name)).looks == 1
    capsys.readouterr()
    assert main(["profiles"]) == 0
    assert capsys.readouterr().out.startswith(unicodedata.normalize("NFC", name) + ": 20")


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"schema": 1, "embedding": [2.0], "model": "m", "version": "1", "enrolled": "", "look": {}}']
    + [ONE_LOOK.replace("1}", f"{looks}}}") for looks in ("0", '"many"', "null", "Infinity", "1001", "1000000000")]
    + [ONE_LOOK.replace(text, found) for text, found in (('"m"', "null"), ('"version": "1"', '"version": 1'))]
    + [ONE_LOOK.replace('"enrolled": ""', '"enrolled": []'), ONE_LOOK.replace("1}", '1, "heard": [7]}'), "[" * 100_000]
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


def profile_of(embedding):
    return new_profile("Ada", Voice(np.array(embedding, np.float32), "m", "1"), {"seconds": 4.0})


def test_what_could_not_be_read_again_takes_the_place_of_nothing():
    path = save_profile(profile_of([1, 0]))
    before = path.read_bytes()
    for wrong, told in (
        (profile_of([np.nan, 0]), "norm nan"),
        (profile_of([2, 0]), "norm 2.000; expected"),
        (replace(profile_of([1, 0]), looks=1001), "looks 1001; expected from 1 to 1000"),
        (replace(profile_of([1, 0]), enrolled=None), "enrolled, model, version and heard"),
    ):
        with pytest.raises(HearloopError, match=told):
            save_profile(wrong, overwrite=True)
    assert path.read_bytes() == before


def test_a_thousand_looks_count_as_many():
    known = replace(profile_of([1, 0]), looks=999)
    mean = with_another_look(known, profile_of([0, 1]).voice, {}).voice.embedding
    np.testing.assert_allclose(mean, np.array([999, 1]) / np.hypot(999, 1), rtol=1e-5)


def test_a_name_that_somebody_else_takes_meanwhile_is_not_overwritten(monkeypatch):
    expect_free = kept.expect_free

    def too_early(name):
        monkeypatch.setattr(kept, "expect_free", expect_free)
        save_profile(profile_of([0, 1]))

    monkeypatch.setattr(kept, "expect_free", too_early)
    with pytest.raises(HearloopError, match="profile 'Ada' is there already"):
        save_profile(profile_of([1, 0]))
    np.testing.assert_array_equal(read_profile("Ada").voice.embedding, [0, 1])


def test_an_unknown_profile_is_told_with_those_that_are_known(models, look):
    enroll(models, look)
    with pytest.raises(HearloopError, match="known are Ada"):
        read_profile("Bea")
