"""Prove that an exported step computes what the PyTorch model computes, before anyone relies on it."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import onnx
import torch
from torch import nn

from ..models.frontend import Stft
from ..runtime.bundle_info import Port
from ..runtime.ort_session import open_session
from ..runtime.state_ring import StateRing
from .check import initial_values
from .excitation import excitation
from .onnx import ExportError, input_ports
from .rings import state_ports

FRAMES = 250
TOLERANCE = 1e-4


def excitation_inputs(model: nn.Module, frames: int) -> dict[str, torch.Tensor]:
    """The test signal for every input of the model: of the shape of its port, but all frames on axis 2.

    A reference gets sounds that no microphone has. An embedding stays the same in all frames and has no axis for them.
    """
    inputs = {}
    for index, port in enumerate(input_ports(model)):
        if port.role == "embedding":
            inputs[port.name] = torch.randn(port.shape, generator=torch.Generator().manual_seed(index))
        else:
            inputs[port.name] = _signal(model, port.shape[1], frames, seed=100 * index)
    return inputs


def frame_of(port: Port, values: torch.Tensor, frame: int) -> torch.Tensor:
    """What an input is in one frame, in the shape of its port."""
    return values if port.role == "embedding" else values[:, :, [frame]]


def _signal(model: nn.Module, channels: int, frames: int, seed: int) -> torch.Tensor:
    """[1, C, frames, ...], what the model gets; each channel has its own."""
    frame = int(model.frame) if model.window is None else Stft(str(model.window)).hop_length
    sounds = [excitation(frames * frame, seed=seed + channel) for channel in range(channels)]
    audio = torch.from_numpy(np.stack(sounds))[None]
    return audio.unflatten(-1, (frames, frame)) if model.window is None else Stft(str(model.window)).analysis(audio)[0]


def run_steps(
    graph: onnx.ModelProto, inputs: Iterable[Mapping[str, np.ndarray]], initial: Mapping[str, float] | None = None
) -> np.ndarray:
    """Run a step frame by frame in ONNX Runtime from the initial state.

    Parameters
    ----------
    graph : ModelProto
    inputs : iterable of mapping of str to ndarray
        For each frame, what goes in besides the state.
    initial : mapping of str to float, optional
        What each state is filled with to begin with; zero if not given.

    Returns
    -------
    ndarray, float32, shape (1, C, T, ...)
    """
    session = open_session(graph.SerializeToString())
    outputs = [item.name for item in session.get_outputs()]
    (output,) = (name for name in outputs if not name.startswith("state."))
    states = state_ports(graph, initial)
    rings = {port.name: StateRing(port) for port in states if port.kind == "ring"}
    state = {port.name: np.full(port.shape, port.initial, np.float32) for port in states}
    state |= {name: ring.memory for name, ring in rings.items()}
    given = []
    for frame in inputs:
        result = dict(zip(outputs, session.run(outputs, {**frame, **state}), strict=True))
        given.append(result[output])
        for name in state.keys() - rings.keys():
            state[name] = result[f"{name}.next"]
        for name, ring in rings.items():
            ring.entry[...] = result[f"{name}.next"]
            ring.push()
    return np.concatenate(given, axis=2)


def verify(model: nn.Module, graph: onnx.ModelProto, frames: int = FRAMES, tolerance: float = TOLERANCE) -> float:
    """Compare the graph, run frame by frame with its state carried over, with the model, run over all frames at once.

    PyTorch runs frame by frame as well: a model that keeps memory outside its state gives itself away there.

    Returns
    -------
    float : the largest error as a fraction of the largest output magnitude.

    Raises
    ------
    ExportError
        If the error exceeds the tolerance, or a value is not finite.
    """
    signal, ports = excitation_inputs(model, frames), input_ports(model)
    by_frame = [{port.name: frame_of(port, signal[port.name], t) for port in ports} for t in range(frames)]
    with torch.no_grad(), _one_thread():
        expected = model(*signal.values(), model.initial_state(1))[0].numpy()
        state, steps = model.initial_state(1), []
        for frame in by_frame:
            enhanced, state = model(*frame.values(), state)
            steps.append(enhanced)
    who = type(model).__name__
    in_steps = _compare(torch.cat(steps, dim=2).numpy(), expected, tolerance, f"{who} run frame by frame", who)
    frames_of_arrays = ({name: value.numpy() for name, value in frame.items()} for frame in by_frame)
    found = run_steps(graph, frames_of_arrays, initial_values(model))
    return max(in_steps, _compare(found, expected, tolerance, "the exported graph", who))


def _compare(found: np.ndarray, expected: np.ndarray, tolerance: float, what: str, model: str) -> float:
    if found.shape != expected.shape or not (np.isfinite(found).all() and np.isfinite(expected).all()):
        raise ExportError(f"{what} gives shape {found.shape}, {model} {expected.shape}, or some of it is not finite")
    per_frame = np.abs(found - expected).max(axis=tuple(set(range(expected.ndim)) - {2})) / max(
        float(np.abs(expected).max()), 1e-12
    )
    error = float(per_frame.max())
    if error > tolerance:
        raise ExportError(
            f"{what} differs from {model} run over all frames at once: relative error {error:.1e} in frame "
            f"{int(per_frame.argmax())} of {len(per_frame)}, at most {tolerance:.0e} is allowed"
        )
    return error


@contextmanager
def _one_thread() -> Iterator[None]:
    """A frame is too small to share: on a busy machine the threads of PyTorch would mostly wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
