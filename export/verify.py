"""Prove that an exported step computes what the PyTorch model computes, before anyone relies on it."""

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


def test_spectrum(model: nn.Module, frames: int) -> torch.Tensor:
    """The test signal as the model gets it: [1, C, frames, F, 2]; each channel has its own."""
    stft = Stft(model.window)
    audio = [excitation(frames * stft.hop_length, seed=channel) for channel in range(model.channels_in)]
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

    Returns
    -------
    float : the largest error as a fraction of the largest output magnitude.

    Raises
    ------
    ExportError
        If the error exceeds the tolerance, or a value is not finite.
    """
    spectrum = test_spectrum(model, frames)
    with torch.no_grad():
        expected, _ = model(spectrum, model.initial_state(1))
    found = run_steps(graph, spectrum.numpy())
    wanted = expected.numpy()
    if found.shape != wanted.shape or not (np.isfinite(found).all() and np.isfinite(wanted).all()):
        raise ExportError(f"the exported graph gives shape {found.shape} or values that are not finite; {wanted.shape}")
    per_frame = np.abs(found - wanted).max(axis=(0, 1, 3, 4)) / max(float(np.abs(wanted).max()), 1e-12)
    error = float(per_frame.max())
    if error > tolerance:
        raise ExportError(
            f"the exported graph differs from {type(model).__name__}: relative error {error:.1e} in frame "
            f"{int(per_frame.argmax())} of {frames}, at most {tolerance:.0e} is allowed"
        )
    return error
