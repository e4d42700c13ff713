"""What can be measured: bundles through the runtime, checkpoints through PyTorch, other programs."""

import shlex
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile
from scipy.signal import correlate, resample_poly

from ...runtime.bundle import Bundle, load_bundle
from ...runtime.errors import HearloopError
from ...runtime.offline import OfflineProcessor
from ...runtime.processor import Processor
from ...runtime.voice import Voice, hear_voice, mean_voice
from .. import task_of
from ..simulation.corpus import SAMPLE_RATE
from ..training.checkpoint import read_checkpoint
from .network import NetworkOfCheckpoint

TASKS = ("enhance", "separate", "target")
ENROLL = "enroll"
VoiceHearer = Callable[[np.ndarray], Voice]
"""A look, float32 [2, samples] at 16 kHz -> the voice in it."""


class System(Protocol):
    """Something that hears a recording and gives back what its task wants, of the same length, without delay.

    task : "enhance", with as many outputs as channels; "separate", with an output per talker; or "target", with both
        ears of the talker of a look
    """

    name: str
    latency_ms: float
    task: str

    def process(self, mixture: np.ndarray, looks: Sequence[np.ndarray] = ()) -> np.ndarray:
        """float32 [channels, samples] at 16 kHz, looks, each [2, any number] -> [outputs, samples]."""


class ProcessorSystem:
    """A bundle in the processor, as it ships: limiter and all; for a target with what hears the voice in a look."""

    def __init__(self, bundle: Bundle, hear_voice: VoiceHearer | None = None, engine: str = "auto"):
        self._bundle, self._hear_voice, self._engine = bundle, hear_voice, engine
        self.name, self.latency_ms, self.task = bundle.info.name, bundle.info.latency_ms, bundle.info.task
        self._processors: dict[int, Processor] = {}

    def process(self, mixture: np.ndarray, looks: Sequence[np.ndarray] = ()) -> np.ndarray:
        processor = self._opened(len(mixture), _voice_in(looks, self._hear_voice, self.name))
        run = processor.separate if processor.sources > 1 else processor.process
        output = np.concatenate([run(mixture), processor.flush()], axis=-1)
        delay = round(processor.latency.total)
        return output.reshape(-1, output.shape[-1])[:, delay : delay + mixture.shape[1]]

    def _opened(self, channels: int, voice: Voice | None) -> Processor:
        if channels not in self._processors:
            self._processors[channels] = Processor(self._bundle, channels, SAMPLE_RATE, self._engine, voice=voice)
        processor = self._processors[channels]
        if voice is not None:
            processor.listen_to(voice)
        processor.reset()
        return processor


class FileSystem:
    """A bundle that hears files as a whole."""

    def __init__(self, bundle: Bundle):
        self._bundle = bundle
        self.name, self.latency_ms, self.task = bundle.info.name, bundle.info.latency_ms, bundle.info.task

    def process(self, mixture: np.ndarray, looks: Sequence[np.ndarray] = ()) -> np.ndarray:
        processor = OfflineProcessor(self._bundle, len(mixture), SAMPLE_RATE)
        run = processor.separate if processor.sources > 1 else processor.process
        output = np.concatenate([run(mixture), processor.flush()], axis=-1)
        return output.reshape(-1, output.shape[-1])


class CheckpointSystem:
    """The network of a checkpoint; for a target with what hears the voice in a look."""

    def __init__(self, network: NetworkOfCheckpoint, hear_voice: VoiceHearer | None = None):
        self._network, self._hear_voice = network, hear_voice
        self.name, self.latency_ms, self.task = network.name, network.latency_ms, network.task

    def process(self, mixture: np.ndarray, looks: Sequence[np.ndarray] = ()) -> np.ndarray:
        return self._network.hear(mixture, _voice_in(looks, self._hear_voice, self.name))


def _voice_in(looks: Sequence[np.ndarray], hear_voice: VoiceHearer | None, name: str) -> Voice | None:
    if hear_voice is None:
        return None
    if not looks:
        raise HearloopError(f"{name}: there is no look at the target; expected one with each recording")
    return mean_voice([hear_voice(look) for look in looks])


class CommandSystem:
    """Another program: `tool {input} {output}` reads a wav file at 16 kHz and writes one at any rate.

    With `{output1} {output2}` instead it separates two talkers; with `{look}` as well it keeps the talker of a look.
    What it is late by is found by correlation with the input, within 0.2 s, and taken away.
    """

    latency_ms = float("nan")

    def __init__(self, command: str):
        self._words = shlex.split(command)
        separates = {"{output1}", "{output2}"} <= set(self._words)
        self._outputs = ("{output1}", "{output2}") if separates else ("{output}",)
        if not {"{input}", *self._outputs} <= set(self._words):
            raise HearloopError(f"command is {command!r}; expected the words {{input}} and {{output}} in it")
        self.task = "separate" if separates else "target" if "{look}" in self._words else "enhance"
        self.name = Path(self._words[0]).name

    def process(self, mixture: np.ndarray, looks: Sequence[np.ndarray] = ()) -> np.ndarray:
        if len(looks) > 1:
            raise HearloopError(f"{self.name}: there are {len(looks)} looks at the target; a command takes one")
        with tempfile.TemporaryDirectory() as folder:
            names = ("{input}", "{look}", *self._outputs)
            files = {name: f"{folder}/{name.strip('{}')}.wav" for name in names}
            soundfile.write(files["{input}"], mixture.T, SAMPLE_RATE, subtype="FLOAT")
            for look in looks:
                soundfile.write(files["{look}"], look.T, SAMPLE_RATE, subtype="FLOAT")
            words = [files.get(word, word) for word in self._words]
            try:
                subprocess.run(words, check=True, capture_output=True, text=True)
                found = [_read(files[name], len(mixture)) for name in self._outputs]
            except (OSError, subprocess.CalledProcessError, soundfile.LibsndfileError) as error:
                said = (getattr(error, "stderr", "") or "").strip().splitlines()
                raise HearloopError(f"{shlex.join(self._words)}: {said[-1] if said else error}") from error
        shortest = min(output.shape[1] for output in found)
        return _aligned(np.concatenate([output[:, :shortest] for output in found]), mixture)


def _read(path: str, channels: int) -> np.ndarray:
    """A file with so many channels at 16 kHz; of another number of them, their mean in each."""
    audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    sound = audio.T if audio.shape[1] == channels else np.repeat(audio.mean(axis=1)[np.newaxis], channels, axis=0)
    return sound if rate == SAMPLE_RATE else resample_poly(sound, SAMPLE_RATE, rate, axis=1).astype(np.float32)


def _aligned(outputs: np.ndarray, mixture: np.ndarray) -> np.ndarray:
    """The outputs, together, moved to where they resemble the input most, with the input's length."""
    length, reach = mixture.shape[1], SAMPLE_RATE // 5
    outputs = np.pad(outputs, ((0, 0), (0, max(length - outputs.shape[1], 0))))
    heard = np.broadcast_to(mixture, (len(outputs), length))
    likeness = sum(correlate(*pair, method="fft") for pair in zip(outputs, heard, strict=True))
    first = max(length - 1 - reach, 0)
    delay = int(np.argmax(np.abs(likeness[first : length + reach]))) + first - (length - 1)
    moved = outputs[:, delay:] if delay >= 0 else np.pad(outputs, ((0, 0), (-delay, 0)))
    return np.pad(moved, ((0, 0), (0, max(length - moved.shape[1], 0))))[:, :length]


def open_system(name_or_path: str, enroll: str | None = None) -> System:
    """Open a checkpoint (.pt), else a bundle by name or path; `enroll` is that of a target, one or the other as well.

    By default a target's is what was trained together with it, or else the bundle "enroll".

    Raises
    ------
    HearloopError
        If it cannot be read, or its task, or that of `enroll`, is another one.
    """

    def hearer() -> VoiceHearer:
        own = name_or_path if _holds_enrolment(name_or_path) else ENROLL
        return open_enrolment(enroll or own)

    if name_or_path.endswith(".pt"):
        network = NetworkOfCheckpoint(name_or_path)
        _check_task(name_or_path, network.task, TASKS)
        return CheckpointSystem(network, hearer() if network.task == "target" else None)
    bundle = load_bundle(name_or_path)
    task = bundle.info.task
    _check_task(name_or_path, task, TASKS)
    if bundle.info.mode == "file":
        return FileSystem(bundle)
    return ProcessorSystem(bundle, hearer() if task == "target" else None)


def is_enrolment(name_or_path: str) -> bool:
    """Whether it is a bundle or checkpoint of task "enroll"; raises HearloopError if it cannot be read."""
    if name_or_path.endswith(".pt"):
        return task_of(read_checkpoint(name_or_path)["model"]) == ENROLL
    return load_bundle(name_or_path).info.task == ENROLL


def open_enrolment(name_or_path: str) -> VoiceHearer:
    """Open a bundle of task "enroll", or that part of a checkpoint; raises HearloopError if it is something else."""
    if name_or_path.endswith(".pt"):
        network = NetworkOfCheckpoint(name_or_path, ENROLL if _holds_enrolment(name_or_path) else None)
        _check_task(name_or_path, network.task, (ENROLL,))
        return network.hear_voice
    bundle = load_bundle(name_or_path)
    _check_task(name_or_path, bundle.info.task, (ENROLL,))
    return partial(hear_voice, sample_rate=SAMPLE_RATE, model=bundle)


def _holds_enrolment(name_or_path: str) -> bool:
    """Whether it is a checkpoint of a target and what was trained together with it."""
    return name_or_path.endswith(".pt") and ENROLL in (read_checkpoint(name_or_path).get("parts") or {})


def _check_task(name: str, task: str, expected: Sequence[str]) -> None:
    if task not in expected:
        raise HearloopError(f"model {name!r} has the task {task!r}; expected {' or '.join(expected)}")


def opener(name_or_path: str, enroll: str | None = None) -> Callable[[], System]:
    """What opens a system in any process; see `open_system`."""
    return partial(open_system, name_or_path, enroll)


def common_task(systems: Sequence[System]) -> str:
    """The task of all systems; raises HearloopError, naming them, if they have not the same."""
    names = {task: [system.name for system in systems if system.task == task] for task in TASKS}
    found = {task: those for task, those in names.items() if those}
    if len(found) > 1:
        told = "; ".join(f"{', '.join(those)} {task}" for task, those in found.items())
        raise HearloopError(f"systems of different tasks cannot be measured side by side: {told}; expected one task")
    return next(iter(found))
