"""What executes the step of a bundle: the protocol, and the choice between engines."""

from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from .bundle import Bundle, BundleInfo, load_bundle
from .errors import EngineError
from .ort import OrtEngine

ENGINES = ("auto", "ort", "compiled")


class Engine(Protocol):
    """One stream through a model: it owns the state, and fixed arrays for what goes in and comes out.

    Fill `inputs`, call `step`, read `outputs`. The arrays stay the same for the life of the engine.
    """

    name: str
    info: BundleInfo
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]

    def step(self) -> None:
        """Turn one frame and the state into one frame and the next state."""

    def reset(self) -> None:
        """Back to the initial state."""

    def another(self) -> "Engine":
        """A further stream through the same model, with a state of its own."""


@runtime_checkable
class NativeEngine(Engine, Protocol):
    """An engine whose step is a C function, so that machine code can call it without Python.

    Attributes
    ----------
    step_address, reset_address : int
        Of `void step(void *memory, void *constants)` and of `reset`, which does what `Engine.reset` does. They may be
        called for different memories at the same time.
    memory : ndarray
        Everything that belongs to this stream; `inputs` and `outputs` are views into it.
    constants : ndarray
        What all streams through the model share; only read.
    """

    step_address: int
    reset_address: int
    memory: np.ndarray
    constants: np.ndarray


def open_engine(model: str | Path | Bundle, engine: str = "auto") -> Engine:
    """Open a model with an engine.

    Parameters
    ----------
    model : str, Path or Bundle
        Name of a shipped bundle, path of a bundle file, or a loaded bundle.
    engine : {"auto", "ort", "compiled"}
        "auto" takes the fastest engine that can run the model.

    Raises
    ------
    BundleError
        If the bundle cannot be read.
    EngineError
        If the engine is unknown or cannot run this model.
    """
    if engine not in ENGINES:
        raise EngineError(f"engine is {engine!r}; expected one of {', '.join(ENGINES)}")
    if engine == "compiled":
        raise EngineError("engine 'compiled' is not part of this version of hearloop; use 'ort' or 'auto'")
    return OrtEngine(model if isinstance(model, Bundle) else load_bundle(model))
