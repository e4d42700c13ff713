"""The voices that a wearer has enrolled, kept as files in the user's data folder: embeddings, never recordings."""

import json
import os
import sys
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from .drafts import draft
from .errors import HearloopError
from .voice import Voice, mean_voice

SCHEMA = 1
LONGEST_NAME, MOST_BYTES = 64, 200  # file systems count bytes
MOST_LOOKS = 1000


@dataclass(frozen=True)
class Profile:
    """A voice with a name.

    enrolled, look : when, in UTC, and what was found in the recording it was made of, such as seconds and level; of the
        last one if there were several
    looks : how many it was made of
    heard : fingerprints of the embeddings of the looks, by which each is known again; profiles of before have none
    """

    name: str
    voice: Voice
    enrolled: str
    look: Mapping[str, Any]
    looks: int = 1
    heard: tuple[str, ...] = ()


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
    enrolled = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Profile(name, voice, enrolled, look, heard=(voice.fingerprint,))


def with_another_look(profile: Profile, voice: Voice, look: Mapping[str, Any]) -> Profile:
    """A profile that knows the voice from one more look, which counts about as much as each before.

    Not exactly, because the mean of those is kept at unit norm. Raises HearloopError if another enrolment model has
    made the profile.
    """
    every = mean_voice([profile.voice, voice], weights=[profile.looks, 1])
    heard = (*profile.heard, voice.fingerprint)
    return replace(new_profile(profile.name, every, look), looks=profile.looks + 1, heard=heard)


def looks_of(profile: Profile) -> str:
    """Such as "2 looks"."""
    return "one look" if profile.looks == 1 else f"{profile.looks} looks"


def save_profile(profile: Profile, overwrite: bool = False) -> Path:
    """Keep a voice. The file is whole or not there, whatever happens meanwhile.

    Raises
    ------
    HearloopError
        If the name cannot be one, is taken and `overwrite` is not set, the profile could not be read again, or the
        file cannot be written.
    """
    if not overwrite:
        expect_free(profile.name)
    path, voice = _path(profile.name), profile.voice
    _check(profile, path)
    content = {
        "schema": SCHEMA,
        "enrolled": profile.enrolled,
        "model": voice.model,
        "version": voice.version,
        "embedding": [float(value) for value in voice.embedding],
        "look": dict(profile.look),
        "looks": profile.looks,
        "heard": list(profile.heard),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft(path, private=True, fresh=not overwrite) as temporary:  # a voice is a personal matter
            temporary.write_text(json.dumps(content))
    except OSError as error:
        if not overwrite:
            expect_free(profile.name)  # no longer, if somebody has taken the name meanwhile
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
            content.get("looks", 1),  # those of before were made of one
            tuple(content.get("heard", ())),
        )
    except FileNotFoundError:
        known = ", ".join(profile_names()) or "none yet; `hearloop enroll NAME` makes one"
        raise HearloopError(f"no profile {name!r}; known are {known}") from None
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise HearloopError(f"{path}: not a profile that can be read ({error!r}); enroll {name!r} again") from error
    if content.get("schema") != SCHEMA:
        raise HearloopError(f"{path}: schema {content.get('schema')!r}; expected {SCHEMA}; enroll {name!r} again")
    _check(profile, path)
    return profile


def profile_names() -> list[str]:
    """The names of all profiles, in order."""
    paths = [path for path in profile_folder().glob("*.json") if not path.name.startswith(".")]  # no drafts
    return sorted(unicodedata.normalize("NFC", path.stem) for path in paths)


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


def _check(profile: Profile, path: Path) -> None:
    """Raise HearloopError that names what no profile can hold."""
    voice, looks = profile.voice, profile.looks
    texts = (profile.enrolled, voice.model, voice.version, *profile.heard)
    shape, norm = voice.embedding.shape, np.linalg.norm(voice.embedding)
    for fits, found, expected in (
        (all(isinstance(text, str) for text in texts), f"enrolled, model, version and heard {texts}", "texts"),
        (voice.has_unit_norm, f"embedding of shape {shape} and norm {norm:.3f}", "(values,) and 1"),
        (isinstance(looks, int) and 1 <= looks <= MOST_LOOKS, f"looks {looks!r}", f"from 1 to {MOST_LOOKS}"),
    ):
        if not fits:
            raise HearloopError(f"{path}: {found}; expected {expected}; enroll {profile.name!r} again")


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
