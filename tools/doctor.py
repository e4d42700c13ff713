"""hearloop doctor: can this machine run hearloop in real time, and does it compute the right thing?"""

import argparse
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import numpy as np

from ..runtime.bundle import Bundle, bundle_paths, load_bundle
from ..runtime.engine import open_engine
from ..runtime.errors import DeviceError, HearloopError
from ..runtime.golden import golden_error
from ..runtime.live import LiveLoop
from ..runtime.portaudio import list_devices
from ..runtime.realtime import WORKER_PRIORITY, environment, raise_priority
from ..runtime.software_device import SoftwareDevice
from ..runtime.voice import Steering, Voice

PACED_SECONDS = 5
DEFAULT = "enhance-small"


@dataclass(frozen=True)
class Finding:
    """The outcome of one check: "ok", "warning" (works, but may crackle) or "failed", and what to do about it."""

    check: str
    outcome: str
    found: str
    remedy: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", help="check this model only (default: all that ship with hearloop)")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(options: argparse.Namespace) -> int:
    models = [options.model] if options.model else list(bundle_paths())
    findings = []
    for finding in examine(models):
        findings.append(finding)
        if not options.json:
            print(f"{finding.outcome:<8} {finding.check}: {finding.found}", flush=True)
            if finding.remedy:
                print(f"{'':<8} -> {finding.remedy}", flush=True)
    if options.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    return 1 if any(finding.outcome == "failed" for finding in findings) else 0


def examine(models: list[str]) -> Iterator[Finding]:
    """All checks, one after the other."""
    yield from _sound_system()
    yield _priority()
    yield _governor()
    if not models:
        yield Finding("models", "failed", "no model is installed", "reinstall hearloop, or name one with --model")
    for model in models:
        yield from _guarded(f"model {model}", lambda model=model: _golden(model))  # type: ignore[misc]
    # What most begin with, if it may be any.
    for model in [DEFAULT] if DEFAULT in models else models[:1]:
        yield from _guarded("paced run", lambda model=model: _paced(model))  # type: ignore[misc]


def _guarded(check: str, examine_one: Callable[[], Finding]) -> Iterator[Finding]:
    try:
        yield examine_one()
    except HearloopError as error:
        yield Finding(check, "failed", str(error), "see the message; `hearloop inspect` shows what the file says")


def _sound_system() -> Iterator[Finding]:
    try:
        devices = list_devices()
    except DeviceError as error:
        problem, _, remedy = str(error).partition("; ")
        yield Finding("PortAudio", "failed", problem, remedy)
        return
    yield Finding("PortAudio", "ok", "found")
    both = [device for device in devices if device.inputs and device.outputs]
    if both:
        listed = "; ".join(f"{device.name}, {device.sample_rate} Hz" for device in both)
        yield Finding("duplex devices", "ok", listed)
    else:
        yield Finding(
            "duplex devices",
            "warning",
            f"none with inputs and outputs among {len(devices)} device(s)",
            "plug in a headset, or start the sound server (PipeWire, PulseAudio, JACK); two devices have two clocks",
        )


def _priority() -> Finding:
    """Tried in a thread of its own, so that the priority of this one stays as it is."""
    obtained: list[str] = []
    thread = threading.Thread(target=lambda: obtained.append(raise_priority(WORKER_PRIORITY)))
    thread.start()
    thread.join()
    if obtained[0].startswith("SCHED_FIFO"):
        return Finding("real-time priority", "ok", obtained[0])
    return Finding(
        "real-time priority",
        "warning",
        f"the system grants {obtained[0]}",
        "allow it: a line '@audio - rtprio 95' in /etc/security/limits.d/audio.conf, and your user in group audio",
    )


def _governor() -> Finding:
    governor = environment()["governor"]
    if governor == "powersave":
        return Finding("CPU governor", "warning", governor, "`cpupower frequency-set -g performance` while you listen")
    return Finding("CPU governor", "ok", governor)


def _golden(model: str) -> Finding:
    bundle = load_bundle(model)
    if bundle.info.golden is None:
        return Finding(f"model {model}", "warning", "carries no golden vectors", "export it again")
    engine = open_engine(bundle)
    error, tolerance = golden_error(engine, bundle.info.golden), bundle.info.golden.tolerance
    found = f"golden vectors differ by {error:.1e} of the maximum with engine {engine.name}, allowed {tolerance:.0e}"
    if error <= tolerance:
        return Finding(f"model {model}", "ok", found)
    return Finding(f"model {model}", "failed", found, "update onnxruntime; if it stays, report it with `--json`")


def _paced(model: str) -> Finding:
    """Speech-like noise through the whole live loop, clocked in real time."""
    bundle = load_bundle(model)
    info = bundle.info
    if info.task == "enroll" or info.mode == "file":
        return Finding("paced run", "ok", f"left out: model {info.name!r} is not made to run live")
    noise = np.random.default_rng(0).standard_normal((info.channels_in, PACED_SECONDS * info.sample_rate))
    device = SoftwareDevice(0.05 * noise, info.sample_rate)
    with LiveLoop(bundle, device, voice=_made_up_voice(bundle)) as loop:
        loop.wait()
    stats = loop.stats()
    compute = stats["compute_us"]
    times = ", ".join(f"{name} {compute[name] / 1000:.2f} ms" for name in ("p50", "p99", "max") if compute["n"])
    found = (
        f"{info.name} with engine {stats['engine']}: "
        f"{stats['frames']} frames of {1000 * info.frame / info.sample_rate:g} ms, "
        f"{times or 'none of them timed'}, {stats['misses']} missed"
    )
    if stats["failures"] or stats["callback_errors"]:
        return Finding("paced run", "failed", f"{found}; {stats['message']}", "export the model again, or take another")
    if stats["misses"] or stats["concealed"]:
        return Finding(
            "paced run", "failed", found, "close other programs, see the warnings above, or take a smaller model"
        )
    return Finding("paced run", "ok", found)


def _made_up_voice(bundle: Bundle) -> Voice | None:
    """For a target model the voice of nobody, in the form that its steering expects."""
    if bundle.info.task != "target" or bundle.path is None:
        return None
    steering = Steering(bundle)
    size, version = steering.values, steering.enroll_version or ""
    return Voice(np.full(size, size**-0.5, np.float32), "made up", version)
