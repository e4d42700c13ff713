"""hearloop train: train a model on one's own folders of speech and noise."""

import argparse
import platform
import shlex
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.errors import HearloopError

if TYPE_CHECKING:
    from ..models.simulation.corpus import Corpus

ROOMS = 300
VALIDATION_MIXTURES, VALIDATION_CLEAN = 64, 12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.description = "Train a model. An interrupted run continues when the same command is given again."
    parser.add_argument("model", help="name of the model, such as enhance-small")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run: last.pt, best.pt, log.csv")
    add_data_arguments(parser)
    parser.add_argument("--minutes", type=float, default=80.0, help="length of the training (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=0, help="length of the training in steps, instead of minutes")
    parser.add_argument("--batch", type=int, default=8, help="mixtures per step (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=2.56, help="length of a mixture (default: %(default)s)")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="highest rate (default: %(default)s)")
    parser.add_argument("--validate-every", type=int, default=250, help="steps (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of weights and mixtures (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=1, help="one per core to use (default: %(default)s)")


def add_data_arguments(parser: argparse.ArgumentParser, training: bool = True) -> None:
    """Where speech and noise come from: folders, or a table with the columns path, split and kind."""
    if training:
        parser.add_argument("--speech", type=Path, help="folder of clean speech to train on")
        parser.add_argument("--noise", type=Path, help="folder of noise to train on")
    parser.add_argument("--valid-speech", type=Path, help="folder of speech of other people, to validate on")
    parser.add_argument("--valid-noise", type=Path, help="folder of other noise, to validate on")
    parser.add_argument("--manifest", type=Path, help="CSV table of files with columns path, split, kind, instead")
    if training:
        parser.add_argument("--split", default="train", help="split of the table to train on (default: %(default)s)")
    parser.add_argument("--valid-split", default="valid", help="split to validate on (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Train; returns the exit status."""
    # torch is an extra: only the verbs that need it may import it.
    import numpy as np

    from ..models.simulation.mixture import Simulator
    from ..models.simulation.recipe import Recipe
    from ..models.simulation.rooms import simulate_rooms
    from ..models.simulation.validation import validation_set
    from ..models.training.loop import Settings, Training
    from ..models.training.replicas import run_replicas

    names = {field.name for field in fields(Settings)}
    settings = Settings(**{name: value for name, value in vars(args).items() if name in names})
    speech, noise = read_corpora(args, "train")
    valid_speech, valid_noise = read_corpora(args, "valid")
    print(
        f"training: speech {60 * speech.hours:.1f} min, noise {60 * noise.hours:.1f} min; "
        f"validation: speech {60 * valid_speech.hours:.1f} min, noise {60 * valid_noise.hours:.1f} min",
        flush=True,
    )
    args.out.mkdir(parents=True, exist_ok=True)
    simulator = Simulator(Recipe(), speech, noise, simulate_rooms(np.random.default_rng(settings.seed), ROOMS))
    training = Training(
        args.model,
        {},
        simulator,
        validation_set(valid_speech, valid_noise, VALIDATION_MIXTURES, VALIDATION_CLEAN),
        args.out,
        settings,
        _facts(args, speech, noise),
    )
    run_replicas(training.run, args.processes)
    print(f"{args.out / 'best.pt'}: SI-SDR improvement {training.best_db:.2f} dB after {training.step} steps at most")
    return 0


def read_corpora(args: argparse.Namespace, use: str) -> "tuple[Corpus, Corpus]":
    """Speech and noise for "train" or "valid"; raises HearloopError if the arguments do not name both."""
    from ..models.simulation.corpus import read_folder, read_manifest

    split, prefix = (args.split, "") if use == "train" else (args.valid_split, "valid_")
    if args.manifest is not None:
        return read_manifest(args.manifest, split, "speech"), read_manifest(args.manifest, split, "noise")
    folders = [getattr(args, f"{prefix}{kind}") for kind in ("speech", "noise")]
    if None in folders:
        options = [f"--{prefix}{kind}".replace("_", "-") for kind in ("speech", "noise")]
        raise HearloopError(f"no data for {use}: give {' and '.join(options)}, or --manifest")
    return read_folder(folders[0]), read_folder(folders[1])


def _facts(args: argparse.Namespace, speech: "Corpus", noise: "Corpus") -> dict[str, Any]:
    import torch

    return {
        "speech_minutes": round(60 * speech.hours, 1),
        "noise_minutes": round(60 * noise.hours, 1),
        "command": shlex.join(["hearloop", *sys.argv[1:]]),
        "machine": f"{platform.machine()}, {args.processes} processes, torch {torch.__version__}",
    }
