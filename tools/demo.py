"""hearloop demo: ten seconds of the real-time loop over a bundled recording.

`hearloop demo target` is the same at two ears: first a look at somebody who speaks, then that voice among others.
"""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
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
from ..runtime.voice import Voice, check_voice, hear_voice
from .demo_figures import hearing_figures
from .enroll import describe
from .voices import usable_look

RECORDINGS = Path(__file__).parent / "recordings"
PERIOD_S = 0.1


@dataclass(frozen=True)
class Scene:
    """What a demonstration plays, and what it calls what it writes.

    look : at the voice that shall be heard, alone : that voice in the recording by itself; both at two ears
    before, after, picture : names of the files without their endings
    """

    model: str
    recording: Path
    look: Path | None = None
    alone: Path | None = None
    before: str = "noisy"
    after: str = "enhanced"
    picture: str = "demo"


SCENES = {
    "enhance": Scene("enhance-small", RECORDINGS / "two-voices-helicopter.flac"),
    "target": Scene(
        "target-small",
        RECORDINGS / "target-scene.flac",
        RECORDINGS / "target-look.flac",
        RECORDINGS / "target-alone.flac",
        "scene",
        "heard",
        "target",
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "scene",
        nargs="?",
        choices=SCENES,
        default="enhance",
        help="two voices beside a helicopter, or one of two voices at the sea, chosen by a look (default: enhance)",
    )
    parser.add_argument("--model", help="name or file of the model (default: enhance-small, target-small)")
    parser.add_argument("--enroll-model", default="enroll", metavar="MODEL", help="what hears the voice in the look")
    parser.add_argument("--engine", choices=ENGINES, default="auto")
    parser.add_argument("--recording", type=Path, metavar="FILE", help="listen to this instead")
    parser.add_argument("--look", type=Path, metavar="FILE", help="with target: look at this instead")
    parser.add_argument("--out", type=Path, default=Path("demo"), metavar="FOLDER", help="default: %(default)s")
    parser.epilog = (
        "Writes noisy.wav, enhanced.wav and demo.png; with target look.wav, scene.wav, heard.wav and target.png. "
        "No sound card is needed, and none is used."
    )


def run(options: argparse.Namespace) -> int:
    scene = SCENES[options.scene]
    if options.look and not scene.look:
        raise HearloopError(f"--look is {options.look}; only `hearloop demo target` looks at somebody")
    recording = options.recording or scene.recording
    bundle = load_bundle(options.model or scene.model)
    device = SoftwareDevice.from_file(recording)
    noisy, rate = soundfile.read(recording, dtype="float32", always_2d=True)
    folder = _writable(options.out)
    voice = _look(options.look or scene.look, options.enroll_model, folder) if scene.look else None
    check_voice(bundle.info, voice)
    if options.engine == "auto" and lookup(bundle, Options()) is None:
        # Later on it happens beside the running sound; on two cores that cost the first ten seconds up to five frames.
        print("compiling the model, this once", flush=True)
        Compilation(bundle).engine()
    loop = LiveLoop(bundle, device, options.engine, voice=voice)
    print(f"{recording.name}, {len(noisy) / rate:.1f} s, through the real-time loop", flush=True)
    _listen(loop, len(noisy) / rate)
    # What the headphones play is late by the latency; less that, the two files can be compared sample for sample.
    late = round(loop.latency.total)
    heard = device.output[:, late : late + len(noisy)].T
    soundfile.write(folder / f"{scene.before}.wav", noisy, rate, subtype="PCM_16")
    soundfile.write(folder / f"{scene.after}.wav", heard, rate, subtype="PCM_16")
    rows = rows_of(loop, bundle.info)
    ear, alone = 0, None
    if scene.alone and not (options.recording or options.look):
        alone, _ = soundfile.read(scene.alone, dtype="float32", always_2d=True)
        rows += hearing_figures(heard.T, alone.T, noisy.T)
        ear = int(np.square(alone).sum(axis=0).argmax())  # on the side of the voice
    panels = {f"{scene.before}, as it came": noisy[:, ear], f"{scene.after}, as in the headphones": heard[:, ear]}
    if alone is not None:
        panels["the voice alone"] = alone[:, ear]
    print(f"\n{table(rows)}\n")
    print(f"{folder}: {scene.before}.wav, {scene.after}.wav (without the latency)", end="")
    try:
        from .demo_picture import draw
    except ModuleNotFoundError as error:
        print(f"; no picture, because {error.name} is not installed: `pip install hearloop[plot]` adds it")
    else:
        draw(folder / f"{scene.picture}.png", panels, rate, loop.compute)
        print(f", {scene.picture}.png")
    return 0


def _look(path: Path, model: str, folder: Path) -> Voice:
    """The voice in a look, which is judged, timed and copied."""
    look, rate, found = usable_look(path)
    print(describe(found))
    begun = perf_counter()
    voice = hear_voice(look, rate, model)
    print(f"the voice is known, after {perf_counter() - begun:.2f} s of work", flush=True)
    soundfile.write(folder / "look.wav", look.T, rate, subtype="PCM_16")
    return voice


def rows_of(loop: LiveLoop, info: BundleInfo) -> list[tuple[str, str]]:
    """What a run has shown: names and what a person reads beside them."""
    stats = loop.stats()
    times = stats["compute_us"]
    p50, p99, most = (f"{times[key] / 1000:.2f} ms" if times["n"] else "none" for key in ("p50", "p99", "max"))
    place = {"native": "inside the audio callback", "worker": "worker beside the audio thread"}[loop.path]
    return [
        ("model", f"{info.name}, {info.parameters:,} parameters, {info.macs_per_second / 1e6:.1f} M MAC/s"),
        ("engine", f"{loop.engine_name}, one thread, {place}"),
        ("algorithmic latency", f"{info.latency_samples} samples = {info.latency_ms:g} ms"),
        ("ledger", ""),
        *((f"  {name}", _delay(samples, loop.sample_rate)) for name, samples in loop.latency.items()),
        ("  total", _delay(loop.latency.total, loop.sample_rate)),
        ("frame time", f"p50 {p50}, p99 {p99}, max {most}; {1000 * info.frame / info.sample_rate:g} ms allowed"),
        ("missed deadlines", f"{stats['misses']} of {stats['blocks']} blocks, {stats['frames']} frames"),
    ]


def table(rows: list[tuple[str, str]]) -> str:
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
