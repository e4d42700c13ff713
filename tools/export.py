"""hearloop export: turn a training checkpoint, or the weights of a published system, into a bundle."""

import argparse
import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..runtime.bundle_info import BundleInfo
from ..runtime.errors import HearloopError
from ..runtime.voice import steering_path

PUBLISHED = ("look-once-to-hear", "gtcrn", "tiger", "tiger-small", "mossformer", "mossformer2", "mambattention")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("trained", nargs="?", type=Path, help="best.pt or last.pt of a run of `hearloop train`")
    parser.add_argument("output", type=Path, help="the bundle to write, a file that ends in .onnx")
    parser.add_argument(
        "--part", help="which of the networks that were trained together: target or enroll (default: the main one)"
    )
    parser.add_argument(
        "--enroll", metavar="MODEL", help="bundle whose voices a target takes; that of an enrolment that did not learn"
    )
    parser.add_argument("--name", help="name of the bundle (default: that of the output file)")
    parser.add_argument(
        "--published",
        metavar="SYSTEM",
        help=f"a published network: {', '.join(PUBLISHED)}",
    )
    parser.add_argument("--checkpoint", type=Path, help="the weights that its authors offer, a file of PyTorch")
    parser.add_argument(
        "--license", help="licence of the weights, an SPDX expression (of published ones: default as their authors say)"
    )
    parser.add_argument("--comment", default="", help="a sentence for whoever inspects the bundle")
    parser.add_argument(
        "--quality", type=Path, metavar="JSON", help="figures of `hearloop evaluate --json` for the bundle of this name"
    )


def run(options: argparse.Namespace) -> int:
    # torch is an extra: only the verbs that need it may import it.
    if options.output.suffix != ".onnx" or not options.output.parent.is_dir():
        raise HearloopError(f"output is {str(options.output)!r}; expected a file ending in .onnx in an existing folder")
    with TemporaryDirectory(prefix=".export-", dir=options.output.parent) as folder:
        made = Path(folder) / options.output.name
        info = _published(options, made) if options.published else _trained(options, made)
        # A target belongs to its steering: the old ones stay until both new ones are there.
        for path in (made, steering_path(made)):
            if path.exists():
                os.replace(path, options.output.with_name(path.name))
    print(
        f"{options.output}: {info.name}, {info.parameters:,} parameters, {info.macs_per_second / 1e6:.1f} MMAC/s, "
        f"{info.latency_ms:g} ms, {options.output.stat().st_size:,} bytes"
    )
    return 0


def _published(options: argparse.Namespace, output: Path) -> BundleInfo:
    from ..export.published import export_published

    if options.checkpoint is None or options.trained is not None:
        raise HearloopError("a published system is exported with --published SYSTEM --checkpoint FILE OUTPUT")
    for name in ("part", "enroll", "quality"):
        if getattr(options, name) is not None:
            raise HearloopError(f"--{name} is for a training checkpoint; expected none with --published")
    return export_published(
        options.published,
        options.checkpoint,
        output,
        license=options.license,
        comment=options.comment,
        bundle_name=options.name,
    )


def _trained(options: argparse.Namespace, output: Path) -> BundleInfo:
    from ..export import export_bundle
    from ..export.steering import export_steering
    from ..models.training.checkpoint import architecture, model_of_checkpoint, read_checkpoint

    checkpoint = options.trained or options.checkpoint
    if checkpoint is None:
        raise HearloopError("there is no checkpoint; expected `hearloop export CHECKPOINT OUTPUT`")
    if options.license is None:
        raise HearloopError("there is no --license; expected the licence of the weights, an SPDX expression")
    content = read_checkpoint(checkpoint)
    # The command of the training names folders of the author's machine, which are nobody else's business.
    name = options.name or options.output.stem
    facts = {key: value for key, value in content["training"].items() if key != "command"}
    training = {**architecture(content, options.part), **facts}
    model = model_of_checkpoint(content, options.part)
    info = export_bundle(
        model,
        output,
        name=name,
        license=options.license,
        training=training,
        quality=_quality(options.quality, name) if options.quality else content["quality"],
        comment=options.comment,
    )
    if hasattr(model, "steering"):
        export_steering(model, steering_path(output), _enroll_version(content, options.enroll), info.version)
    return info


def _enroll_version(content: dict[str, Any], bundle: str | None) -> str | None:
    """Of the enrolment network that a target was trained with, if there was one."""
    from ..export.bundle import fingerprint
    from ..export.restore import version_of
    from ..models.training.checkpoint import model_of_checkpoint

    if "enroll" not in (content.get("parts") or {}):
        return None
    enroll = model_of_checkpoint(content, "enroll")
    return fingerprint(enroll) if bundle is None else version_of(enroll, bundle)


def _quality(path: Path, name: str) -> list[dict[str, Any]]:
    """The means over all recordings of the system of this name."""
    try:
        content = json.loads(path.read_text())
        system = {system["name"]: system for system in content["systems"]}[name]
        # Of an enrolment there are no bands, and no sound that could be late.
        found = system["bands"]["all"] if "bands" in system else system
        latency = {"latency_ms": system["latency_ms"]} if "latency_ms" in system else {}
        means = {
            measure: round(interval["mean"], 3)
            for measure, interval in found.items()
            if isinstance(interval, dict) and interval["mean"] is not None
        }
        return [{"test": content["test"], **latency, **means}]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HearloopError(f"{path}: holds no result of `hearloop evaluate --json` for {name!r} ({error})") from error
