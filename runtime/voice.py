"""From a look to what steers a target model: the embedding of a voice, and the map that a model makes of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from scipy.signal import resample_poly

from .bundle import STEERING, Bundle, load_bundle
from .bundle_info import BundleInfo, Port
from .engine import open_engine
from .errors import AudioError, BundleError, HearloopError
from .facing import faced
from .frontend import Analysis
from .resample import ratio

# In the metadata of a steering: the version of the enrolment network that it was trained with.
ENROLL_VERSION = "enroll_version"


@dataclass(frozen=True, eq=False)
class Voice:
    """The embedding of a voice.

    embedding : float32 [values], of unit norm
    model, version : the bundle that made it; embeddings of another one mean something else
    """

    embedding: np.ndarray
    model: str
    version: str


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
        If the look has another number of channels than the model, or no whole frame.
    BundleError
        If the model is not one of task "enroll".
    """
    step = open_engine(model, engine)
    info = step.info
    if info.task != "enroll":
        raise BundleError(f"model {info.name!r} has task {info.task!r}; expected 'enroll'")
    if look.ndim != 2 or look.shape[0] != info.channels_in:
        raise AudioError(f"the look has shape {look.shape}; model {info.name!r} expects ({info.channels_in}, samples)")
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
    return Voice(embedding, info.name, info.version)


def mean_voice(voices: Sequence[Voice]) -> Voice:
    """What several looks at one person say together: every one heard others as well, but not the same ones.

    Raises HearloopError if there is none, or if they were not made by the same model.
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
    embedding = np.stack([voice.embedding for voice in voices]).astype(np.float64).mean(axis=0)
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


def steering_map(target: str | Path | Bundle, voice: Voice) -> np.ndarray:
    """What the input "embedding" of a target model takes for a voice, float32 of that input's shape.

    Made once per voice, not once per frame: for the model it is a constant.

    Raises
    ------
    BundleError
        If the model takes no voice, its steering is missing, or was trained with another enrolment network than the one
        that made the embedding.
    """
    bundle = target if isinstance(target, Bundle) else load_bundle(target)
    port = _voice_port(bundle.info)
    if bundle.path is None:
        raise BundleError(f"model {bundle.info.name!r} was not read from a file; its steering lies beside the file")
    path = steering_path(bundle.path)
    if not path.is_file():
        raise BundleError(f"{path}: no such file; the model {bundle.info.name!r} needs it to be steered by a voice")
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exception types are private
        raise BundleError(f"{path}: not an ONNX model that can be read ({error})") from error
    (given,) = session.get_inputs()
    if given.shape[-1] != len(voice.embedding):
        raise BundleError(
            f"the voice has {len(voice.embedding)} values, as {voice.model!r} makes it; "
            f"{path.name} expects {given.shape[-1]}"
        )
    expected = session.get_modelmeta().custom_metadata_map.get(ENROLL_VERSION, voice.version)
    if voice.version != expected:
        raise BundleError(
            f"the voice was heard by {voice.model!r} of version {voice.version}; {path.name} was trained with version "
            f"{expected}: enroll the voice again with that one"
        )
    (found,) = session.run(None, {given.name: voice.embedding[np.newaxis].astype(np.float32)})
    if np.shape(found) != port.shape:
        raise BundleError(f"{path}: gives shape {np.shape(found)}; model {bundle.info.name!r} expects {port.shape}")
    return np.asarray(found, np.float32)


def _voice_port(info: BundleInfo) -> Port:
    if info.task != "target":
        raise BundleError(f"model {info.name!r} has task {info.task!r}; expected 'target', which is steered by a voice")
    return info.port("embedding")
