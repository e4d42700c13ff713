"""What all engines share: one stream through a model, called with arrays by name."""

from collections.abc import Mapping

import numpy as np

from .bundle_info import BundleInfo
from .errors import AudioError, EngineError


class Stream:
    """A model with its state, and fixed arrays for what goes in and comes out.

    Attributes
    ----------
    name : str
        Of the engine.
    info : BundleInfo
        Of the model; of one that is no bundle the `StepInfo`, whose notes may say why an input is expected.
    inputs, outputs : dict of str to ndarray, float32
        Filled before and read after a step without arguments. The arrays stay the same.
    """

    info: BundleInfo
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]

    def run(self) -> None:
        """One step from `inputs` to `outputs`."""
        raise NotImplementedError

    def step(self, inputs: Mapping[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """Turn one frame and the state into one frame and the next state.

        Parameters
        ----------
        inputs : mapping of str to ndarray, optional
            By name, without the states. Without it, what lies in `self.inputs` is used.

        Returns
        -------
        dict of str to ndarray
            By name, without the states. New arrays if inputs are given, otherwise `self.outputs`.

        Raises
        ------
        AudioError
            If an input is missing, unknown, or of another shape.
        EngineError
            If the engine fails.
        """
        if inputs is None:
            self.run()
            return self.outputs
        if inputs.keys() != self.inputs.keys():
            notes = "".join(f" ({note})" for note in getattr(self.info, "notes", ()))
            raise AudioError(
                f"inputs are {', '.join(sorted(inputs))}; expected {', '.join(sorted(self.inputs))}{notes}"
            )
        for name, array in self.inputs.items():
            given = inputs[name]
            if np.shape(given) != array.shape:
                raise AudioError(f"input {name!r} has shape {list(np.shape(given))}, expected {list(array.shape)}")
            array[...] = given
        self.run()
        return {name: array.copy() for name, array in self.outputs.items()}


def check_state(state: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise EngineError if a state is missing, unknown, or of another shape."""
    if state.keys() != shapes.keys():
        raise EngineError(f"the states are {', '.join(sorted(state))}; expected {', '.join(sorted(shapes))}")
    for name, shape in shapes.items():
        if np.shape(state[name]) != tuple(shape):
            raise EngineError(f"state {name!r} has shape {list(np.shape(state[name]))}, expected {list(shape)}")
