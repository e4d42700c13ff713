"""From a look to what steers a target model: the embedding of a voice, and the map that a model makes of it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from scipy.signal import resample_poly

from .bundle import STEERING, Bundle, load_bundle
from .bundle_info import BundleInfo, Port
from .bundle_reader import MOST_VALUES
from .engine import open_engine
from .errors import AudioError, BundleError, HearloopError
from .facing import faced
from .frontend import Analysis
from .ort_session import open_session
from .resample import ratio

# In the metadata of a steering: the versions of the enrolment network and of the target that it was trained with.
ENROLL_VERSION, TARGET_VERSION = "enroll_version", "target_version"
NORM_TOLERANCE = 1e-3
LOUDEST = 1e4  # 80 dB beyond full scale; a look that is louder is no sound between -1 and 1


@dataclass(frozen=True, eq=False)
class Voice:
    """The embedding of a voice.

    embedding : float32 [values], of unit norm
    model, version : the bundle that made it; embeddings of another one mean something else
    """

    embedding: np.ndarray
    model: str
    version: str

    @property
    def has_unit_norm(self) -> bool:
        """Whether the embedding is one; not if a value is not finite."""
        return self.embedding.ndim == 1 and abs(float(np.linalg.norm(self.embedding)) - 1) < NORM_TOLERANCE

    @property
    def fingerprint(self) -> str:
        """Twelve digits that tell this embedding from all others."""
        return hashlib.sha256(self.embedding.tobytes()).hexdigest()[:12]


def hear_voice(look: np.ndarray, sample_rate: int, model: str | Path | Bundle = "enroll", engine: str = "ort") -> Voice:
    """The embedding of the voice that speaks in front of the wearer, within 30 degrees (`facing`).

    Parameters
    ----------
    look : ndarray, float32, shape (2, samples)
        Left and right ear; `look.check_look` says whether it can be used.
    sample_rate : int
        In Hz.
    model : str, Path or Bundle
        Of task "enroll".
    engine : {"ort", "compiled", "auto"}
        A look is over before a compiler is done, which "auto" would start, beside the sound that is heard next.

    Raises
    ------
    AudioError
        If the look has another number of channels than the model, no whole frame, or values that are not finite or
        more than 80 dB beyond full scale.
    BundleError
        If the model is not one of task "enroll", or what it gives is no embedding of unit norm.
    """
    step = open_engine(model, engine)
    info = step.info
    if info.task != "enroll":
        raise BundleError(f"model {info.name!r} has task {info.task!r}; expected 'enroll'")
    if look.ndim != 2 or look.shape[0] != info.channels_in:
        raise AudioError(f"the look has shape {look.shape}; model {info.name!r} expects ({info.channels_in}, samples)")
    wrong = np.count_nonzero(~(np.abs(look) <= LOUDEST))
    if wrong:
        raise AudioError(f"the look holds {wrong} values that are not finite or beyond {LOUDEST:g}; expected -1 to 1")
    p, q = ratio(sample_rate, info.sample_rate)
    heard = (resample_poly(look, p, q, axis=1) if p != q else look).astype(np.float32)
    if info.channels_in == 2:
        heard = faced(heard, info.sample_rate)
    frames = heard.shape[1] // info.frame
    if not frames:
        raise AudioError(f"the look has {look.shape[1]} samples at {sample_rate} Hz; expected one frame at least")
    analysis = Analysis(info.windows, info.channels_in)
    spectrum = np.zeros((info.channels_in, info.windows.bins), np.complex64)
    given = step.inputs[info.port("spectrum").name]
    for start in range(0, frames * info.frame, info.frame):
        analysis.step(np.ascontiguousarray(heard[:, start : start + info.frame]), spectrum)
        given[...] = spectrum.view(np.float32).reshape(given.shape)
        step.step()
    embedding = step.outputs[info.port("embedding", "outputs").name].reshape(-1).copy()
    voice = Voice(embedding, info.name, info.version)
    if not voice.has_unit_norm:
        raise BundleError(f"model {info.name!r} gives an embedding of norm {np.linalg.norm(embedding):.3f}; expected 1")
    return voice


def mean_voice(voices: Sequence[Voice], weights: Sequence[float] | None = None) -> Voice:
    """What several looks at one person say together: every one heard others as well, but not the same ones.

    Without weights each counts as much as the others. Raises HearloopError if there is none, or if they were not made
    by the same model.
    """
    if not voices:
        raise HearloopError("no look at the person; expected one at least")
    first = voices[0]
    for voice in voices:
        if (voice.model, voice.version) != (first.model, first.version):
            raise HearloopError(
                f"looks were heard by {first.model!r} of version {first.version} and {voice.model!r} of version "
                f"{voice.version}; expected the same for all: their embeddings mean different things"
            )
    embedding = np.average(np.stack([voice.embedding for voice in voices]).astype(np.float64), axis=0, weights=weights)
    norm = float(np.linalg.norm(embedding))
    if not norm:
        raise HearloopError("the looks are as unlike as can be and leave nothing in the mean; look again")
    return Voice(np.asarray(embedding / norm, np.float32), first.model, first.version)


def check_voice(info: BundleInfo, voice: Voice | None) -> None:
    """Raise HearloopError unless a voice is given to a model that needs one, and to no other."""
    if info.task == "target" and voice is None:
        raise HearloopError(
            f"model {info.name!r} lets one voice through; expected a voice to choose (`hearloop enroll` keeps one)"
        )
    if info.task != "target" and voice is not None:
        raise HearloopError(f"model {info.name!r} has task {info.task!r}; a voice goes with task 'target'")


def steering_path(target: Path) -> Path:
    """Where the steering of a target bundle lies: beside it, as `<name>-steering.onnx`."""
    return target.with_name(f"{target.stem}{STEERING}")


class Steering:
    """What makes the map of a voice for one target model; read from the file beside its bundle.

    Attributes
    ----------
    path : Path
    values : int
        How many an embedding has.
    enroll_version : str or None
        Of the enrolment network that it was trained with, if the file tells.

    Raises
    ------
    BundleError
        If the model takes no voice, or its steering is missing, is no model that makes a map for it, or was trained
        with another target.
    """

    def __init__(self, target: Bundle):
        info = target.info
        if info.task != "target":
            raise BundleError(
                f"model {info.name!r} has task {info.task!r}; expected 'target', which is steered by a voice"
            )
        if target.path is None:
            raise BundleError(f"model {info.name!r} was not read from a file; its steering lies beside the file")
        self.path, self._port = steering_path(target.path), info.port("embedding")
        if not self.path.is_file():
            raise BundleError(f"{self.path}: no such file; the model {info.name!r} needs it to be steered by a voice")
        try:
            self._session = open_session(self.path)
        except Exception as error:  # onnxruntime's own exception types are private
            raise BundleError(f"{self.path}: not an ONNX model that can be read ({error})") from error
        self._name, self.values = _embedding_input(self._session, self._port, str(self.path))
        metadata = self._session.get_modelmeta().custom_metadata_map
        self.enroll_version = metadata.get(ENROLL_VERSION)
        version = metadata.get(TARGET_VERSION, info.version)  # those of before do not say
        if version != info.version:
            raise BundleError(
                f"{self.path}: belongs to version {version} of its target; model {info.name!r} is version "
                f"{info.version}: export both together"
            )

    def map_of(self, voice: Voice) -> np.ndarray:
        """See `steering_map`."""
        if voice.embedding.shape != (self.values,):
            raise BundleError(
                f"the voice has {voice.embedding.size} values, as {voice.model!r} makes it; "
                f"{self.path.name} expects {self.values}"
            )
        if self.enroll_version not in (None, voice.version):
            raise BundleError(
                f"the voice was heard by {voice.model!r} of version {voice.version}; {self.path.name} was trained with "
                f"version {self.enroll_version}: enroll the voice again with that one"
            )
        try:
            (found,) = self._session.run(None, {self._name: voice.embedding[np.newaxis].astype(np.float32)})
        except Exception as error:  # onnxruntime's own exception types are private
            raise BundleError(f"{self.path}: ONNX Runtime failed to make a map ({error})") from error
        if np.shape(found) != self._port.shape:
            raise BundleError(f"{self.path}: gives a map of shape {np.shape(found)}; expected {self._port.shape}")
        if not np.isfinite(found).all():
            holes = np.count_nonzero(~np.isfinite(found))
            raise BundleError(f"{self.path}: gives a map with {holes} values that are not finite; expected none")
        return np.asarray(found, np.float32)


def steering_map(target: str | Path | Bundle, voice: Voice) -> np.ndarray:
    """What the input "embedding" of a target model takes for a voice, float32 of that input's shape.

    Made once per voice, not once per frame: for the model it is a constant.

    Raises
    ------
    BundleError
        If the model takes no voice, its steering cannot be used (see `Steering`) or gives no map, or was trained with
        another enrolment network than the one that made the embedding.
    """
    return Steering(target if isinstance(target, Bundle) else load_bundle(target)).map_of(voice)


def _embedding_input(session: onnxruntime.InferenceSession, port: Port, where: str) -> tuple[str, int]:
    """The name of the one input of a steering, and how many values it has; raises BundleError if it has other ports."""
    given, made = (
        [(each.name, each.type, list(each.shape)) for each in ports]
        for ports in (session.get_inputs(), session.get_outputs())
    )
    match given, made:
        case [(name, "tensor(float)", [1, int(values)])], [(_, "tensor(float)", shape)] if (
            0 < values <= MOST_VALUES and shape == list(port.shape)
        ):
            return name, values
    raise BundleError(
        f"{where}: has inputs {given} and outputs {made}; expected one input, tensor(float) [1, values], and one "
        f"output, tensor(float) {list(port.shape)}"
    )
