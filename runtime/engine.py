"""What executes the step of a bundle: the protocol, and the choice between engines."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from .auto_engine import AutoEngine
from .bundle import Bundle
from .bundle_info import BundleInfo
from .compiled_engine import CompiledEngine
from .compiler.cache import lookup
from .compiler.compiled import Options
from .errors import EngineError
from .load import load_step
from .ort import OrtEngine

ENGINES = ("auto", "ort", "compiled")


class Engine(Protocol):
    """One stream through a model: it owns the state, and fixed arrays for what goes in and comes out.

    Fill `inputs`, call `step`, read `outputs`. The arrays stay the same for the life of the engine.
    """

    info: BundleInfo
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]

    @property
    def name(self) -> str:
        """Of what runs now."""

    def step(self, inputs: Mapping[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """Turn one frame and the state into one frame and the next state; see `stream.Stream.step`."""

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


def open_engine(
    model: str | Path | Bundle,
    engine: str = "auto",
    states: Mapping[str, str] | None = None,
    half_weights: bool = False,
) -> Engine:
    """Open a model with an engine.

    Parameters
    ----------
    model : str, Path or Bundle
        Name of a shipped bundle, path of a bundle or of any other streaming ONNX model, or a loaded bundle.
    engine : {"auto", "ort", "compiled"}
        "compiled" compiles the model if it is not in the cache, which takes seconds. "auto" takes the compiled form
        if there is one (see `hearloop compile`). If not, it begins with ONNX Runtime, compiles in the background, and
        changes over between two steps; see `auto_engine.AutoEngine`.
    states : mapping of str to str, optional
        Input -> output that is its next value; see `load.load_model` for what is found without it.
    half_weights : bool
        With "compiled": keep the weights of matrix-vector products as float16; see `compiler.compiled.Options`.

    Raises
    ------
    BundleError
        If the model cannot be read.
    EngineError
        If the engine is unknown or cannot run this model.
    """
    if engine not in ENGINES:
        raise EngineError(f"engine is {engine!r}; expected one of {', '.join(ENGINES)}")
    loaded = load_step(model, states)
    if half_weights and engine != "compiled":
        raise EngineError(f"half_weights goes with engine 'compiled', not with {engine!r}")
    if engine == "compiled":
        return CompiledEngine(loaded, Options(half_weights=half_weights))
    if engine == "ort":
        return OrtEngine(loaded)
    compiled = lookup(loaded, Options())
    return CompiledEngine(loaded, compiled=compiled) if compiled is not None else AutoEngine(loaded)
