"""Who can read the files that are written: a sound everybody whom the user lets, a voice its owner alone."""

import os

import numpy as np
import pytest
import soundfile

from hearloop.runtime.files import process_file
from hearloop.runtime.profiles import new_profile, save_profile
from hearloop.runtime.voice import Voice

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions of Unix")


@pytest.fixture(autouse=True)
def usual_mask():
    """That of most systems: everybody may read, nobody else may write."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_a_sound_that_is_written_can_be_read_as_any_other_file(make_bundle, tmp_path):
    soundfile.write(tmp_path / "in.wav", np.zeros(1000), 16000)
    process_file(tmp_path / "in.wav", tmp_path / "out.wav", make_bundle(), engine="ort")
    assert (tmp_path / "out.wav").stat().st_mode & 0o777 == 0o644


def test_a_profile_can_be_read_by_its_owner_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("HEARLOOP_PROFILES", str(tmp_path / "profiles"))
    path = save_profile(new_profile("Ada", Voice(np.ones(1, np.float32), "enroll", "1"), {}))
    assert path.stat().st_mode & 0o777 == 0o600
