"""Files that are written beside their place: whole or not there, and readable by whom they should be."""

import os

import pytest

from hearloop.runtime.drafts import draft


@pytest.mark.parametrize(("umask", "private", "mode"), [(0o022, False, 0o644), (0o077, False, 0o600), (0, True, 0o600)])
def test_a_draft_takes_its_place_with_the_rights_that_the_umask_leaves_it(tmp_path, umask, private, mode):
    path = tmp_path / "run.json"
    path.write_text("old")
    before = os.umask(umask)
    try:
        with draft(path, private) as temporary:
            temporary.write_text("new")
            assert (temporary.parent, temporary.suffix, path.read_text()) == (tmp_path, ".json", "old")
    finally:
        os.umask(before)
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", mode)
    assert os.listdir(tmp_path) == ["run.json"]


def test_of_a_draft_that_fails_nothing_is_left_and_the_old_file_stays(tmp_path):
    path = tmp_path / "run.json"
    path.write_text("old")

    def write_half():
        with draft(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["run.json"]


@pytest.mark.parametrize("links", [True, False])
def test_a_draft_that_shall_be_fresh_takes_no_place_that_somebody_else_has_taken_meanwhile(
    tmp_path, monkeypatch, links
):
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
    path = tmp_path / "run.json"
    with draft(path, fresh=True) as temporary:
        temporary.write_text("mine")
    assert path.read_text() == "mine"
    with pytest.raises(OSError, match=r"exists|no links"), draft(path, fresh=True) as temporary:
        temporary.write_text("late")
    assert path.read_text() == "mine"
    assert os.listdir(tmp_path) == ["run.json"]


def test_a_folder_in_its_place_is_told_and_nothing_is_left(tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(OSError, match="run"), draft(tmp_path / "run"):
        pass
    assert os.listdir(tmp_path) == ["run"]


def test_the_longest_name_that_a_file_may_have_can_be_written(tmp_path):
    path = tmp_path / f"{'x' * 251}.wav"
    with draft(path):
        pass
    assert path.exists()
