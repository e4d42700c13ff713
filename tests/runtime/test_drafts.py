"""Files that are written beside their place: whole or not there, and readable by whom they should be."""

import os

import pytest

from hearloop.runtime.drafts import draft
from hearloop.tools.files import check_writable, write_json


@pytest.mark.parametrize(("umask", "private", "mode"), [(0o022, False, 0o644), (0o077, False, 0o600), (0, True, 0o600)])
def test_a_draft_takes_its_place_with_the_rights_that_the_umask_leaves_it(tmp_path, umask, private, mode):
    path = tmp_path / "run.json"
    before = os.umask(umask)
    try:
        with draft(path, private) as temporary:
            temporary.write_text("new")
            assert (temporary.parent, temporary.suffix, path.exists()) == (tmp_path, ".json", False)
    finally:
        os.umask(before)
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", mode)
    assert os.listdir(tmp_path) == ["run.json"]


@pytest.mark.parametrize(
    ("old", "private", "mode"), [(0o600, False, 0o600), (0o664, False, 0o664), (0o644, True, 0o600)]
)
def test_a_draft_keeps_the_rights_of_the_file_whose_place_it_takes(tmp_path, old, private, mode):
    """A file of its owner alone became one that everybody could read."""
    path = tmp_path / "run.json"
    path.write_text("old")
    path.chmod(old)
    with draft(path, private) as temporary:
        temporary.write_text("new")
        assert (temporary.stat().st_mode & 0o777, path.read_text()) == (mode, "old")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", mode)


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path, there):
    (tmp_path / "runs").mkdir()
    path, link = tmp_path / "runs" / "first.bin", tmp_path / "run.json"
    if there:
        path.write_text("old")
    link.symlink_to(path)
    with draft(link) as temporary:
        temporary.write_text("new")
        assert temporary.suffix == ".json"  # by which a writer tells the format
    assert (link.readlink(), path.read_text()) == (path, "new")
    assert (os.listdir(tmp_path / "runs"), sorted(os.listdir(tmp_path))) == (["first.bin"], ["run.json", "runs"])


@pytest.mark.parametrize("through_a_link", [True, False])
def test_a_pipe_is_written_and_stays(tmp_path, through_a_link):
    """A device or a pipe was replaced by a file; as root that was the end of /dev/null."""
    pipe = path = tmp_path / "pipe"
    os.mkfifo(pipe)
    if through_a_link:
        path = tmp_path / "link"
        path.symlink_to(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        check_writable(path)
        write_json(path, {"a": 1})
        assert os.read(reader, 100) == b'{\n  "a": 1\n}\n'
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    assert path.is_symlink() == through_a_link


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


@pytest.mark.parametrize("name", [f"{'x' * 251}.wav", f"x.{'x' * 253}", f"x.{'ö' * 126}"])
def test_the_longest_name_that_a_file_may_have_can_be_written(tmp_path, name):
    path = tmp_path / name
    with draft(path):
        pass
    assert path.exists()
