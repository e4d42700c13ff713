"""A frame through a model, whatever it works on: what every stream is given and makes, and the voice that it hears."""

from typing import NamedTuple, Protocol

import numpy as np

from .bundle_info import BundleInfo
from .engine import Engine
from .errors import BundleError, EngineError
from .kernels import kernel
from .records import Matrix, Vector
from .safety import LARGEST_OUTPUT

VOICE_FADE = np.float32(0.33)  # of the way to another voice, each frame: 95 % after 60 ms


class FrameModel(Protocol):
    """Turns frames of audio at the model's rate into frames that come `lookahead` samples later."""

    def step(self, frame: np.ndarray, wet: np.ndarray) -> bool:
        """float32 (channels, frame) in, (sources * channels, frame) out, sorted by source.

        Returns False if the model failed; each source is then its share of the unprocessed signal.
        """

    def reset(self) -> None: ...


class StreamsRecord(NamedTuple):
    given: Matrix  # to the model: a row for each stream, with complex numbers as pairs
    made: Matrix  # by the model
    voice: Vector  # the map of the voice that is heard; nothing for models that are not steered
    voice_target: Vector  # of the voice that is to be heard


class ModelStreams:
    """The streams through a model that one sound needs, and the memory that they share with a front end.

    A model that hears one voice is steered by a map of it, `voice_target`, which may be exchanged at any time. From
    frame to frame the map that the model is given approaches it, so that one voice fades into the other within a tenth
    of a second.

    Parameters
    ----------
    engines : list of Engine
        One for each stream, all of the same model.
    role : {"spectrum", "audio"}
        Of the ports through which the signal goes in and comes out.
    given, made : ndarray, float32 or complex64
        What the front end gives to all streams, and finds made by them; the first comes first.
    voice_target : ndarray, optional
        By default zeros. Raises BundleError if the model takes a map of another size.
    """

    def __init__(
        self,
        engines: list[Engine],
        role: str,
        given: np.ndarray,
        made: np.ndarray,
        voice_target: np.ndarray | None,
    ):
        info = engines[0].info
        voice_target = _voice_values(info, voice_target)
        self.engines = engines
        self.record = StreamsRecord(
            given=given.view(np.float32).reshape(len(engines), -1),
            made=made.view(np.float32).reshape(len(engines), -1),
            voice=voice_target.copy(),
            voice_target=voice_target,
        )
        name_in, name_out = info.port(role, "inputs").name, info.port(role, "outputs").name
        names = [port.name for port in info.inputs if port.role == "embedding"]
        self.inputs = [engine.inputs[name_in].reshape(-1) for engine in engines]
        self.outputs = [engine.outputs[name_out].reshape(-1) for engine in engines]
        self.voices = [engine.inputs[name].reshape(-1) for engine in engines for name in names]

    def step(self) -> bool:
        """Make what is given; False if the model failed, and then what is made is of no use."""
        approach(self.record.voice, self.record.voice_target)
        for voice in self.voices:
            voice[:] = self.record.voice
        for index, engine in enumerate(self.engines):
            self.inputs[index][:] = self.record.given[index]
            try:
                engine.step()
            except EngineError:
                return False
            self.record.made[index] = self.outputs[index]
        return True

    def restart(self) -> None:
        """Begin anew after a failure; the voice goes on."""
        for engine in self.engines:
            engine.reset()

    def reset(self) -> None:
        self.restart()
        self.record.voice[:] = self.record.voice_target


def _voice_values(info: BundleInfo, voice_target: np.ndarray | None) -> np.ndarray:
    """The map of the voice that a model is to hear: that of the controls, else zeros; empty if the model takes none."""
    values = sum(int(np.prod(port.shape)) for port in info.inputs if port.role == "embedding")
    if voice_target is None or not len(voice_target):
        return np.zeros(values, np.float32)
    if len(voice_target) != values:
        raise BundleError(f"the map of the voice has {len(voice_target)} values; model {info.name!r} takes {values}")
    return voice_target


@kernel("void(float32[::1], float32[::1])")
def approach(voice, target):
    """Bring the map that the model is given nearer to that of the chosen voice."""
    for n in range(voice.shape[0]):
        voice[n] += VOICE_FADE * (target[n] - voice[n])


# A loop of our own: NumPy's assignment brings broadcasting, and with it code that can raise and allocate.
@kernel("void(float32[::1], float32[::1])")
def copy_values(source, target):
    for n in range(source.shape[0]):
        target[n] = source[n]


@kernel("boolean(float32[:, ::1])")
def all_plausible(values):
    """Whether a model may have made these: numbers, and none beyond LARGEST_OUTPUT."""
    wrong = 0
    for row in range(values.shape[0]):
        for n in range(values.shape[1]):
            wrong += 0 if abs(values[row, n]) <= LARGEST_OUTPUT else 1  # false for NaN
    return wrong == 0
