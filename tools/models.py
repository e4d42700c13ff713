"""hearloop models: what ships with hearloop."""

import argparse
import json

from ..runtime.bundle import bundle_paths, load_bundle
from ..runtime.bundle_info import BundleInfo


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(options: argparse.Namespace) -> int:
    bundles = {name: load_bundle(path) for name, path in bundle_paths().items()}
    if options.json:
        content = {
            name: json.loads(bundle.info.to_json()) | {"path": str(bundle.path), "golden": None}
            for name, bundle in bundles.items()
        }
        print(json.dumps(content, indent=2))
        return 0
    for name, bundle in bundles.items():
        print(f"{name}\n{describe(bundle.info)}")
        print(f"  file         {bundle.path}")
    if not bundles:
        print("no models are installed")
    return 0


def describe(info: BundleInfo) -> str:
    """The facts of a bundle that a person chooses by, a line each."""
    lines = [
        f"  task         {info.task}, {info.channels_in} channel(s) in, {info.channels_out} out, {info.sample_rate} Hz",
        f"  size         {info.parameters:,} parameters, {info.macs_per_frame:,} MAC per frame of {info.frame} samples"
        f" ({info.macs_per_second / 1e6:.1f} M per second)",
        f"  latency      {info.latency_samples} samples = {info.latency_ms:g} ms algorithmic"
        if info.mode == "stream"
        else f"  hears        whole recordings, {info.frame / info.sample_rate:g} s at once; for `hearloop process`",
        f"  licence      {info.license}",
    ]
    for row in info.quality:
        facts = ", ".join(f"{key} {value}" for key, value in row.items())
        lines.append(f"  quality      {facts}")
    return "\n".join(lines)
