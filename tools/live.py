"""hearloop live: microphone to headphones, in real time."""

import argparse
import contextlib
import math
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..runtime.controls import NO_LIMIT_DB, Controls
from ..runtime.devices import Device
from ..runtime.engine import ENGINES
from ..runtime.errors import HearloopError
from ..runtime.live import PATHS, LiveLoop
from ..runtime.portaudio import PortAudioDevice
from ..runtime.software_device import SoftwareDevice
from . import devices
from .files import check_writable, write_json
from .gains import GainKeys, add_gains_argument
from .keyboard import Keyboard
from .voices import VoiceKeys, add_voice_arguments, chosen_voices

LIMIT_STEPS_DB = (6.0, 12.0, 18.0, 24.0, NO_LIMIT_DB)
PERIOD_S = 0.2
KEYS = "keys: b bypass, + - attenuation limit, q quit"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="enhance-small", help="name or file of the model (default: enhance-small)")
    parser.add_argument("--engine", choices=ENGINES, default="auto")
    parser.add_argument(
        "--path",
        choices=PATHS,
        default="auto",
        help="run the model inside the audio callback, or in a thread beside it",
    )
    parser.add_argument("--list-devices", action="store_true", help="show the sound devices and end")
    parser.add_argument("--input", metavar="DEVICE", help="index or part of the name (default: the system's)")
    parser.add_argument("--output", metavar="DEVICE", help="the same; by default the input's, which has the same clock")
    parser.add_argument("--software", type=Path, metavar="FILE", help="a sound file as microphone; no sound card")
    parser.add_argument("--samplerate", type=int, metavar="HZ", help="of the device (default: what it prefers)")
    parser.add_argument("--channels", type=int, choices=(1, 2), help="microphones (default: 1, or as the file has)")
    parser.add_argument("--latency", default="low", help="of the device: low, high, or seconds (default: low)")
    parser.add_argument(
        "--attenuation-limit", type=float, default=NO_LIMIT_DB, metavar="DB", help="remove no more than this"
    )
    parser.add_argument("--mix", type=float, default=1.0, help="0 is the unprocessed sound, 1 the processed")
    add_gains_argument(parser, "They can be changed while sound is running.")
    add_voice_arguments(parser, "; the first is heard at first, key t goes to the next")
    parser.add_argument("--bypass", action="store_true", help="start with the unprocessed sound")
    parser.add_argument("--duration", type=_seconds, metavar="SECONDS", help="end after so long")
    parser.add_argument("--stats", type=Path, metavar="FILE", help="write what was counted as JSON")
    parser.add_argument(
        "--record", type=Path, metavar="FILE", help="write what is heard to a sound file: flac, ogg, or wav up to 4 GiB"
    )
    parser.epilog = (
        f"{KEYS}; with a model that separates {GainKeys.HELP}; with several voices {VoiceKeys.HELP}. "
        "SIGUSR1 switches bypass, SIGUSR2 steps the limit, SIGINT, SIGTERM and SIGHUP end with a fade."
    )


def run(options: argparse.Namespace) -> int:
    if options.list_devices:
        return devices.run(options)
    if options.stats:
        check_writable(options.stats)
    controls = Controls(options.attenuation_limit, options.mix, bypass=options.bypass, source_gains_db=options.gains)
    voices = chosen_voices(options)
    loop = LiveLoop(
        options.model,
        _device(options),
        options.engine,
        controls,
        record=options.record,
        path=options.path,
        voice=voices[0][1] if voices else None,
    )
    task_keys: list[GainKeys | VoiceKeys] = []
    if controls.source_gains_db:
        task_keys.append(GainKeys(controls))
    if voices:
        task_keys.append(VoiceKeys(controls, options.model, voices))
    ended = threading.Event()
    try:
        with _signals(controls, ended), Keyboard() as keyboard, loop:
            keys = ", ".join([KEYS, *(each.HELP for each in task_keys)])
            print(
                f"{loop.model_name} on {loop.device.name}, {loop.sample_rate} Hz, {loop.path} path; {keys}",
                flush=True,
            )
            _watch(loop, options.duration, keyboard, task_keys, ended)
    finally:
        try:
            if loop.seconds:
                print(_summary(loop))
        finally:  # the terminal may have gone
            if options.stats:
                write_json(options.stats, loop.stats())
    return 0


def _device(options: argparse.Namespace) -> Device:
    if options.samplerate is not None and options.samplerate < 1:
        raise HearloopError(f"--samplerate is {options.samplerate}; expected a positive number of Hz")
    if options.software:
        seconds = options.duration + 1 if options.duration else None
        device = SoftwareDevice.from_file(options.software, seconds=seconds, keep_output=False)
        asked = options.samplerate or device.sample_rate, options.channels or device.input_channels
        if asked != (device.sample_rate, device.input_channels):
            raise HearloopError(
                f"{options.software} has {device.input_channels} channel(s) at {device.sample_rate} Hz; "
                f"asked for were {asked[1]} at {asked[0]} Hz"
            )
        return device
    return PortAudioDevice(
        options.input, options.output, options.channels or 1, options.samplerate, _latency(options.latency)
    )


def _latency(text: str) -> str | float:
    if text in ("low", "high"):
        return text
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise HearloopError(f"--latency is {text!r}; expected low, high, or a number of seconds, zero or more")
    return seconds


def _watch(
    loop: LiveLoop,
    duration: float | None,
    keyboard: Keyboard,
    task_keys: list[GainKeys | VoiceKeys],
    ended: threading.Event,
) -> None:
    """Until it is over: keys, and one line of status if there is somebody to read it."""
    shown = sys.stderr.isatty()
    engine, noted = loop.engine_name, False
    try:
        while not (ended.is_set() or loop.finished or (duration is not None and loop.seconds >= duration)):
            loop.wait(PERIOD_S if duration is None else max(min(PERIOD_S, duration - loop.seconds), 0.001))
            for key in keyboard.pressed():
                _act(key, loop.controls, ended)
                for each in task_keys:
                    each.press(key)
            if loop.engine_name != engine:
                engine = loop.engine_name
                print(
                    "the model now runs as machine code; from the next start on, inside the audio callback", flush=True
                )
            if loop.engine_note and not noted:
                noted = True
                print(f"the model stays with engine {engine}: {loop.engine_note}", flush=True)
            if shown:
                print(
                    "\r" + " | ".join([_status(loop), *map(str, task_keys)]), end="\033[K", file=sys.stderr, flush=True
                )
    finally:
        if shown:
            print(file=sys.stderr)


def _act(key: str, controls: Controls, ended: threading.Event) -> None:
    if key == "b":
        controls.bypass = not controls.bypass
    elif key in "+=]":
        _step_limit(controls, 1)
    elif key in "-[":
        _step_limit(controls, -1)
    elif key == "q":
        ended.set()


def _step_limit(controls: Controls, direction: int) -> None:
    """To the next step up or down; from the last one, up, around to the first."""
    limit = controls.attenuation_limit_db
    if direction > 0:
        further = [step for step in LIMIT_STEPS_DB if step > limit]
        controls.attenuation_limit_db = further[0] if further else LIMIT_STEPS_DB[0]
    else:
        controls.attenuation_limit_db = max((s for s in LIMIT_STEPS_DB if s < limit), default=LIMIT_STEPS_DB[0])


@contextlib.contextmanager
def _signals(controls: Controls, ended: threading.Event) -> Iterator[None]:
    """Signals do what keys do, for a loop without a terminal."""

    def switch_bypass(*_: object) -> None:
        controls.bypass = not controls.bypass

    actions: dict[str, Any] = {
        "SIGINT": lambda *_: ended.set(),
        "SIGTERM": lambda *_: ended.set(),
        "SIGUSR1": switch_bypass,
        "SIGUSR2": lambda *_: _step_limit(controls, 1),
    }
    # A terminal that is closed ends the sound, unless `nohup` has told us to outlive it.
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        actions["SIGHUP"] = actions["SIGTERM"]
    offered = {getattr(signal, name): action for name, action in actions.items() if hasattr(signal, name)}
    before = {number: signal.signal(number, action) for number, action in offered.items()}
    try:
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, action)


def _status(loop: LiveLoop) -> str:
    level_in, level_out = loop.telemetry.tally.take_levels_dbfs()
    compute, misses = loop.compute, loop.telemetry.tally.misses
    limit = loop.controls.attenuation_limit_db
    state = "bypass" if loop.controls.bypass else "limit none" if limit >= NO_LIMIT_DB else f"limit {limit:g} dB"
    return (
        f"in {level_in:6.1f} out {level_out:6.1f} dBFS | "
        f"frame p50 {compute.percentile(50) / 1000:.2f} p99 {compute.percentile(99) / 1000:.2f} ms | "
        f"misses {misses} xruns {loop.xruns} | latency {loop.latency.total_ms:.1f} ms | {state}"
    )


def _summary(loop: LiveLoop) -> str:
    stats = loop.stats()
    times = stats["compute_us"]
    late = ", ".join(f"{count} {cause}" for cause, count in stats["late_chunks"].items() if count)
    lines = [
        f"{stats['seconds']:.1f} s, {stats['frames']} frames, {stats['misses']} misses"
        + (f" (late: {late})" if late else "")
        + f", {stats['concealed']} concealed, {stats['xruns']} xruns"
    ]
    if times["n"]:
        lines.append(
            f"frame time p50 {times['p50'] / 1000:.2f} ms, p99 {times['p99'] / 1000:.2f} ms, "
            f"max {times['max'] / 1000:.2f} ms; latency {stats['latency_ms']:.1f} ms"
        )
    if stats["message"] and not loop.fault:  # a fault is told as the error that ends the command
        lines.append(stats["message"])
    return "\n".join(lines)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text} s; expected a positive number")
    return seconds
