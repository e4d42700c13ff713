"""The recordings that a command works on: the arguments that name them, and what they hold."""

import argparse
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.errors import HearloopError

if TYPE_CHECKING:
    from ..models.simulation.corpus import Corpus
    from ..models.simulation.material import Material

SOURCES = ("speech", "noise", "heads", "valid_speech", "valid_noise", "valid_heads", "manifest")
"""Arguments that name recordings."""


def add_data_arguments(parser: argparse.ArgumentParser, training: bool = True) -> None:
    """Where speech, noise and heads come from: folders, or a table with the columns path, split and kind."""
    several: dict[str, Any] = {"type": Path, "action": "append", "metavar": "FOLDER"}
    if training:
        parser.add_argument("--speech", help="clean speech to train on; may be repeated", **several)
        parser.add_argument("--noise", help="noise to train on; may be repeated", **several)
        parser.add_argument("--heads", help="head-related responses to train on, for a target", **several)
    parser.add_argument("--valid-speech", help="speech of other people, to validate on", **several)
    parser.add_argument("--valid-noise", help="other noise, to validate on", **several)
    parser.add_argument("--valid-heads", help="other heads, to validate on, for a target", **several)
    parser.add_argument("--manifest", type=Path, help="CSV table of files with columns path, split, kind, instead")
    if training:
        parser.add_argument("--split", default="train", help="split of the table to train on (default: %(default)s)")
    parser.add_argument("--valid-split", default="valid", help="split to validate on (default: %(default)s)")


def read_materials(args: argparse.Namespace, with_heads: bool = False) -> "tuple[Material, Material]":
    """What to train and what to validate on; synthetic sounds, and a notice, if no argument names any recordings.

    Raises HearloopError if the arguments do not name all that is needed, or if a speaker, a noise or a head is in both.
    """
    from ..models.simulation.material import check_disjoint
    from ..models.simulation.starter import NOTICE, starter_material

    if all(getattr(args, name) is None for name in SOURCES):
        print(f"note: {NOTICE}", flush=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it has just been said
            return starter_material()
    training, validation = (read_material(args, use, with_heads) for use in ("train", "valid"))
    check_disjoint(training, validation)
    return training, validation


def read_material(args: argparse.Namespace, use: str, with_heads: bool = False) -> "Material":
    """The material for "train" or "valid"; raises HearloopError if the arguments do not name all kinds of it."""
    from ..models.simulation.corpus import joined, read_folder, read_manifest
    from ..models.simulation.head_files import read_heads, read_manifest_heads
    from ..models.simulation.material import Material

    split, prefix = (args.split, "") if use == "train" else (args.valid_split, "valid_")
    if args.manifest is not None:
        with _notes():
            return Material(
                read_manifest(args.manifest, split, "speech"),
                read_manifest(args.manifest, split, "noise"),
                read_manifest_heads(args.manifest, split) if with_heads else (),
            )
    kinds = ("speech", "noise", "heads") if with_heads else ("speech", "noise")
    folders = [getattr(args, f"{prefix}{kind}") for kind in kinds]
    if None in folders:
        options = [f"--{prefix}{kind}".replace("_", "-") for kind in kinds]
        raise HearloopError(f"no data for {use}: give {' and '.join(options)}, or --manifest")
    speech, noise, *heads = folders
    with _notes():
        return Material(
            joined([read_folder(folder) for folder in speech]),
            joined([read_folder(folder, "noise") for folder in noise]),
            tuple(head for each in heads for folder in each for head in read_heads(folder)),
        )


def read_corpora(args: argparse.Namespace, use: str) -> "tuple[Corpus, Corpus]":
    """Speech and noise for "train" or "valid"; see `read_material`."""
    material = read_material(args, use)
    return material.speech, material.noise


@contextmanager
def _notes() -> Iterator[None]:
    """What is warned of, in lines of the command; not on its output, which may be a table."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        yield
    for warning in told:
        print(f"note: {warning.message}", file=sys.stderr, flush=True)
