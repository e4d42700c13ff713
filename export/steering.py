"""The steering of a target model as a graph of its own: embedding of a voice in, map out.

It runs once per voice. The step of the model takes the map, because the way from the embedding to it is longer than
that of several frames: 1.6 M multiplications with 6.4 MB of weights. The embedding, not the map, is what is worth
keeping of a voice: it belongs to the enrolment network alone, and steers target models of every size.
"""

import copy
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from ..runtime.ort_session import open_session
from ..runtime.voice import ENROLL_VERSION, TARGET_VERSION
from .bundle import write
from .onnx import ExportError, trace
from .verify import TOLERANCE


def export_steering(
    model: nn.Module, path: str | Path, enroll_version: str | None = None, target_version: str | None = None
) -> None:
    """Write the steering of a target model: input "embedding" [1, E], output "map" as the step of the model takes it.

    Parameters
    ----------
    model : nn.Module
        With `steering`, and the port "embedding" in `extra_inputs`.
    path : str or Path
    enroll_version : str, optional
        Of the enrolment network that it was trained with: voices of another one are refused then.
    target_version : str, optional
        Of the bundle of the model: beside another one the steering is refused then.

    Raises
    ------
    ExportError
        If ONNX Runtime computes another map than PyTorch.
    """
    steering = copy.deepcopy(model.get_submodule("steering")).cpu().eval()
    graph = steering_graph(steering)
    voices = torch.nn.functional.normalize(
        torch.randn(8, 1, _embedding(steering), generator=torch.Generator().manual_seed(0)), dim=-1
    )
    session = open_session(graph.SerializeToString())
    for voice in voices:
        with torch.no_grad():
            expected = steering(voice).numpy()
        (found,) = session.run(None, {"embedding": voice.numpy()})
        error = float(np.abs(found - expected).max() / np.abs(expected).max())
        if not error <= TOLERANCE:
            raise ExportError(f"the exported steering gives another map: relative error {error:.1e}")
    versions = {ENROLL_VERSION: enroll_version, TARGET_VERSION: target_version}
    onnx.helper.set_model_props(graph, {key: version for key, version in versions.items() if version is not None})
    write(graph, Path(path))


def steering_graph(steering: nn.Module) -> onnx.ModelProto:
    """The steering of a target model, ready to run, as a graph."""
    voice = torch.ones(1, _embedding(steering))
    return trace(steering, (voice,), ["embedding"], ["map"], type(steering).__name__)


def _embedding(steering: nn.Module) -> int:
    return next(layer for layer in steering.modules() if isinstance(layer, nn.Linear)).in_features
