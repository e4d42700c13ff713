"""Whose voice a target model lets through: as options of the command line, and by a key while sound is running."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from ..runtime.controls import Controls
from ..runtime.errors import AudioError, HearloopError
from ..runtime.look import LONGEST_S, Look, check_look
from ..runtime.profiles import read_profile
from ..runtime.voice import Voice, hear_voice, steering_map


def add_voice_arguments(parser: argparse.ArgumentParser, several: str = "") -> None:
    """`--target NAME` and `--enroll LOOK`; `several` says what happens if there is more than one."""
    group = parser.add_argument_group("whose voice a model of task 'target' lets through" + several)
    group.add_argument("--target", dest="voices", action="append", default=[], metavar="NAME", help="an enrolled voice")
    group.add_argument(
        "--enroll",
        dest="voices",
        action="append",
        default=[],
        type=Path,
        metavar="LOOK",
        help="the voice in this two-channel file",
    )
    group.add_argument(
        "--enroll-model", default="enroll", metavar="MODEL", help="what hears the voice in a look (default: enroll)"
    )


def chosen_voices(options: argparse.Namespace) -> list[tuple[str, Voice]]:
    """The voices that the options name, in their order: profiles by their name, those in looks by that of the file.

    Raises
    ------
    HearloopError
        If a profile is unknown, or a look cannot be used.
    """
    return [(str(given), _voice(given, options.enroll_model)) for given in options.voices]


def _voice(given: str | Path, enroll_model: str) -> Voice:
    if isinstance(given, str):
        return read_profile(given).voice
    look, rate, _ = usable_look(given)
    return hear_voice(look, rate, enroll_model)


def usable_look(path: Path) -> tuple[np.ndarray, int, Look]:
    """Both ears of a look, float32 (2, samples), its rate in Hz, and what was found in it.

    Raises
    ------
    AudioError
        If the file cannot be read, or is not a recording of both ears.
    HearloopError
        If the look cannot be used.
    """
    look, rate = read_look(path)
    try:
        found = check_look(look, rate)
    except AudioError as error:
        raise AudioError(f"{path}: {error}") from error
    if found.problems:
        raise HearloopError(f"{path}: the look cannot be used: {'; '.join(found.problems)}")
    return look, rate, found


def read_look(path: Path, anyway: bool = False) -> tuple[np.ndarray, int]:
    """Both ears of a look, float32 (2, samples), and its rate in Hz.

    Raises AudioError, also if it is longer than any look; with `anyway` its beginning is read.
    """
    if not path.is_file():
        raise AudioError(f"{path}: no such file")
    try:
        with soundfile.SoundFile(path) as sound:
            rate, seconds = sound.samplerate, sound.frames / sound.samplerate
            if seconds > LONGEST_S and not anyway:
                raise AudioError(
                    f"{path}: the look lasts {seconds:.1f} s, expected {LONGEST_S:g} s at most: cut out where the "
                    "person speaks"
                )
            look = sound.read(round(LONGEST_S * rate), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, ValueError, TypeError) as error:
        raise AudioError(f"{path}: not a sound file that can be read ({error})") from error
    return np.ascontiguousarray(look.T), rate


class VoiceKeys:
    """Goes from one voice to the next; the first one is heard at first.

    The maps of all voices are made here, before any sound runs: a voice that does not fit the model is told then, and a
    key takes no time.

    Raises
    ------
    BundleError
        If the model hears no chosen voice, or one that another enrolment model has made.
    """

    HELP = "t next voice"

    def __init__(self, controls: Controls, model: str, voices: Sequence[tuple[str, Voice]]):
        self._controls = controls
        self._maps = [(name, steering_map(model, voice)) for name, voice in voices]
        self._heard = 0

    def press(self, key: str) -> None:
        if key == "t" and len(self._maps) > 1:
            self._heard = (self._heard + 1) % len(self._maps)
            self._controls.steer(self._maps[self._heard][1])

    def __str__(self) -> str:
        """For the line of status."""
        return f"voice {self._maps[self._heard][0]}"
