"""hearloop evaluate: measure the quality of models, on a fixed validation set or on one's own recordings."""

import argparse
import inspect
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.errors import HearloopError
from .files import check_writable
from .material import add_data_arguments, read_corpora, read_material

if TYPE_CHECKING:
    from ..models.evaluation.recordings import Recording

SPECTROGRAMS = "spectrograms.png"
Found = tuple[Sequence["Recording"], str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.description = (
        "Measure how well models enhance speech, separate two talkers, keep the talker of a look or know one again, "
        "whichever is their task: on a set that depends on the validation data and a fixed seed alone, or on a folder "
        "of recordings."
    )
    parser.add_argument("models", nargs="*", metavar="MODEL", help="name or .onnx file of a bundle, or .pt checkpoint")
    add_data_arguments(parser, training=False)
    parser.add_argument(
        "--folder",
        type=Path,
        help="measure instead on files of the same name in its noisy/ and clean/; to separate, noisy/, talker1/ and "
        "talker2/; for a target, noisy/, clean/ and look/",
    )
    parser.add_argument(
        "--enroll",
        metavar="MODEL",
        help="what looks at the talker, for a target (default: what was trained with it, else enroll)",
    )
    parser.add_argument("--clean-looks", action="store_true", help="with nobody else in them and no noise")
    parser.add_argument(
        "--looks", type=int, default=1, help="at each target, whose voice is the mean of them (default: %(default)s)"
    )
    parser.add_argument(
        "--look-within",
        type=float,
        metavar="DEGREES",
        help="of the front is where a look meets the target (default: as in the recipe, 10)",
    )
    parser.add_argument(
        "--command", action="append", default=[], help='another program, as in "tool {input} {output}"; may be repeated'
    )
    parser.add_argument("--peers", type=Path, help="folder with gtcrn/ and dtln/, measured on the same mixtures")
    parser.add_argument(
        "--mixtures", type=int, default=120, help="how many; the rest of a set in proportion (default: %(default)s)"
    )
    parser.add_argument("--clean", type=int, default=24, help="how many clean voices (default: %(default)s)")
    parser.add_argument("--dnsmos", action="store_true", help="also what the network DNSMOS P.835 thinks of the output")
    parser.add_argument("--processes", type=int, default=1, help="one per core to use (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the results to this file as well")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="write spectrograms and scatter plots there")


def run(args: argparse.Namespace) -> int:
    """Measure and print markdown tables; returns the exit status."""
    _check_counts(args)
    _check_outputs(args)
    # torch, pesq and pystoi are extras: only the verbs that need them may import them.
    import torch

    from ..models.evaluation.evaluate import Opener, evaluate
    from ..models.evaluation.peers import read_peers
    from ..models.evaluation.report import as_json, markdown
    from ..models.evaluation.systems import CommandSystem, common_task, is_enrolment, opener

    torch.set_num_threads(1)  # a process is a core; the tensors of a recording are too small to be shared
    if args.models and all(is_enrolment(name) for name in args.models):
        return _tell_identities(args)
    openers: list[Opener] = [opener(name, args.enroll) for name in args.models]
    openers += [partial(CommandSystem, command) for command in args.command]
    if args.peers is not None:
        openers += read_peers(args.peers)
    if not openers:
        raise HearloopError("nothing to measure; expected a model, --command or --peers")
    systems = [each() for each in openers]
    task = common_task(systems)
    recordings, test = _recordings(args, task)
    results = evaluate(openers, recordings, with_dnsmos=args.dnsmos, processes=args.processes)
    print(markdown(results))
    if args.json is not None:
        content = {"task": task, "test": test, "systems": as_json(results)}
        args.json.write_text(json.dumps(content, indent=1) + "\n")
    if args.plots is not None:
        from ..models.evaluation.plots import plot_scatter, plot_spectrograms

        plot_spectrograms(args.plots / SPECTROGRAMS, recordings[0], systems)
        plot_scatter(args.plots / "scatter.png", results[1:])
    return 0


def _check_counts(args: argparse.Namespace) -> None:
    for name, least in (("mixtures", 1), ("clean", 0), ("looks", 1)):
        count = getattr(args, name)
        if count < least:
            raise HearloopError(f"--{name} is {count}; expected {least} at least")


def _check_outputs(args: argparse.Namespace) -> None:
    """Refuse what cannot be written before anything is measured."""
    if args.json is not None:
        check_writable(args.json)
    if args.plots is not None:
        args.plots.mkdir(parents=True, exist_ok=True)
        check_writable(args.plots / SPECTROGRAMS)


def _recordings(args: argparse.Namespace, task: str) -> Found:
    """What is measured on, and a sentence that says so."""
    if args.folder is not None:
        from ..models.evaluation.recordings import read_folder

        return read_folder(args.folder, task), f"recordings of the folder {args.folder.name}"
    sets: dict[str, Callable[[argparse.Namespace], Found]] = {
        "enhance": _mixtures,
        "separate": _pairs,
        "target": _scenes,
    }
    return sets[task](args)


def _mixtures(args: argparse.Namespace) -> Found:
    from ..models.evaluation.recordings import of_validation
    from ..models.simulation.validation import SEED, validation_set

    items = validation_set(*read_corpora(args, "valid"), args.mixtures, args.clean)
    return of_validation(items), (
        f"{args.mixtures} mixtures of unseen voices and noises, -5 to 15 dB, and {args.clean} clean voices, seed {SEED}"
    )


def _pairs(args: argparse.Namespace) -> Found:
    from ..models.evaluation.recordings import of_pairs, sexes_of
    from ..models.simulation.speakers import read_sexes
    from ..models.simulation.validation import SEED, pair_validation_set

    material = read_material(args, "valid")
    items = pair_validation_set(material, **_counts(pair_validation_set, args.mixtures))
    known = read_sexes(args.manifest) if args.manifest is not None else {}
    return of_pairs(items, sexes_of(material.speech.groups, known)), (
        f"{args.mixtures} pairs of unseen talkers within 5 dB, every second in noise of 15 to 25 dB; "
        f"{len(items.conversations)} conversations of a minute, {len(items.alone)} talkers alone, seed {SEED}"
    )


def _scenes(args: argparse.Namespace) -> Found:
    from ..models.evaluation.recordings import of_scenes
    from ..models.simulation.validation import SEED, scene_validation_set

    counts = _counts(scene_validation_set, args.mixtures)
    items = scene_validation_set(read_material(args, "valid", with_heads=True), **counts, **_looks(args))
    return of_scenes(items, args.clean_looks), (
        f"{args.mixtures} scenes of unseen talkers, noises and heads, -5 to 15 dB, with {_looks_named(args)}; "
        f"{len(items.reopening)} in which the target pauses, seed {SEED}"
    )


def _tell_identities(args: argparse.Namespace) -> int:
    """Measure how well enrolment models tell talkers apart by looks."""
    from ..models.evaluation.identity import identity, identity_table
    from ..models.evaluation.report import plain
    from ..models.evaluation.systems import open_enrolment
    from ..models.simulation.validation import scene_validation_set

    scenes = scene_validation_set(
        read_material(args, "valid", with_heads=True), args.mixtures, 0, **_looks(args)
    ).scenes
    found = [identity(Path(name).stem, open_enrolment(name), scenes, args.clean_looks) for name in args.models]
    print(identity_table(found))
    if args.json is not None:
        times = "" if args.looks == 1 else "times "
        test = f"{len(scenes)} {times}{_looks_named(args)}"
        content = {"task": "enroll", "test": test, "systems": plain(found)}
        args.json.write_text(json.dumps(content, indent=1) + "\n")
    return 0


def _looks(args: argparse.Namespace) -> dict[str, Any]:
    return {"looks": args.looks} | ({} if args.look_within is None else {"frontal_deg": args.look_within})


def _looks_named(args: argparse.Namespace) -> str:
    """Such as "2 noisy looks of 2 to 5 s each within 30 degrees"."""
    kind = "clean" if args.clean_looks else "noisy"
    several = "" if args.looks == 1 else f"{args.looks} "
    each = "" if args.looks == 1 else " each"
    within = "" if args.look_within is None else f" within {args.look_within:g} degrees"
    return f"{several}{kind} looks of 2 to 5 s{each}{within}"


def _counts(make: Callable[..., Any], mixtures: int) -> dict[str, int]:
    """The numbers of a set as it is by default, in proportion to that of its first part."""
    parameters = inspect.signature(make).parameters
    counts = {name: each.default for name, each in parameters.items() if each.kind is not each.KEYWORD_ONLY}
    counts = {name: count for name, count in counts.items() if isinstance(count, int)}
    first = next(iter(counts.values()))
    return {name: round(count * mixtures / first) for name, count in counts.items()}
