"""ONNX Runtime at once, machine code as soon as there is some.

A model that runs for longer than a moment is compiled in another process, at the lowest priority. Then a thread makes
the compiled engine, starts it with the state of the running one, and lets it catch up: it does once more what has been
done since. When it is level, the running engine is left between two steps. The thread that steps never waits, compiles
or loads anything; it copies the state once, notes its inputs until the other engine is level, and changes over.
"""

import json
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict

import numpy as np
import onnxruntime

from .bundle import Bundle
from .compiled_engine import CompiledEngine
from .compiler.cache import cache_folder, lookup
from .compiler.compiled import Options
from .ort import OrtEngine
from .stream import Stream

# Steps before the compiler is started, about a second: a short file is over before machine code would help.
PATIENCE_STEPS = 128

Deed = Callable[[CompiledEngine], None]


class Compilation:
    """A model that is compiled in another process, once for all streams through it.

    Attributes
    ----------
    note : str
        Why there is no machine code, once that is known.
    """

    def __init__(self, bundle: Bundle):
        self.bundle = bundle
        self.note = ""
        self._lock = threading.Lock()
        self._first: CompiledEngine | None = None
        self._tried = False

    def engine(self) -> CompiledEngine | None:
        """A new stream through the machine code; waits until there is some, and returns None if there will be none."""
        with self._lock:
            if not self._tried:
                self.note = self._compile()
                compiled = lookup(self.bundle, Options())
                if compiled is not None:
                    self._first = CompiledEngine(self.bundle, compiled=compiled)
                elif not self.note:
                    self.note = f"the compiled model could not be kept in {cache_folder()}"
                self._tried = True
            return self._first.another() if self._first is not None else None

    def _compile(self) -> str:
        """Run the compiler; returns what it complains about."""
        header = {"name": self.bundle.info.name, "states": [asdict(state) for state in self.bundle.info.states]}
        try:
            # A session of its own, so that Ctrl-C in the terminal is left to the program that plays.
            found = subprocess.run(
                [sys.executable, "-m", "hearloop.runtime.compiler"],
                input=json.dumps(header).encode() + b"\n" + self.bundle.model,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
                check=False,
            )
        except OSError as error:
            return f"the compiler cannot be started ({error})"
        lines = found.stderr.decode(errors="replace").strip().splitlines()
        return "" if found.returncode == 0 else lines[-1] if lines else f"the compiler ended with {found.returncode}"


class AutoEngine(Stream):
    """A stream that begins with ONNX Runtime and goes on in machine code. See `engine.Engine` for the protocol.

    The two agree to about 1e-5 of the largest output, so that nothing is heard of the change.

    Parameters
    ----------
    bundle : Bundle
    compilation : Compilation, optional
        To share with other streams through the same model.
    patience_steps : int
        Steps before the compiler is started.
    session : onnxruntime.InferenceSession, optional
        A session of the same bundle to share.
    """

    def __init__(
        self,
        bundle: Bundle,
        compilation: Compilation | None = None,
        patience_steps: int = PATIENCE_STEPS,
        session: onnxruntime.InferenceSession | None = None,
    ):
        self.bundle, self.info = bundle, bundle.info
        self.compilation = compilation or Compilation(bundle)
        self.patience_steps = patience_steps
        self._ort = OrtEngine(bundle, session)
        self._running: OrtEngine | CompiledEngine = self._ort
        self.inputs, self.outputs = self._running.inputs, self._running.outputs
        self._steps = 0
        self._follower: CompiledEngine | None = None
        self._room: dict[str, np.ndarray] = {}
        self._deeds: deque[Deed] | None = None  # what the follower has not yet done; None while it has no state
        self._begun, self._level = threading.Event(), False

    @property
    def name(self) -> str:
        """Of the engine that runs now."""
        return self._running.name

    @property
    def note(self) -> str:
        """Why the model is not run as machine code, once that is known."""
        return self.compilation.note

    def run(self) -> None:
        if isinstance(self._running, CompiledEngine):
            self._run_compiled(self._running)
            return
        self._steps += 1
        if self._steps == self.patience_steps:
            threading.Thread(target=_follow, args=(weakref.ref(self),), name="hearloop compile", daemon=True).start()
        self._lead()
        if isinstance(self._running, CompiledEngine):
            self._run_compiled(self._running)
        else:
            self._running.run()

    def _run_compiled(self, engine: CompiledEngine) -> None:
        for name, array in engine.inputs.items():
            array[...] = self.inputs[name]
        engine.run()
        for name, array in engine.outputs.items():
            self.outputs[name][...] = array

    def _lead(self) -> None:
        """Before a step: hand the state to the follower, or note what it must do as well, or let it take over."""
        if self._follower is None:
            return
        if self._deeds is None:
            oldest = self._ort.copy_memories(self._room)
            self._deeds = deque([lambda engine: engine.load_state(self._ort.in_order(self._room, oldest))])
            self._begun.set()
        if self._level:
            # It has stopped by itself and is at most the last few steps behind.
            while self._deeds:
                self._deeds.popleft()(self._follower)
            self._running = self._follower
            return
        inputs = {name: array.copy() for name, array in self.inputs.items()}
        self._deeds.append(lambda engine: _step(engine, inputs))

    def _also(self, deed: Deed) -> None:
        """Do to the follower what is done to the running engine."""
        if self._deeds is not None and self._running is not self._follower:
            self._deeds.append(deed)

    def reset(self) -> None:
        self._running.reset()
        for array in (*self.inputs.values(), *self.outputs.values()):
            array[...] = 0
        self._also(lambda engine: engine.reset())

    def another(self) -> "AutoEngine":
        return AutoEngine(self.bundle, self.compilation, self.patience_steps, self._ort.session)

    def save_state(self) -> dict[str, np.ndarray]:
        """A copy of the state, by the names of the graph's inputs."""
        return self._running.save_state()

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from a saved state, of this or of another engine."""
        self._running.load_state(state)
        copies = {name: np.array(array) for name, array in state.items()}
        self._also(lambda engine: engine.load_state(copies))


def _step(engine: CompiledEngine, inputs: Mapping[str, np.ndarray]) -> None:
    for name, array in engine.inputs.items():
        array[...] = inputs[name]
    engine.run()


def _follow(owner: "weakref.ref[AutoEngine]") -> None:
    """Make the compiled engine of a stream, and bring it level. A stream that nobody needs any more is forgotten."""
    engine = owner()
    if engine is None:
        return
    compilation = engine.compilation
    del engine
    follower = compilation.engine()
    engine = owner()
    if follower is None or engine is None:
        return
    begun = engine._begun
    # Memory that has been touched once: whoever copies into it meets no page that must be found first.
    engine._room = {name: np.full_like(array, 1) for name, array in engine._ort.states.items()}
    engine._follower = follower  # seen before the next step, which then hands over the state
    del engine
    while not begun.wait(1.0):
        if owner() is None:
            return
    engine = owner()
    if engine is None:
        return
    deeds = engine._deeds
    assert deeds is not None
    while deeds:
        deeds.popleft()(follower)
    engine._level = True
