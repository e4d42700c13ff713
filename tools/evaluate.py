"""hearloop evaluate: measure the quality of models on the fixed validation set."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from .train import add_data_arguments, read_corpora


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.description = (
        "Measure SI-SDR, PESQ-WB and ESTOI on mixtures that depend on the validation data and a fixed seed alone."
    )
    parser.add_argument("models", nargs="+", metavar="MODEL", help="name or .onnx file of a bundle, or .pt checkpoint")
    add_data_arguments(parser, training=False)
    parser.add_argument("--peers", type=Path, help="folder with gtcrn/ and dtln/, measured on the same mixtures")
    parser.add_argument("--mixtures", type=int, default=120, help="how many (default: %(default)s)")
    parser.add_argument("--clean", type=int, default=24, help="how many clean voices (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the results to this file as well")


def run(args: argparse.Namespace) -> int:
    """Measure and print two markdown tables; returns the exit status."""
    # torch, pesq and pystoi are extras: only the verbs that need them may import them.
    from ..models.simulation.validation import SEED, validation_set
    from ..models.training.evaluate import evaluate, markdown
    from ..models.training.peers import read_peers
    from ..models.training.systems import System, Unprocessed, open_system

    systems: list[System] = [Unprocessed(), *(open_system(name) for name in args.models)]
    if args.peers is not None:
        systems += read_peers(args.peers)
    items = validation_set(*read_corpora(args, "valid"), args.mixtures, args.clean)
    results = evaluate(systems, items)
    print(markdown(results))
    if args.json is not None:
        told = {"seed": SEED, "mixtures": args.mixtures, "clean": args.clean}
        args.json.write_text(json.dumps({**told, "systems": [asdict(result) for result in results]}, indent=1) + "\n")
    return 0
