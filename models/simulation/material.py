"""What a simulation is made of, and that nothing of validation is heard in training."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...runtime.errors import AudioError
from .corpus import Corpus, listed, read_folder
from .head_files import read_heads
from .heads import Head


@dataclass(frozen=True)
class Material:
    """Voices, noises and heads of one split."""

    speech: Corpus
    noise: Corpus
    heads: tuple[Head, ...] = ()


def read_material(
    speech: str | Path, noise: str | Path, heads: str | Path | None = None, hours: float | None = None
) -> Material:
    """Material from folders; see `read_folder` and `read_heads`. `hours` is the most of speech, and of noise."""
    return Material(
        read_folder(speech, "speech", hours),
        read_folder(noise, "noise", hours),
        read_heads(heads) if heads is not None else (),
    )


def check_disjoint(training: Material, validation: Material) -> None:
    """Raise AudioError, naming it, if a speaker, a recording or a head of validation is in training, too.

    Recordings are compared by their sound as well, so that a copy under another name is found.
    """
    _refuse("speaker", set(training.speech.groups) & set(validation.speech.groups))
    _refuse("noise recording", set(training.noise.groups) & set(validation.noise.groups))
    _refuse("head", {head.name for head in training.heads} & {head.name for head in validation.heads})
    for before, after in ((training.speech, validation.speech), (training.noise, validation.noise)):
        known, found = before.fingerprints(), after.fingerprints()
        _refuse("recording", {found[digest] for digest in known.keys() & found.keys()})
    for head in validation.heads:
        for other in training.heads:
            if np.array_equal(head.responses, other.responses):
                raise AudioError(f"head {head.name} of validation is {other.name} of training; expected another head")


def _refuse(what: str, in_both: set[str]) -> None:
    if in_both:
        raise AudioError(f"{what} {listed(sorted(in_both))} in both training and validation; expected in one of them")
