"""hearloop process: files and folders through a model."""

import argparse
import os
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any

import soundfile
from tqdm import tqdm

from ..runtime.bundle import load_bundle
from ..runtime.bundle_info import BundleInfo
from ..runtime.controls import Controls
from ..runtime.engine import ENGINES
from ..runtime.errors import AudioError, HearloopError
from ..runtime.files import SUFFIXES, process_file, sound_files, source_files
from ..runtime.voice import check_voice
from .gains import add_gains_argument
from .voices import add_voice_arguments, chosen_voices


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "input",
        metavar="IN",
        type=Path,
        help="a sound file, or a folder; of what is compressed as mp3 or opus, or AIFF, a folder gets wav",
    )
    parser.add_argument(
        "output",
        metavar="OUT",
        type=Path,
        help="the file to write, or a folder if IN is one; a model that separates "
        "writes OUT.1.wav, OUT.2.wav and so on",
    )
    parser.add_argument("--model", default="enhance-small", help="name or file of the model (default: enhance-small)")
    parser.add_argument("--engine", choices=ENGINES, default="auto")
    parser.add_argument("--attenuation-limit", type=float, default=100.0, metavar="DB", help="remove no more than this")
    parser.add_argument("--mix", type=float, default=1.0, help="0 is the unprocessed sound, 1 the processed")
    add_gains_argument(parser, "OUT is then one remix.")
    add_voice_arguments(parser)
    parser.add_argument("--no-compensate", action="store_true", help="keep the delay of the real-time path")
    parser.add_argument("--format", choices=[suffix[1:] for suffix in SUFFIXES], help="of the files in a folder")
    parser.add_argument("--skip-existing", action="store_true", help="leave files alone that OUT already has")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes for a folder; 0 is one per core")
    parser.add_argument(
        "--backend",
        help="run the jobs of a folder on this joblib backend (loky, dask, ray: whatever is registered); needs joblib",
    )


def run(options: argparse.Namespace) -> int:
    if options.jobs < 0:
        raise HearloopError(f"--jobs is {options.jobs}; expected a number of processes, or 0 for one per core")
    if options.backend:
        _check_backend(options.backend)
    # A wrong model is told once, before any file is opened, and so are gains and voices that do not fit it.
    info = load_bundle(options.model).info
    Controls(source_gains_db=options.gains).expect_sources(info.sources, info.name)
    voices = chosen_voices(options)
    if len(voices) > 1:
        raise HearloopError(f"{len(voices)} voices are given; expected one")
    voice = voices[0][1] if voices else None
    check_voice(info, voice)
    settings = {
        "model": options.model,
        "engine": options.engine,
        "compensate": not options.no_compensate,
        "attenuation_limit_db": options.attenuation_limit,
        "mix": options.mix,
        "source_gains_db": options.gains,
        "voice": voice,
    }
    if options.input.is_dir():
        return _run_folder(options, settings, info)
    target = options.output / options.input.name if options.output.is_dir() else options.output
    targets = source_files(target, info, bool(options.gains))
    if options.skip_existing and all(each.exists() for each in targets):
        print(f"{', '.join(map(str, targets))}: there already")
        return 0
    with tqdm(total=_seconds(options.input), unit="s", unit_scale=True, disable=None) as bar:
        facts = process_file(options.input, target, progress=bar.update, **settings)
    written = ", ".join(map(str, facts["targets"]))
    print(f"{written}: {facts['seconds']:.1f} s, {facts['channels']} channel(s) at {facts['sample_rate']} Hz")
    _report_events(str(target), facts)
    return 0


def _run_folder(options: argparse.Namespace, settings: dict[str, Any], info: BundleInfo) -> int:
    if options.output.is_file():
        raise AudioError(f"{options.output}: is a file, but {options.input} is a folder; expected a folder for OUT")
    pairs, all_targets, there_already = [], [], 0
    sources = _sources(options.input, options.output)
    for source in sources:
        target = options.output / source.relative_to(options.input)
        if options.format or target.suffix.lower() not in SUFFIXES:
            target = target.with_suffix(f".{options.format or 'wav'}")
        targets = source_files(target, info, bool(options.gains))
        if options.skip_existing and all(each.exists() for each in targets):
            there_already += len(targets)
        else:
            pairs.append((source, target))
            all_targets += targets
    if there_already:
        print(f"{options.output}: {there_already} file(s) there already")
    if there_already and not pairs:
        return 0
    if not pairs:
        raise AudioError(f"{options.input}: no sound files to process ({', '.join(SUFFIXES)})")
    target, count = Counter(all_targets).most_common(1)[0]
    if count > 1:
        raise AudioError(f"{count} inputs would be written to {target}; give them different stems")
    recordings = {(found.st_dev, found.st_ino) for found in map(Path.stat, sources)}
    for target in filter(Path.exists, all_targets):
        found = target.stat()
        if (found.st_dev, found.st_ino) in recordings:
            raise AudioError(f"{target}: is the recording itself, which is not overwritten; expected another folder")
    work = partial(_process_one, settings=settings)
    failed = 0
    with tqdm(total=len(pairs), unit="file", disable=None) as bar:
        try:
            for problem in _map(work, pairs, options.jobs or os.cpu_count() or 1, options.backend):
                if problem:
                    failed += 1
                    tqdm.write(f"hearloop: {problem}", file=sys.stderr)
                bar.update()
        except BrokenProcessPool as error:
            raise HearloopError(
                f"{options.output}: a process was killed before all files were written, perhaps for want of memory; "
                "fewer --jobs need less, and --skip-existing goes on with what is missing"
            ) from error
    written = (len(pairs) - failed) * len(all_targets) // len(pairs)
    print(f"{options.output}: {written} file(s) written, {failed} failed")
    return 1 if failed else 0


def _sources(folder: Path, output: Path) -> list[Path]:
    """The sound files of a folder, without what an earlier run has written, if OUT is a folder inside IN."""
    outputs = output.resolve()
    if folder.resolve() not in outputs.parents:
        return sound_files(folder)
    return [source for source in sound_files(folder) if outputs not in source.resolve().parents]


def _check_backend(backend: str) -> None:
    import joblib

    try:
        with joblib.parallel_config(backend=backend):
            pass
    except ValueError as error:
        if backend in joblib.parallel.BACKENDS:  # as dask, without the package of that name
            raise HearloopError(f"--backend is {backend!r}, which joblib cannot use here ({error})") from error
        raise HearloopError(f"--backend is {backend!r}; expected one that joblib has ({error})") from error


def _map(work, pairs: list[tuple[Path, Path]], jobs: int, backend: str | None):
    """Apply `work` to all pairs and yield its results in any order."""
    if backend:
        import joblib

        with joblib.parallel_config(backend=backend, n_jobs=jobs if backend in ("loky", "threading") else -1):
            yield from joblib.Parallel(return_as="generator_unordered")(joblib.delayed(work)(pair) for pair in pairs)
    elif jobs == 1:
        yield from map(work, pairs)
    else:
        with ProcessPoolExecutor(jobs) as pool:
            yield from pool.map(work, pairs)


def _process_one(pair: tuple[Path, Path], settings: dict[str, Any]) -> str | None:
    """Process one file of a folder; a failure is returned as a message, because the other files shall go on."""
    try:
        facts = process_file(*pair, **settings)
    except HearloopError as error:
        told = str(error)
        return told if any(str(path) in told for path in pair) else f"{pair[0]}: {told}"
    _report_events(str(pair[1]), facts)
    return None


def _report_events(name: str, facts: dict[str, Any]) -> None:
    if facts["missing_seconds"]:
        print(
            f"hearloop: {name}: only {facts['seconds']:.2f} s of the recording could be read, its header tells of "
            f"{facts['missing_seconds']:.2f} s more; it may be cut or damaged",
            file=sys.stderr,
        )
    if facts["bad_samples"]:
        print(
            f"hearloop: {name}: {facts['bad_samples']} input samples were not finite or far beyond full scale "
            "and were replaced",
            file=sys.stderr,
        )
    if facts["failed_frames"]:
        print(
            f"hearloop: {name}: the model failed at {facts['failed_frames']} frames, which are unprocessed",
            file=sys.stderr,
        )


def _seconds(path: Path) -> float | None:
    """Length for the progress bar; whether the file can be read at all is for the processing to say."""
    try:
        return soundfile.info(path).duration
    except (OSError, soundfile.SoundFileError):
        return None
