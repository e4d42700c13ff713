"""Profiles of voices: where they lie, and what is not taken for one."""

import json
import sys

import numpy as np
import pytest

from hearloop.runtime.errors import HearloopError
from hearloop.runtime.profiles import new_profile, profile_folder, read_profile, save_profile
from hearloop.runtime.voice import Voice


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"schema": 2}, "schema 2.* expected 1"),
        ({"embedding": [1.1, 0, 0, 0]}, r"norm 1\.100; expected .* 1"),
        ({"embedding": [0.9, 0, 0, 0]}, r"norm 0\.900; expected .* 1"),
    ],
)
def test_a_profile_of_another_schema_or_norm_is_refused(changed, told, tmp_path, monkeypatch):
    monkeypatch.setenv("HEARLOOP_PROFILES", str(tmp_path))
    path = save_profile(new_profile("Ada", Voice(np.eye(4, dtype=np.float32)[0], "enroll", "1"), {}))
    assert read_profile("Ada").voice.model == "enroll"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    with pytest.raises(HearloopError, match=told):
        read_profile("Ada")


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="the place is another one there")
def test_profiles_lie_where_the_user_keeps_data(tmp_path, monkeypatch):
    monkeypatch.delenv("HEARLOOP_PROFILES", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert profile_folder() == tmp_path / "hearloop" / "profiles"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert profile_folder() == tmp_path / ".local" / "share" / "hearloop" / "profiles"
