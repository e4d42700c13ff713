"""hearloop evaluate: measure the quality of models, on the fixed validation set or on one's own recordings."""

import argparse
import json
from functools import partial
from pathlib import Path

from ..runtime.errors import HearloopError
from .material import add_data_arguments, read_corpora


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.description = (
        "Measure SI-SDR, PESQ-WB, ESTOI and more: on mixtures that depend on the validation data and a fixed seed "
        "alone, or on pairs of noisy and clean files."
    )
    parser.add_argument("models", nargs="*", metavar="MODEL", help="name or .onnx file of a bundle, or .pt checkpoint")
    add_data_arguments(parser, training=False)
    parser.add_argument("--folder", type=Path, help="measure on noisy/ and clean/ in it, pairs by name, instead")
    parser.add_argument(
        "--command", action="append", default=[], help='another program, as in "tool {input} {output}"; may be repeated'
    )
    parser.add_argument("--peers", type=Path, help="folder with gtcrn/ and dtln/, measured on the same mixtures")
    parser.add_argument("--mixtures", type=int, default=120, help="how many (default: %(default)s)")
    parser.add_argument("--clean", type=int, default=24, help="how many clean voices (default: %(default)s)")
    parser.add_argument("--dnsmos", action="store_true", help="also what the network DNSMOS P.835 thinks of the output")
    parser.add_argument("--processes", type=int, default=1, help="one per core to use (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the results to this file as well")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="write spectrograms and scatter plots there")


def run(args: argparse.Namespace) -> int:
    """Measure and print two markdown tables; returns the exit status."""
    # torch, pesq and pystoi are extras: only the verbs that need them may import them.
    from ..models.evaluation.evaluate import Opener, evaluate
    from ..models.evaluation.peers import read_peers
    from ..models.evaluation.recordings import of_validation, read_pairs
    from ..models.evaluation.report import as_json, markdown
    from ..models.evaluation.systems import CommandSystem, Unprocessed, opener
    from ..models.simulation.validation import SEED, validation_set

    openers: list[Opener] = [Unprocessed, *map(opener, args.models), *(partial(CommandSystem, c) for c in args.command)]
    if args.peers is not None:
        openers += read_peers(args.peers)
    if len(openers) == 1:
        raise HearloopError("nothing to measure; expected a model, --command or --peers")
    if args.folder is not None:
        noisy, clean, told = read_pairs(args.folder), [], {"folder": args.folder.name}
    else:
        items = validation_set(*read_corpora(args, "valid"), args.mixtures, args.clean)
        noisy, clean = of_validation(items)
        told = {"seed": SEED, "mixtures": args.mixtures, "clean": args.clean}
    results = evaluate(openers, noisy, clean, with_dnsmos=args.dnsmos, processes=args.processes)
    print(markdown(results))
    if args.json is not None:
        args.json.write_text(json.dumps({**told, "systems": as_json(results)}, indent=1) + "\n")
    if args.plots is not None:
        from ..models.evaluation.plots import plot_scatter, plot_spectrograms

        args.plots.mkdir(parents=True, exist_ok=True)
        plot_spectrograms(args.plots / "spectrograms.png", noisy[0], [each() for each in openers[1:]])
        plot_scatter(args.plots / "scatter.png", results[1:])
    return 0
