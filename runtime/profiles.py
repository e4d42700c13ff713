"""The voices that a wearer has enrolled, kept as files in the user's data folder: embeddings, never recordings."""

import json
import os
import sys
import tempfile
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from .errors import HearloopError
from .voice import Voice, mean_voice

SCHEMA = 1
LONGEST_NAME, MOST_BYTES = 64, 200  # file systems count bytes
NORM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Profile:
    """A voice with a name.

    enrolled, look : when, in UTC, and what was found in the recording it was made of, such as seconds and level; of the
        last one if there were several
    looks : how many it was made of
    """

    name: str
    voice: Voice
    enrolled: str
    look: Mapping[str, Any]
    looks: int = 1


def profile_folder() -> Path:
    """`$HEARLOOP_PROFILES`, or a folder in the user's data."""
    given = os.environ.get("HEARLOOP_PROFILES")
    if given:
        return Path(given)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "hearloop" / "profiles"
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA", Path.home())) / "hearloop" / "profiles"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "hearloop" / "profiles"


def new_profile(name: str, voice: Voice, look: Mapping[str, Any]) -> Profile:
    """A profile of now."""
    return Profile(name, voice, datetime.now(timezone.utc).isoformat(timespec="seconds"), look)


def with_another_look(profile: Profile, voice: Voice, look: Mapping[str, Any]) -> Profile:
    """A profile that knows the voice from one more look, which counts about as much as each before.

    Not exactly, because the mean of those is kept at unit norm. Raises HearloopError if another enrolment model has
    made the profile.
    """
    every = mean_voice([profile.voice] * profile.looks + [voice])
    return replace(new_profile(profile.name, every, look), looks=profile.looks + 1)


def looks_of(profile: Profile) -> str:
    """Such as "2 looks"."""
    return "one look" if profile.looks == 1 else f"{profile.looks} looks"


def save_profile(profile: Profile, overwrite: bool = False) -> Path:
    """Keep a voice. The file is whole or not there, whatever happens meanwhile.

    Raises
    ------
    HearloopError
        If the name cannot be one, is taken and `overwrite` is not set, or the file cannot be written.
    """
    if not overwrite:
        expect_free(profile.name)
    path, voice = _path(profile.name), profile.voice
    content = {
        "schema": SCHEMA,
        "enrolled": profile.enrolled,
        "model": voice.model,
        "version": voice.version,
        "embedding": [float(value) for value in voice.embedding],
        "look": dict(profile.look),
        "looks": profile.looks,
    }
    draft: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", delete=False) as file:
            draft = Path(file.name)
            json.dump(content, file)
        os.replace(draft, path)  # readable by its owner alone: a voice is a personal matter
    except OSError as error:
        if draft is not None:
            draft.unlink(missing_ok=True)
        raise HearloopError(f"{path}: cannot be written ({error})") from error
    return path


def read_profile(name: str) -> Profile:
    """Read a voice by its name.

    Raises
    ------
    HearloopError
        If there is none of that name, or its file is damaged.
    """
    path = _path(name)
    try:
        content = json.loads(path.read_text())
        embedding = np.array(content["embedding"], np.float32)
        look = dict(content["look"])
        look["seconds"] = float(look.get("seconds", 0))
        profile = Profile(
            name,
            Voice(embedding, content["model"], content["version"]),
            content["enrolled"],
            look,
            int(content.get("looks", 1)),  # those of before were made of one
        )
        sound = profile.looks > 0 and embedding.ndim == 1 and abs(float(np.linalg.norm(embedding)) - 1) < NORM_TOLERANCE
    except FileNotFoundError:
        known = ", ".join(profile_names()) or "none yet; `hearloop enroll NAME` makes one"
        raise HearloopError(f"no profile {name!r}; known are {known}") from None
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise HearloopError(f"{path}: not a profile that can be read ({error!r}); enroll {name!r} again") from error
    if not sound or content.get("schema") != SCHEMA:
        raise HearloopError(
            f"{path}: schema {content.get('schema')!r} and an embedding of norm {np.linalg.norm(embedding):.3f}; "
            f"expected {SCHEMA} and 1; enroll {name!r} again"
        )
    return profile


def profile_names() -> list[str]:
    """The names of all profiles, in order."""
    return sorted(unicodedata.normalize("NFC", path.stem) for path in profile_folder().glob("*.json"))


def rename_profile(name: str, new: str) -> None:
    """Give a profile another name; raises HearloopError if there is none, or the new name is taken."""
    save_profile(replace(read_profile(name), name=new))
    delete_profile(name)


def delete_profile(name: str) -> None:
    """Forget a voice; raises HearloopError if there is none of that name."""
    path = _path(name)
    try:
        path.unlink()
    except FileNotFoundError:
        raise HearloopError(f"no profile {name!r}; known are {', '.join(profile_names()) or 'none'}") from None
    except OSError as error:
        raise HearloopError(f"{path}: cannot be deleted ({error})") from error


def expect_free(name: str) -> None:
    """Raise HearloopError if a name cannot be that of a new profile, or is taken."""
    if os.path.exists(_path(name)):
        raise HearloopError(f"profile {name!r} is there already; choose another name, overwrite it, or look again")


def _path(name: str) -> Path:
    name = unicodedata.normalize("NFC", name)
    # Letters of some scripts are written with marks, which Unicode counts apart.
    kinds = [unicodedata.category(each)[0] for each in name.replace("_", "a")]
    fits = all(kind in "LMN" or each in " .'-" for kind, each in zip(kinds, name, strict=True))
    if not (fits and kinds and kinds[0] in "LN" and len(name) <= LONGEST_NAME and len(name.encode()) <= MOST_BYTES):
        raise HearloopError(
            f"profile name {name!r}; expected up to {LONGEST_NAME} letters, digits, spaces or .'-_, in {MOST_BYTES} "
            "bytes at most, the first a letter or digit"
        )
    return profile_folder() / f"{name}.json"
