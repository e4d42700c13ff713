"""hearloop train: train a model on one's own folders of speech and noise."""

import argparse
import os
import platform
import shlex
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.errors import HearloopError

if TYPE_CHECKING:
    from torch import nn

    from ..models.simulation.corpus import Corpus
    from ..models.training.configuration import Configuration

ROOMS = 300
VALIDATION_MIXTURES, VALIDATION_CLEAN = 64, 12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.description = "Train a model. An interrupted run continues when the same command is given again."
    parser.add_argument("model", help="name of the model, such as enhance-small, or a .toml file that says all")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run: last.pt, best.pt, log.csv")
    add_data_arguments(parser)
    parser.add_argument(
        "--from", dest="start", metavar="WEIGHTS", help="begin with the weights of a checkpoint (.pt) or a bundle"
    )
    place = parser.add_argument_group("where it runs")
    place.add_argument("--processes", type=int, default=1, help="one per core or accelerator (default: %(default)s)")
    place.add_argument("--accelerator", default="auto", help="cpu, cuda or mps (default: one if there is one)")
    place.add_argument("--machines", type=int, default=1, help="that run this command together (default: %(default)s)")
    place.add_argument("--tensorboard", action="store_true", help="write events for TensorBoard as well")
    how = parser.add_argument_group("how", "instead of what the configuration of the model says")
    how.add_argument("--minutes", type=float, help="length of the training")
    how.add_argument("--steps", type=int, help="length of the training in steps, instead of minutes")
    how.add_argument("--batch", type=int, help="mixtures per step, over all processes")
    how.add_argument("--seconds", type=float, help="length of a mixture")
    how.add_argument("--learning-rate", type=float, help="highest rate")
    how.add_argument("--precision", help="32-true, bf16-mixed or 16-mixed")
    how.add_argument("--workers", type=int, help="processes that make mixtures, beside each that trains")
    how.add_argument("--validate-every", type=int, help="steps")
    how.add_argument("--seed", type=int, help="of weights and mixtures")


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
    from ..models.simulation.rooms import simulate_rooms
    from ..models.simulation.validation import validation_set
    from ..models.training.loop import Training
    from ..models.training.machines import open_fabric, run_on

    configuration = _configuration(args)
    settings = configuration.training
    speech, noise = read_corpora(args, "train")
    valid_speech, valid_noise = read_corpora(args, "valid")
    print(
        f"training: speech {60 * speech.hours:.1f} min, noise {60 * noise.hours:.1f} min; "
        f"validation: speech {60 * valid_speech.hours:.1f} min, noise {60 * valid_noise.hours:.1f} min",
        flush=True,
    )
    args.out.mkdir(parents=True, exist_ok=True)
    rooms = simulate_rooms(np.random.default_rng(settings.seed), ROOMS)
    fabric = open_fabric(args.processes, args.accelerator, args.machines, settings.precision)
    training = Training(
        configuration,
        Simulator(configuration.recipe, speech, noise, rooms),
        validation_set(valid_speech, valid_noise, VALIDATION_MIXTURES, VALIDATION_CLEAN),
        args.out,
        _facts(args, speech, noise),
        _start(args.start) if args.start else None,
        args.tensorboard,
    )
    training.stop.listen()
    steps, score = run_on(fabric, training.run)
    if fabric.is_global_zero:
        print(f"{args.out / 'best.pt'}: score {score:.2f} on validation, after {steps} steps at most")
    return 0


def _configuration(args: argparse.Namespace) -> "Configuration":
    """The file or the shipped configuration, with what the command line says instead."""
    from ..models.training.configuration import read_configuration

    configuration = read_configuration(args.model)
    names = {item.name for item in fields(configuration.training)}
    given = {name: value for name, value in vars(args).items() if name in names and value is not None}
    if "minutes" in given and "steps" not in given:
        given["steps"] = 0
    return replace(configuration, training=replace(configuration.training, **given))


def _start(name: str) -> "Callable[[nn.Module], object]":
    """What fills a new model with weights that are there already."""
    if name.endswith(".pt"):
        from ..models.training.checkpoint import load_weights

        return lambda model: load_weights(model, name)
    from ..export.restore import restore

    return lambda model: restore(model, name)


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

    where = f"{args.machines} machines with {args.processes}" if args.machines > 1 else f"{args.processes}"
    accelerator = torch.cuda.get_device_name() if _has_cuda(args) else f"{platform.machine()}, {os.cpu_count()} cores"
    return {
        "speech_minutes": round(60 * speech.hours, 1),
        "noise_minutes": round(60 * noise.hours, 1),
        "command": shlex.join(["hearloop", *sys.argv[1:]]),
        "machine": f"{accelerator}, {where} processes, torch {torch.__version__}",
        **({"began_with": Path(args.start).name} if args.start else {}),
    }


def _has_cuda(args: argparse.Namespace) -> bool:
    import torch

    return args.accelerator in ("auto", "cuda", "gpu") and torch.cuda.is_available()
