"""hearloop devices: what can be given to --input and --output."""

import argparse

from ..runtime.portaudio import list_devices


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "List sound devices. > marks the default input, < the default output."


def run(options: argparse.Namespace) -> int:
    devices = list_devices()
    for device in devices:
        print(device)
    if not devices:
        print("no sound devices; a recording can be used instead: hearloop live --software FILE")
    return 0
