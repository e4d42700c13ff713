"""What a simulation is made of, and that nothing of validation is heard in training."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...runtime.errors import AudioError
from .corpus import Corpus, read_folder, read_manifest
from .head_files import read_heads, read_manifest_heads
from .heads import Head

NAMED = 5  # overlaps that an error lists


@dataclass(frozen=True)
class Material:
    """Voices, noises and heads of one split."""

    speech: Corpus
    noise: Corpus
    heads: tuple[Head, ...] = ()


def read_material(speech: str | Path, noise: str | Path, heads: str | Path | None = None) -> Material:
    """Material from folders; see `read_folder` and `read_heads`."""
    return Material(read_folder(speech), read_folder(noise, "noise"), read_heads(heads) if heads is not None else ())


def read_manifest_material(manifest: str | Path, split: str) -> Material:
    """Material of a split in a table; see `read_manifest` and `read_manifest_heads`."""
    return Material(
        read_manifest(manifest, split, "speech"),
        read_manifest(manifest, split, "noise"),
        read_manifest_heads(manifest, split),
    )


def check_disjoint(training: Material, validation: Material) -> None:
    """Raise AudioError, naming it, if a speaker, a recording or a head of validation is in training, too.

    Recordings are compared by their sound as well, so that a copy under another name is found.
    """
    _refuse("speaker", training.speech.groups, validation.speech.groups)
    _refuse("noise recording", training.noise.groups, validation.noise.groups)
    _refuse("head", (head.name for head in training.heads), (head.name for head in validation.heads))
    for before, after in ((training.speech, validation.speech), (training.noise, validation.noise)):
        known, found = before.fingerprints(), after.fingerprints()
        _refuse("recording", *([names[key] for key in known.keys() & found.keys()] for names in (found, found)))
    for head in validation.heads:
        for other in training.heads:
            if np.array_equal(head.responses, other.responses):
                raise AudioError(f"head {head.name} of validation is {other.name} of training; expected another head")


def _refuse(what: str, training: Iterable[str], validation: Iterable[str]) -> None:
    both = sorted(set(training) & set(validation))
    if both:
        more = f" and {len(both) - NAMED} more" if len(both) > NAMED else ""
        raise AudioError(
            f"{what} {', '.join(both[:NAMED])}{more} in both training and validation; expected in one of them"
        )
