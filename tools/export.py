"""hearloop export: turn a training checkpoint into a bundle."""

import argparse
import json
from pathlib import Path
from typing import Any

from ..runtime.errors import HearloopError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, help="best.pt or last.pt of a run of `hearloop train`")
    parser.add_argument("output", type=Path, help="the bundle to write, a file that ends in .onnx")
    parser.add_argument("--name", help="name of the bundle (default: that of the output file)")
    parser.add_argument("--license", required=True, help="licence of the weights, an SPDX expression")
    parser.add_argument("--comment", default="", help="a sentence for whoever inspects the bundle")
    parser.add_argument(
        "--quality", type=Path, metavar="JSON", help="figures of `hearloop evaluate --json` for the bundle of this name"
    )


def run(options: argparse.Namespace) -> int:
    # torch is an extra: only the verbs that need it may import it.
    from ..export import export_bundle
    from ..models.training.checkpoint import model_of_checkpoint, read_checkpoint

    if options.output.suffix != ".onnx" or not options.output.parent.is_dir():
        raise HearloopError(f"output is {str(options.output)!r}; expected a file ending in .onnx in an existing folder")
    content = read_checkpoint(options.checkpoint)
    # The command of the training names folders of the author's machine, which are nobody else's business.
    name = options.name or options.output.stem
    training = {key: value for key, value in content["training"].items() if key != "command"}
    info = export_bundle(
        model_of_checkpoint(content),
        options.output,
        name=name,
        license=options.license,
        training=training,
        quality=_quality(options.quality, name) if options.quality else content["quality"],
        comment=options.comment,
    )
    print(
        f"{options.output}: {info.name}, {info.parameters:,} parameters, {info.macs_per_second / 1e6:.1f} MMAC/s, "
        f"{info.latency_ms:g} ms, {options.output.stat().st_size:,} bytes"
    )
    return 0


def _quality(path: Path, name: str) -> list[dict[str, Any]]:
    """The means over all mixtures, and over clean voices, of the system of this name."""
    try:
        content = json.loads(path.read_text())
        system = {system["name"]: system for system in content["systems"]}[name]
        test = f"{content['mixtures']} mixtures of unseen voices and noises, -5 to 15 dB, seed {content['seed']}"
        means = {measure: round(found["mean"], 3) for measure, found in system["bands"]["all"].items()}
        clean_db = round(system["clean_si_sdr_db"]["mean"], 2)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HearloopError(f"{path}: holds no result of `hearloop evaluate --json` for {name!r} ({error})") from error
    return [
        {"test": test, "latency_ms": system["latency_ms"], **means},
        {"test": f"{content['clean']} clean voices", "latency_ms": system["latency_ms"], "si_sdr_db": clean_db},
    ]
