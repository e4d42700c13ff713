"""Prove that an exported step computes what the PyTorch model computes, before anyone relies on it."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from ..models.frontend import Stft
from .excitation import excitation
from .onnx import ExportError

FRAMES = 250
TOLERANCE = 1e-4


def excitation_spectrum(model: nn.Module, frames: int) -> torch.Tensor:
    """The test signal as the model gets it: [1, C, frames, F, 2]; each channel has its own."""
    stft = Stft(str(model.window))
    audio = [excitation(frames * stft.hop_length, seed=channel) for channel in range(int(model.channels_in))]  # type: ignore[arg-type]
    return stft.analysis(torch.from_numpy(np.stack(audio))[None])[0]


def run_steps(graph: onnx.ModelProto, spectrum: np.ndarray) -> np.ndarray:
    """Run a step frame by frame in ONNX Runtime from the initial state (zeros): [1, C, T, F, 2] in and out."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs = [item.name for item in session.get_outputs()]
    state = {item.name: np.zeros(item.shape, np.float32) for item in session.get_inputs() if item.name != "spectrum"}
    enhanced = []
    for frame in range(spectrum.shape[2]):
        result = dict(zip(outputs, session.run(outputs, {"spectrum": spectrum[:, :, [frame]], **state}), strict=True))
        enhanced.append(result["enhanced"])
        state = {name: result[f"{name}.next"] for name in state}
    return np.concatenate(enhanced, axis=2)


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
    spectrum = excitation_spectrum(model, frames)
    with torch.no_grad(), _one_thread():
        expected = model(spectrum, model.initial_state(1))[0].numpy()
        state, steps = model.initial_state(1), []
        for frame in spectrum.split(1, dim=2):
            enhanced, state = model(frame, state)
            steps.append(enhanced)
    who = type(model).__name__
    in_steps = _compare(torch.cat(steps, dim=2).numpy(), expected, tolerance, f"{who} run frame by frame", who)
    return max(in_steps, _compare(run_steps(graph, spectrum.numpy()), expected, tolerance, "the exported graph", who))


def _compare(found: np.ndarray, expected: np.ndarray, tolerance: float, what: str, model: str) -> float:
    if found.shape != expected.shape or not (np.isfinite(found).all() and np.isfinite(expected).all()):
        raise ExportError(f"{what} gives shape {found.shape}, {model} {expected.shape}, or some of it is not finite")
    per_frame = np.abs(found - expected).max(axis=(0, 1, 3, 4)) / max(float(np.abs(expected).max()), 1e-12)
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
