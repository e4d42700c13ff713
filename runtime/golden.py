"""Golden vectors: a few frames of input and the output they must give, carried inside the bundle.

They let `hearloop doctor` prove that a device, with its own CPU and library versions, computes what the author's did.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import BundleError


@dataclass(frozen=True)
class Golden:
    """Frames that a model must reproduce, starting from its initial state.

    Attributes
    ----------
    inputs, outputs : mapping of str to ndarray, float32, shape (frames, *port shape)
    tolerance : float
        Largest error allowed, as a fraction of the largest magnitude of each output.
    """

    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]
    tolerance: float = 1e-4

    @property
    def frames(self) -> int:
        return len(next(iter(self.inputs.values())))

    def to_json(self) -> dict[str, Any]:
        return {
            "tolerance": self.tolerance,
            "inputs": {name: _encode(array) for name, array in self.inputs.items()},
            "outputs": {name: _encode(array) for name, array in self.outputs.items()},
        }


def golden_from_json(content: Any, where: str) -> Golden:
    """Decode the `golden` object of a bundle's metadata; raises BundleError that names what is wrong."""
    if not isinstance(content, dict) or not {"tolerance", "inputs", "outputs"} <= content.keys():
        raise BundleError(f"{where}: key 'golden' must be an object with 'tolerance', 'inputs' and 'outputs'")
    if not isinstance(content["tolerance"], float) or not 0 < content["tolerance"] < 1:
        raise BundleError(f"{where}: key 'golden.tolerance' is {content['tolerance']!r}, expected between 0 and 1")
    sides = []
    for side in ("inputs", "outputs"):
        if not isinstance(content[side], dict) or not content[side]:
            raise BundleError(f"{where}: key 'golden.{side}' must be an object with at least one array")
        sides.append(
            {name: _decode(item, f"{where}: key 'golden.{side}.{name}'") for name, item in content[side].items()}
        )
    lengths = {len(array) for side in sides for array in side.values()}
    if len(lengths) != 1:
        raise BundleError(f"{where}: golden arrays differ in their number of frames: {sorted(lengths)}")
    return Golden(sides[0], sides[1], content["tolerance"])


def _encode(array: np.ndarray) -> dict[str, Any]:
    data = np.ascontiguousarray(array, "<f4").tobytes()
    return {"shape": list(array.shape), "float32": base64.b64encode(data).decode("ascii")}


def _decode(item: Any, what: str) -> np.ndarray:
    try:
        data = base64.b64decode(item["float32"], validate=True)
        array = np.frombuffer(data, "<f4").reshape(item["shape"]).astype(np.float32)
    except (KeyError, TypeError, ValueError, OverflowError, binascii.Error) as error:
        raise BundleError(f"{what} is not a base64 float32 array with a shape ({error})") from error
    if array.ndim < 1 or len(array) == 0 or not np.isfinite(array).all():
        raise BundleError(f"{what} has shape {array.shape} or values that are not finite; expected at least one frame")
    return array


def golden_error(engine: Any, golden: Golden) -> float:
    """Run the golden frames through an engine, from its initial state, and compare.

    Returns
    -------
    float
        The largest error as a fraction of the largest magnitude of the output it occurred in; to be compared with
        `golden.tolerance`. The engine is reset before and after.
    """
    engine.reset()
    worst = {name: 0.0 for name in golden.outputs}
    for frame in range(golden.frames):
        for name, frames in golden.inputs.items():
            engine.inputs[name][...] = frames[frame]
        engine.step()
        for name, frames in golden.outputs.items():
            error = float(np.abs(engine.outputs[name] - frames[frame]).max())
            worst[name] = max(worst[name], error) if np.isfinite(error) else np.inf
    engine.reset()
    return max(error / max(float(np.abs(golden.outputs[name]).max()), 1e-12) for name, error in worst.items())
