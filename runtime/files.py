"""Sound files through a processor, block by block, so that a file of any length needs the same memory."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from .bundle import Bundle, load_bundle
from .bundle_info import BundleInfo
from .controls import Controls
from .drafts import draft
from .errors import AudioError, EngineError
from .offline import OfflineProcessor
from .processor import Processor
from .voice import Voice, check_voice

SUFFIXES = (".wav", ".flac", ".ogg")
READ_ONLY = (".aif", ".aiff", ".mp3", ".opus")
BLOCK_SAMPLES = 16384
# Channels and Hz that libsndfile writes at most; asked for more of either in ogg it crashes.
LIMITS = {".flac": (8, 655_350), ".ogg": (255, 200_000)}
# A wav file counts its bytes in 32 bits; of those the header takes some.
LARGEST_WAV_BYTES = 2**32 - 2**16
SAMPLE_BYTES = {"PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}


def process_file(
    source: Path,
    target: Path,
    model: str | Path | Bundle,
    *,
    engine: str = "auto",
    compensate: bool = True,
    progress: Callable[[float], None] | None = None,
    voice: Voice | None = None,
    **controls: Any,
) -> dict[str, Any]:
    """Process one sound file of any rate and number of channels.

    A model of mode "file" hears it as a whole, or in long pieces if it is longer than those; see `offline`.

    A model that separates gives a file for each source; see `source_files`. With `source_gains_db` it gives one, the
    remix.

    A target appears only when all are complete: they are written beside their places and moved there, so that old files
    are kept if anything fails.

    Parameters
    ----------
    source, target : Path
        wav, flac or ogg; the target's format follows its suffix. A wav file beyond 4 GiB is written as RF64.
    compensate : bool
        Shift the output so that it lines up with the input sample for sample; it has the same length either way.
    progress : callable, optional
        Called with the seconds of audio done since the last call.
    voice : Voice, optional
        Whom a model of task "target" shall let through.
    **controls
        Initial values of `Controls`.

    Returns
    -------
    dict
        seconds, missing_seconds (that the source's header tells of and that could not be read), sample_rate, channels,
        latency_samples, targets (the files that were written), and the processor's event counts.

    Raises
    ------
    AudioError
        If the source is not a readable sound file or has a rate that cannot be converted, or the target cannot be
        written, cannot hold the rate or the channels, or is the source itself.
    HearloopError
        If the model cannot be loaded or run, or a control has a wrong value.
    """
    if target.suffix.lower() not in SUFFIXES:
        raise AudioError(
            f"{target}: cannot write {target.suffix or 'a file without suffix'}; use {', '.join(SUFFIXES)}"
        )
    bundle = model if isinstance(model, Bundle) else load_bundle(model)
    remixed = bool(Controls(**controls).source_gains_db)
    targets = source_files(target, bundle.info, remixed)
    with _open(source) as sound:
        processor = _processor(bundle, sound, engine, voice, controls)
        channels = processor.channels_out if isinstance(processor, OfflineProcessor) else sound.channels
        latency = round(processor.latency.total)
        check_limits(target, channels, sound.samplerate)
        for each in targets:
            if each.exists() and each.samefile(source):
                raise AudioError(f"{each}: is the recording itself, which is not overwritten; expected another file")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with ExitStack() as drafts:
                names = [drafts.enter_context(draft(each)) for each in targets]
                with ExitStack() as files:
                    outs = [files.enter_context(_create(name, sound, channels)) for name in names]
                    skip = latency if compensate else 0
                    flush = compensate or isinstance(processor, OfflineProcessor)
                    for block in _processed(sound, processor, apart=len(outs) > 1, flush=flush):
                        for out, part in zip(outs, block, strict=True):
                            out.write(part[:, skip:].T)
                        skip = max(0, skip - block.shape[-1])
                        if progress is not None:
                            progress(block.shape[-1] / sound.samplerate)
        except (OSError, soundfile.SoundFileError) as error:
            raise AudioError(f"{target}: cannot be written ({error})") from error
        return {
            "seconds": outs[0].frames / sound.samplerate,
            "missing_seconds": (sound.frames - outs[0].frames) / sound.samplerate,
            "sample_rate": sound.samplerate,
            "channels": channels,
            "latency_samples": latency,
            "targets": targets,
            **processor.events,
        }


def source_files(target: Path, info: BundleInfo, remixed: bool) -> list[Path]:
    """The files that a model writes: the target, or a.1.wav, a.2.wav and so on for the sources of a.wav."""
    if info.sources == 1 or remixed:
        return [target]
    return [target.with_name(f"{target.stem}.{source}{target.suffix}") for source in range(1, info.sources + 1)]


def _processor(
    bundle: Bundle, sound: soundfile.SoundFile, engine: str, voice: Voice | None, controls: dict[str, Any]
) -> Processor | OfflineProcessor:
    if bundle.info.mode != "file":
        return Processor(bundle, sound.channels, sound.samplerate, engine, voice=voice, **controls)
    check_voice(bundle.info, voice)
    if engine == "compiled":
        raise EngineError(f"model {bundle.info.name!r} hears whole recordings; expected engine 'ort' or 'auto'")
    return OfflineProcessor(bundle, sound.channels, sound.samplerate, **controls)


def sound_files(folder: Path) -> list[Path]:
    """All files below a folder that have the suffix of a sound file, of one that can only be read as well.

    Hidden ones are left out: drafts that a killed process has left behind are among them.
    """
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES + READ_ONLY)
    return sorted(path for path in found if path.is_file() and not path.name.startswith("."))


def check_limits(target: Path, channels: int, sample_rate: int) -> None:
    """Refuse what a sound file of this suffix cannot hold.

    Raises
    ------
    AudioError
        If there are too many channels, or the rate is too high.
    """
    suffix = target.suffix.lower()
    most_channels, highest_hz = LIMITS.get(suffix, (channels, sample_rate))
    if channels > most_channels:
        raise AudioError(f"{target}: the sound has {channels} channels; expected at most {most_channels} in {suffix}")
    if sample_rate > highest_hz:
        raise AudioError(f"{target}: the sound has {sample_rate} Hz; expected at most {highest_hz} in {suffix}")


def _processed(
    sound: soundfile.SoundFile, processor: Processor | OfflineProcessor, apart: bool, flush: bool
) -> Iterator[np.ndarray]:
    """Blocks, float32 (targets, channels, n)."""
    process = processor.separate if apart else processor.process
    process(np.zeros((sound.channels, 0), np.float32))  # so that `flush` knows the form, also of an empty file
    read = 0
    while True:
        try:
            block = sound.read(BLOCK_SAMPLES, dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            raise AudioError(f"{sound.name}: damaged after {read / sound.samplerate:.1f} s ({error})") from error
        if not len(block):
            break
        read += len(block)
        made = process(np.ascontiguousarray(block.T))
        yield made if apart else made[np.newaxis]
    if flush:
        rest = processor.flush()
        yield rest if apart else rest[np.newaxis]


def _open(source: Path) -> soundfile.SoundFile:
    if not source.is_file():
        raise AudioError(f"{source}: no such file")
    if source.stat().st_size == 0:
        raise AudioError(f"{source}: the file is empty (0 bytes); expected a sound file")
    try:
        return soundfile.SoundFile(source)
    except soundfile.SoundFileError as error:
        raise AudioError(f"{source}: not a sound file that can be read ({error})") from error


def _create(path: Path, like: soundfile.SoundFile, channels: int) -> soundfile.SoundFile:
    """A new file of the same rate, with the same sample format where the container has it.

    Of what is compressed in another container (MP3 in WAV) libsndfile says that it has it, and cannot write it. What is
    compressed in WAV was a WAV file before, so that it fits one again.
    """
    kind = {".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG"}[path.suffix.lower()]
    plain = like.subtype.startswith("PCM_") or like.subtype in ("FLOAT", "DOUBLE")
    keeps = (plain or like.format == kind) and soundfile.check_format(kind, like.subtype)
    subtype = like.subtype if keeps else soundfile.default_subtype(kind)
    if kind == "WAV" and like.frames * channels * SAMPLE_BYTES.get(subtype, 0) > LARGEST_WAV_BYTES:
        kind = "RF64"
    return soundfile.SoundFile(path, "w", like.samplerate, channels, subtype=subtype, format=kind)
