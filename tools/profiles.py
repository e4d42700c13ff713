"""hearloop profiles: the voices that are enrolled."""

import argparse

from ..runtime.errors import HearloopError
from ..runtime.profiles import delete_profile, looks_of, profile_folder, profile_names, read_profile, rename_profile


def add_arguments(parser: argparse.ArgumentParser) -> None:
    doing = parser.add_mutually_exclusive_group()
    doing.add_argument("--rename", nargs=2, metavar=("NAME", "NEW"), help="give a voice another name")
    doing.add_argument("--delete", metavar="NAME", help="forget a voice")


def run(options: argparse.Namespace) -> int:
    """List, rename or delete; returns the exit status."""
    if options.rename:
        rename_profile(*options.rename)
    elif options.delete:
        delete_profile(options.delete)
    else:
        _show()
    return 0


def _show() -> None:
    names = profile_names()
    for name in names:
        try:
            profile = read_profile(name)
        except HearloopError as error:
            print(f"{name}: {error}")
            continue
        print(
            f"{name}: {profile.enrolled}, {looks_of(profile)}, {profile.look.get('seconds', 0):.1f} s, "
            f"model {profile.voice.model} {profile.voice.version}"
        )
    if not names:
        print(f"no voices are enrolled in {profile_folder()}; `hearloop enroll NAME` enrols one")
