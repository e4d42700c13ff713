"""What is measured on: the fixed validation sets, or folders of files that somebody has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import resample_poly

from ...runtime.errors import AudioError
from ..simulation.corpus import AUDIO_SUFFIXES, SAMPLE_RATE
from ..simulation.files import files_below
from ..simulation.mixture import Mixture
from ..simulation.pairs import Pair
from ..simulation.pitch import median_pitch_hz
from ..simulation.scenes import Scene
from ..simulation.validation import SNR_BANDS_DB, PairValidationSet, SceneValidationSet, ValidationSet, snr_band

FOLDERS = {"enhance": ("clean",), "separate": ("talker1", "talker2"), "target": ("clean", "look")}
"""Task -> the folders beside `noisy/` that hold what should come out, and for a target the look."""
CHANNELS = {"enhance": (1, 2), "separate": (1,), "target": (2,)}
"""Task -> how many channels its files may have."""
INTERVALS_SEMITONES = ((0, 2), (2, 4), (4, 7))
POOR_LOOK_DB = -6.0
_BELOW, _ABOVE = f"below {SNR_BANDS_DB[0][0]:g} dB", f"from {SNR_BANDS_DB[-1][1]:g} dB"


@dataclass(frozen=True)
class Recording:
    """What is heard, and what should come out; all sound is float32 at 16 kHz.

    mixture : [channels, samples]
    target : [outputs, samples]: as many as channels, or one per talker
    groups : what it belongs to, such as its SNR band and condition
    part : what it is there for, a key of `measures.MEASURES`
    in_all : whether it counts to the mean over all
    others : talkers that are not to be heard, each [channels, samples]
    looks : at the talker to be heard, each [2, any number]
    """

    name: str
    mixture: np.ndarray
    target: np.ndarray
    groups: tuple[str, ...] = ()
    part: str = "noisy"
    in_all: bool = True
    others: Sequence[np.ndarray] = field(default=())
    looks: tuple[np.ndarray, ...] = ()

    @property
    def unprocessed(self) -> np.ndarray:
        """The mixture in place of every output."""
        return np.array(np.broadcast_to(self.mixture, self.target.shape))


def of_validation(items: ValidationSet) -> list[Recording]:
    """The mixtures, grouped by SNR band and by what disturbs, and the clean voices."""
    noisy = [
        Recording(f"mixture {number}", item.noisy[np.newaxis], item.target[np.newaxis], (_band(item), item.kind))
        for number, item in enumerate(items.noisy)
    ]
    clean = [
        Recording(f"voice {number}", item.noisy[np.newaxis], item.target[np.newaxis], part="clean")
        for number, item in enumerate(items.clean)
    ]
    return noisy + clean


def of_pairs(items: PairValidationSet, sexes: Sequence[str | None] = ()) -> list[Recording]:
    """Two talkers, and what else a separator must not fail at.

    They are grouped by noise and by how far their pitches are apart, pairs also by their sexes, if those are known.

    `sexes` are those of the speakers, by their numbers. Pairs in rooms are a group that does not count to the mean over
    all.
    """

    def groups(part: str, pair: Pair) -> tuple[str, ...]:
        if part == "overlap":
            return pair.kind, *_intervals(pair), *_sexes(pair, sexes)
        if part == "conversation":
            return pair.kind, *(f"{part}, {interval}" for interval in _intervals(pair))
        return (pair.kind,)

    def made(part: str, pairs: Sequence[Pair], group: str = "") -> list[Recording]:
        return [
            Recording(
                f"{group or pair.kind} {number}",
                pair.mixture[np.newaxis],
                pair.sources,
                (group,) if group else groups(part, pair),
                part,
                in_all=not group,
            )
            for number, pair in enumerate(pairs)
        ]

    return [
        *made("overlap", items.overlap),
        *made("overlap", items.in_rooms, "room"),
        *made("one talker", items.alone),
        *made("silence", items.silence),
        *made("conversation", items.conversations),
    ]


def of_scenes(items: SceneValidationSet, clean_looks: bool = False) -> list[Recording]:
    """Scenes, grouped by SNR band, by noise, place and movement, by how many others, and by length and SNR of the look.

    Their looks are noisy, or those of the target alone.
    """

    def made(part: str, name: str, scenes: Sequence[Scene]) -> list[Recording]:
        return [
            Recording(
                f"{name} {number}",
                scene.mixture,
                scene.target,
                _conditions(scene) if part == "chosen" else (name,),
                part,
                others=tuple(scene.interferers),
                looks=scene.looks(clean_looks),
            )
            for number, scene in enumerate(scenes)
        ]

    return made("chosen", "scene", items.scenes) + made("pausing", "target pauses", items.reopening)


def group_names(recordings: Sequence[Recording]) -> list[str]:
    """All groups, in the order in which recordings name them: SNR bands by level, other conditions by name."""
    bands = [_BELOW, *(_band_name(band) for band in SNR_BANDS_DB), _ABOVE]
    places = {group: place for item in recordings for place, group in enumerate(item.groups)}
    return sorted(places, key=lambda group: (places[group], bands.index(group) if group in bands else 0, group))


def sexes_of(speakers: Sequence[str], known: Mapping[str, str]) -> list[str | None]:
    """Of each number of a talker in a simulated pair; `speakers` are the groups of the corpus of speech."""
    return [known.get(name) for name in sorted(set(speakers))]


def read_folder(folder: Path, task: str = "enhance") -> list[Recording]:
    """The files of `noisy/` with those of the same name in the other folders of a task; their first samples line up.

    At any rate. For "enhance" the other folder is `clean/`, with one channel or two, the ears; for "separate"
    `talker1/` and `talker2/`, with one, where one who says nothing is silent; for "target" `clean/` and `look/`, with
    two, where the look may be longer or shorter. The groups are the SNR band, from the energies of what is clean and of
    the rest, and the subfolder, if any.

    Raises
    ------
    AudioError
        If a folder is missing or empty, a file has no partner, another number of channels or samples that are not
        finite, or two partners differ in length or channels.
    """
    parts = ("noisy", *FOLDERS[task])
    for part in parts:
        if not (folder / part).is_dir():
            held = ", ".join(f"{each}/" for each in parts[:-1])
            raise AudioError(f"{folder / part}: no such folder; expected {folder.name} to hold {held} and {parts[-1]}/")
    files = {part: _sound_files(folder / part) for part in parts}
    if not files["noisy"]:
        raise AudioError(f"{folder / 'noisy'}: no audio; expected at least one {', '.join(AUDIO_SUFFIXES)} file")
    for part in parts[1:]:
        lonely = [str(name) for name in files["noisy"] if name not in files[part]]
        if lonely:
            raise AudioError(f"{folder / part}: no file for {', '.join(lonely[:3])}; expected one per file of noisy/")
    recordings = []
    for name in files["noisy"]:
        sounds = {part: _read(files[part][name], CHANNELS[task]) for part in parts}
        looks = (sounds.pop("look"),) if "look" in sounds else ()
        noisy = sounds.pop("noisy")
        for part, sound in sounds.items():
            if sound.shape != noisy.shape:
                raise AudioError(
                    f"{name}: noisy has {noisy.shape[1]} samples at 16 kHz in {len(noisy)} channel(s), {part} "
                    f"{sound.shape[1]} in {len(sound)}; expected as many"
                )
        condition = () if name.parent == Path() else (str(name.parent),)
        groups = (_snr_name(noisy, sum(sounds.values(), np.zeros_like(noisy))), *condition)
        target = np.concatenate(list(sounds.values()))
        recordings.append(Recording(str(name), noisy, target, groups, f"folder, {task}", looks=looks))
    return recordings


def _sound_files(folder: Path) -> dict[Path, Path]:
    """Name without suffix, below the folder -> file."""
    return {path.relative_to(folder).with_suffix(""): path for path in files_below(folder, AUDIO_SUFFIXES)}


def _read(path: Path, channels: tuple[int, ...]) -> np.ndarray:
    """float32 [channels, samples] at 16 kHz."""
    try:
        audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, RuntimeError) as error:
        raise AudioError(f"{path}: not readable as audio ({error})") from error
    if len(audio) == 0 or audio.shape[1] not in channels:
        expected = " or ".join(map(str, channels))
        raise AudioError(
            f"{path}: has {audio.shape[1]} channel(s) of {len(audio)} samples; expected sound in {expected}"
        )
    if not np.isfinite(audio).all():
        raise AudioError(f"{path}: holds samples that are not finite; expected numbers")
    sound = audio.T if rate == SAMPLE_RATE else resample_poly(audio.T, SAMPLE_RATE, rate, axis=1)
    return np.ascontiguousarray(sound, np.float32)


def _intervals(pair: Pair) -> tuple[str, ...]:
    """How far the median pitches of two talkers are apart, in semitones."""
    first, second = (median_pitch_hz(source) for source in pair.sources)
    apart = 12 * abs(np.log2(first / second))
    if np.isnan(apart):
        return ()
    band = next(
        (f"{low:g}..{high:g}" for low, high in INTERVALS_SEMITONES if apart < high),
        f"from {INTERVALS_SEMITONES[-1][1]:g}",
    )
    return (f"{band} semitones",)


def _sexes(pair: Pair, sexes: Sequence[str | None]) -> tuple[str, ...]:
    first, second = (sexes[talker] if sexes else None for talker in pair.talkers)
    return () if first is None or second is None else ("same sex" if first == second else "two sexes",)


def _conditions(scene: Scene) -> tuple[str, ...]:
    others = len(scene.interferers)
    seconds = int(scene.look.shape[1] / SAMPLE_RATE)
    return (
        _band(scene),
        "diffuse noise" if scene.kind.startswith("diffuse") else "noise from a direction",
        "room" if "in a room" in scene.kind else "open",
        "moving" if "moving" in scene.kind else "still",
        "1 other" if others == 1 else f"{others} others",
        f"look of {seconds}..{seconds + 1} s",
        f"look {'below' if _look_snr_db(scene) < POOR_LOOK_DB else 'from'} {POOR_LOOK_DB:g} dB",
    )


def _look_snr_db(scene: Scene) -> float:
    """The target in the noisy look over all else in it, at both ears."""
    rest = np.square(scene.look - scene.clean_look, dtype=np.float64).sum()
    return float(10 * np.log10((np.square(scene.clean_look, dtype=np.float64).sum() + 1e-12) / (rest + 1e-12)))


def _band(item: Mixture | Scene) -> str:
    return _band_name(snr_band(item))


def _band_name(band: tuple[float, float]) -> str:
    return f"{band[0]:g}..{band[1]:g} dB"


def _snr_name(noisy: np.ndarray, clean: np.ndarray) -> str:
    noise, speech = np.square(noisy - clean).sum(), np.square(clean).sum()
    snr_db = 10 * np.log10((speech + 1e-12) / (noise + 1e-12))
    if snr_db < SNR_BANDS_DB[0][0]:
        return _BELOW
    return next((_band_name(band) for band in SNR_BANDS_DB if snr_db < band[1]), _ABOVE)
