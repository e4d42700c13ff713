"""hearloop demo: ten seconds of the real-time loop over a bundled recording."""

import argparse
import os
from pathlib import Path

import soundfile
from tqdm import tqdm

from ..runtime.auto_engine import Compilation
from ..runtime.bundle import load_bundle
from ..runtime.bundle_info import BundleInfo
from ..runtime.compiler.cache import lookup
from ..runtime.compiler.compiled import Options
from ..runtime.engine import ENGINES
from ..runtime.errors import HearloopError
from ..runtime.live import LiveLoop
from ..runtime.software_device import SoftwareDevice

RECORDING = Path(__file__).parent / "recordings" / "two-voices-helicopter.flac"
PERIOD_S = 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="enhance-small", help="name or file of the model (default: enhance-small)")
    parser.add_argument("--engine", choices=ENGINES, default="auto")
    parser.add_argument("--recording", type=Path, default=RECORDING, metavar="FILE", help="listen to this instead")
    parser.add_argument("--out", type=Path, default=Path("demo"), metavar="FOLDER", help="default: %(default)s")
    parser.epilog = "Writes noisy.wav, enhanced.wav and demo.png. No sound card is needed, and none is used."


def run(options: argparse.Namespace) -> int:
    bundle = load_bundle(options.model)
    device = SoftwareDevice.from_file(options.recording)
    noisy, rate = soundfile.read(options.recording, dtype="float32", always_2d=True)
    folder = _writable(options.out)
    if options.engine == "auto" and lookup(bundle, Options()) is None:
        # Later on it happens beside the running sound; on two cores that cost the first ten seconds up to five frames.
        print("compiling the model, this once", flush=True)
        Compilation(bundle).engine()
    loop = LiveLoop(bundle, device, options.engine)
    print(f"{options.recording.name}, {len(noisy) / rate:.1f} s, through the real-time loop", flush=True)
    _listen(loop, len(noisy) / rate)
    # What the headphones play is late by the latency; less that, the two files can be compared sample for sample.
    late = round(loop.latency.total)
    enhanced = device.output[:, late : late + len(noisy)].T
    soundfile.write(folder / "noisy.wav", noisy, rate, subtype="PCM_16")
    soundfile.write(folder / "enhanced.wav", enhanced, rate, subtype="PCM_16")
    print(f"\n{table(loop, bundle.info)}\n")
    print(f"{folder}: noisy.wav, enhanced.wav (without the latency)", end="")
    try:
        from .picture import draw
    except ModuleNotFoundError as error:
        print(f"; no picture, because {error.name} is not installed: `pip install hearloop[plot]` adds it")
    else:
        draw(folder / "demo.png", noisy[:, 0], enhanced[:, 0], rate, loop.compute)
        print(", demo.png")
    return 0


def table(loop: LiveLoop, info: BundleInfo) -> str:
    """What a run has shown, as a person reads it."""
    stats = loop.stats()
    times = stats["compute_us"]
    p50, p99, most = (f"{times[key] / 1000:.2f} ms" if times["n"] else "none" for key in ("p50", "p99", "max"))
    place = {"native": "inside the audio callback", "worker": "worker beside the audio thread"}[loop.path]
    rows = [
        ("model", f"{info.name}, {info.parameters:,} parameters, {info.macs_per_second / 1e6:.1f} M MAC/s"),
        ("engine", f"{loop.engine_name}, one thread, {place}"),
        ("algorithmic latency", f"{info.latency_samples} samples = {info.latency_ms:g} ms"),
        ("ledger", ""),
        *((f"  {name}", _delay(samples, loop.sample_rate)) for name, samples in loop.latency.items()),
        ("  total", _delay(loop.latency.total, loop.sample_rate)),
        ("frame time", f"p50 {p50}, p99 {p99}, max {most}; {1000 * info.frame / info.sample_rate:g} ms allowed"),
        ("missed deadlines", f"{stats['misses']} of {stats['blocks']} blocks, {stats['frames']} frames"),
    ]
    return "\n".join(f"{name:<20} {value}".rstrip() for name, value in rows)


def _delay(samples: float, sample_rate: int) -> str:
    return f"{samples:7.2f} samples {1000 * samples / sample_rate:6.2f} ms"


def _listen(loop: LiveLoop, seconds: float) -> None:
    """Until the recording has been heard to its end."""
    bar = tqdm(total=seconds, unit="s", disable=None, bar_format="{bar:40} {n:.1f} of {total:.1f} s")
    with bar, loop:
        while not loop.finished:
            loop.wait(PERIOD_S)
            bar.update(min(loop.seconds, seconds) - bar.n)


def _writable(folder: Path) -> Path:
    """Make the folder, before anything is computed that could not be kept."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HearloopError(f"{folder}: cannot be made ({error.strerror})") from error
    if not os.access(folder, os.W_OK):
        raise HearloopError(f"{folder}: cannot be written to")
    return folder
