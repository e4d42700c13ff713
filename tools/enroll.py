"""hearloop enroll: get to know a voice from a look at somebody who speaks."""

import argparse
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ..runtime.engine import ENGINES
from ..runtime.errors import HearloopError
from ..runtime.look import LONGEST_S, Look, check_look
from ..runtime.portaudio import record
from ..runtime.profiles import (
    Profile,
    expect_free,
    looks_of,
    new_profile,
    read_profile,
    save_profile,
    with_another_look,
)
from ..runtime.voice import Voice, hear_voice
from .voices import read_look

SECONDS = 4.0
LITTLE = 0.2  # of a look; where the voice stands out for less, `target` heard another one twice as often
SAME = 0.9999  # cosine of a look with itself, but for rounding
ALIKE = 0.6  # cosine that 95 of 100 pairs of noisy looks at one person exceed, and half of those at two people


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Face a person who speaks, for some seconds, and keep the voice under a name. The recording itself is not kept."
    )
    parser.add_argument("name", help="of the profile, for `--target NAME`")
    parser.add_argument("--from", dest="source", type=Path, metavar="LOOK", help="a two-channel sound file, instead")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="to listen (default: %(default)g)")
    parser.add_argument("--input", help="number or part of the name of the device with the ears' microphones")
    parser.add_argument("--model", default="enroll", help="name or file of the enrolment model (default: %(default)s)")
    parser.add_argument("--engine", choices=ENGINES, default="ort", help="default: %(default)s")
    kept = parser.add_mutually_exclusive_group()
    kept.add_argument("--overwrite", action="store_true", help="replace a profile of that name")
    kept.add_argument("--again", action="store_true", help="another look at the person of that name: known better")
    parser.add_argument("--anyway", action="store_true", help="keep the voice even if the look has problems")


def run(options: argparse.Namespace) -> int:
    """Check the look, make the embedding, keep it; returns the exit status."""
    # Whatever can be refused before the person has spoken is: the recording is not kept.
    if options.again:
        read_profile(options.name)
    elif not options.overwrite:
        expect_free(options.name)
    if options.source:
        look, rate = read_look(options.source, options.anyway)
    else:
        look, rate = _listen(options.seconds, options.input)
    found = check_look(look, rate)
    print(describe(found))
    if not found.usable and not options.anyway:
        raise HearloopError("the look cannot be used: " + "; ".join(found.problems))
    voice = hear_voice(look, rate, options.model, options.engine)
    facts = {name: value for name, value in asdict(found).items() if name != "problems"}
    if options.again:
        known = read_profile(options.name)  # as it is now: it may have changed, or be gone, since before the look
        profile = with_another_look(known, voice, facts)
        _check_alike(known, voice, options.anyway)
    else:
        profile = new_profile(options.name, voice, facts)
    path = save_profile(profile, options.overwrite or options.again)
    print(f"{options.name!r} is enrolled from {looks_of(profile)}: {path}")
    if profile.looks == 1 and found.speech_s < LITTLE * found.seconds:
        print(
            f"the voice hardly stands out: look again elsewhere, or nearer (hearloop enroll {options.name!r} --again)"
        )
    return 0


def _check_alike(known: Profile, voice: Voice, anyway: bool) -> None:
    """Raise HearloopError if another look is rather not at the person of a profile, or no other."""
    alike = float(known.voice.embedding @ voice.embedding)
    print(f"likeness to {known.name!r} so far: {alike:.2f}")
    if (voice.fingerprint in known.heard or alike > SAME) and not anyway:
        raise HearloopError(
            f"this look is what {known.name!r} was enrolled from; expected another one, of something else that is said"
        )
    if alike < ALIKE and not anyway:
        raise HearloopError(
            f"this sounds like somebody else than {known.name!r}: likeness {alike:.2f}, expected {ALIKE:g} at least; "
            "look again, nearer to the person, or keep it --anyway"
        )


def _listen(seconds: float, device: str | None) -> tuple[np.ndarray, int]:
    if not 0 < seconds <= LONGEST_S:
        raise HearloopError(f"--seconds is {seconds:g}; expected more than 0 and at most {LONGEST_S:g}")
    print(f"Face the person while they speak: {seconds:g} s from now.", flush=True)
    return record(seconds, device)


def describe(look: Look) -> str:
    """What was found in a look, in one line."""
    return (
        f"look of {look.seconds:.1f} s at {look.level_dbfs:.0f} dBFS: speech stands out for {look.speech_s:.1f} s, "
        f"{100 * look.frontal_share:.0f} % from straight ahead, {100 * look.clipped_share:.1f} % clipped"
    )
