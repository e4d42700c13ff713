"""hearloop train: train a model on one's own folders of speech and noise."""

import argparse
import math
import os
import platform
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.errors import HearloopError
from .material import add_data_arguments, read_materials

if TYPE_CHECKING:
    from torch import nn

    from ..models.simulation.material import Material
    from ..models.training.configuration import Configuration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.description = "Train a model. An interrupted run continues when the same command is given again."
    parser.add_argument("model", help="name of the model, such as enhance-small, or a .toml file that says all")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run: last.pt, best.pt, log.csv")
    add_data_arguments(parser)
    parser.add_argument(
        "--from",
        dest="start",
        metavar="[PART=]WEIGHTS",
        action="append",
        help="begin with the weights of a checkpoint (.pt) or a bundle; again for each of networks that learn together "
        "or a part of one, such as target.listener=run/best.pt",
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


def run(args: argparse.Namespace) -> int:
    """Train; returns the exit status."""
    # torch is an extra: only the verbs that need it may import it.
    from ..models.training.loop import Training
    from ..models.training.machines import open_fabric, run_on
    from ..models.training.tasks import open_task

    configuration = _configuration(args)
    fabric = open_fabric(args.processes, args.accelerator, args.machines, configuration.training.precision)
    has_weights = bool(args.start) or (args.out / "last.pt").exists()
    configuration.check_start(fabric.world_size, has_weights)
    if args.tensorboard and find_spec("tensorboard") is None:
        raise HearloopError("--tensorboard needs the package tensorboard: pip install tensorboard")
    _check_weights(args, configuration)
    material, validation = read_materials(args, with_heads=configuration.task in ("target", "enroll"))
    print(f"training: {_amounts(material)}; validation: {_amounts(validation)}", flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    training = Training(
        open_task(configuration, material, validation),
        args.out,
        _facts(args, material),
        start_with(args.start) if args.start else None,
        args.tensorboard,
    )
    training.stop.listen()
    training.clock.listen()
    steps, score = run_on(fabric, training.run)
    if fabric.is_global_zero and score > -math.inf:
        print(f"{args.out / 'best.pt'}: score {score:.2f} on validation, after {steps} steps at most")
    elif fabric.is_global_zero:
        print(f"{args.out / 'last.pt'}: {steps} steps, and no score on validation yet")
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


def _check_weights(args: argparse.Namespace, configuration: "Configuration") -> None:
    """Raise HearloopError for weights that cannot be read, before minutes go by with reading recordings."""
    from ..models.published.dvector import read_dvector
    from ..models.training.checkpoint import read_checkpoint
    from ..runtime.bundle import load_bundle

    for given in args.start or ():
        _, name = _part_and_file(given)
        read_checkpoint(name) if name.endswith(".pt") else load_bundle(name)
    if teacher := getattr(configuration.loss, "teacher", ""):
        read_dvector(teacher)


def start_with(names: Sequence[str]) -> "Callable[[nn.Module], object]":
    """What fills a new model with weights that are there already, of checkpoints (.pt) and bundles.

    Each of them goes where it fits, or to the part that stands before it: "target.listener=run/best.pt".
    """
    from ..export.restore import restore, restored
    from ..models.training.checkpoint import load_weights, take_over

    def fill(whole: "nn.Module") -> None:
        for part, name in map(_part_and_file, names):
            try:
                model = whole.get_submodule(part)
            except AttributeError as error:
                raise HearloopError(f"--from {part}={name}: the model has no part {part!r} ({error})") from error
            if name.endswith(".pt"):
                load_weights(model, name)
            elif (other := restored(name)) is not None:
                take_over(model, other.state_dict(), name)
            else:
                restore(model, name)

    return fill


def _part_and_file(given: str) -> tuple[str, str]:
    """Of "PART=WEIGHTS"; weights alone are for the whole model, "". What is no name of a part belongs to the file."""
    part, sign, name = given.partition("=")
    return (part, name) if sign and all(word.isidentifier() for word in part.split(".")) else ("", given)


def _amounts(material: "Material") -> str:
    minutes = f"speech {60 * material.speech.hours:.1f} min, noise {60 * material.noise.hours:.1f} min"
    return f"{minutes}, {len(material.heads)} heads" if material.heads else minutes


def _facts(args: argparse.Namespace, material: "Material") -> dict[str, Any]:
    import torch

    where = f"{args.machines} machines with {args.processes}" if args.machines > 1 else f"{args.processes}"
    accelerator = torch.cuda.get_device_name() if _has_cuda(args) else f"{platform.machine()}, {os.cpu_count()} cores"
    return {
        "speech_minutes": round(60 * material.speech.hours, 1),
        "noise_minutes": round(60 * material.noise.hours, 1),
        **({"heads": len(material.heads)} if material.heads else {}),
        "command": shlex.join(["hearloop", *sys.argv[1:]]),
        "machine": f"{accelerator}, {where} processes, torch {torch.__version__}",
        **(
            {"began_with": ", ".join(Path(_part_and_file(given)[1]).name for given in args.start)} if args.start else {}
        ),
    }


def _has_cuda(args: argparse.Namespace) -> bool:
    import torch

    return args.accelerator in ("auto", "cuda", "gpu") and torch.cuda.is_available()
