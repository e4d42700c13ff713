"""Write a PyTorch model as a bundle: graph, description, golden vectors; verified first."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from ..runtime.bundle import load_bundle
from ..runtime.bundle_info import BundleInfo, check_json
from ..runtime.drafts import draft
from ..runtime.golden import Golden
from ..runtime.windows import window_pair
from .check import checked_copy, initial_values
from .macs import macs_per_step
from .onnx import export_graph, input_ports, output_port
from .rings import state_ports
from .verify import TOLERANCE, excitation_inputs, frame_of, verify

SAMPLE_RATE = 16000
GOLDEN_FRAMES = 8


def export_bundle(
    model: nn.Module,
    path: str | Path,
    *,
    name: str,
    license: str,
    training: Mapping[str, Any] | None = None,
    quality: Sequence[Mapping[str, Any]] | None = None,
    comment: str = "",
) -> BundleInfo:
    """Export a streaming model as one self-describing `.onnx` file.

    The file appears only when the graph, run frame by frame in ONNX Runtime, has reproduced the PyTorch model and the
    finished bundle has been loaded again; a file that was there before is then replaced in one move.

    Parameters
    ----------
    model : nn.Module
        With `task`, `window`, `channels_in`, `channels_out`, `initial_state` and `forward(spectrum, state)`; or with
        `extra_inputs`, a tuple of ports that give the shape of one step, and `forward(spectrum, *extra, state)`. An
        input with the role "reference" is another spectrum; one with the role "embedding" has no time. If `window` is
        None, the model works on samples, [B, C, T, frame], and says `frame` and `lookahead`. A model of spectra whose
        layers look ahead says by how many frames its output is late, `lookahead_frames`. Parameters and states are
        float32; a state keeps its shape, and begins with one finite value everywhere, zero or another.
    path : str or Path
        Where to write; the folder must exist.
    name : str
        Name of the bundle.
    license : str
        SPDX expression of the weights' licence.
    training : mapping, optional
        Facts about the training: data, duration, seed.
    quality : sequence of mappings, optional
        Figures, each with the test it was measured on.
    comment : str

    Raises
    ------
    ExportError
        If the model cannot be exported or its graph computes something else; nothing is written.
    BundleError
        If the description of the model is not a valid one, or not plain JSON; nothing is written.
    """
    path = Path(path)
    check_json({"name": name, "license": license, "training": training, "quality": quality, "comment": comment})
    model = checked_copy(model)
    graph = export_graph(model)
    verify(model, graph)
    info = _describe(model, graph, name, license, training or {}, quality or (), comment)
    onnx.helper.set_model_props(graph, info.to_metadata())
    write(graph, path, check=load_bundle)
    return info


def fingerprint(model: nn.Module) -> str:
    """Twelve digits that tell these weights from all others; the version of a bundle."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def write(graph: onnx.ModelProto, path: Path, check: Callable[[Path], object] = onnx.checker.check_model) -> None:
    """Put a model where it belongs in one move, if `check` does not object to the file."""
    with draft(path) as temporary:
        temporary.write_bytes(graph.SerializeToString())
        check(temporary)


def _describe(
    model: nn.Module,
    graph: onnx.ModelProto,
    name: str,
    license: str,
    training: Mapping[str, Any],
    quality: Sequence[Mapping[str, Any]],
    comment: str,
) -> BundleInfo:
    pair = None if model.window is None else window_pair(str(model.window))
    return BundleInfo(
        name=name,
        task=model.task,
        sample_rate=SAMPLE_RATE,
        frame=pair.hop_length if pair else model.frame,
        lookahead=pair.lookahead + pair.hop_length * _frames_ahead(model) if pair else model.lookahead,
        channels_in=model.channels_in,
        channels_out=model.channels_out,
        front_end="stft" if pair else "waveform",
        window=model.window,
        inputs=input_ports(model),
        outputs=(output_port(model),),
        states=state_ports(graph, initial_values(model)),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        macs_per_frame=macs_per_step(graph),
        license=license,
        version=fingerprint(model),
        comment=comment,
        level_reference=str(getattr(model, "level_reference", BundleInfo.level_reference)),
        training=training,
        quality=tuple(quality),
        golden=_golden(model),
    )


def _frames_ahead(model: nn.Module) -> int:
    """How many frames late the model's output is, because its layers look ahead."""
    return int(getattr(model, "lookahead_frames", 0))


def _golden(model: nn.Module) -> Golden:
    """The first frames of the test signal and what PyTorch makes of them, from the initial state."""
    signal = excitation_inputs(model, GOLDEN_FRAMES)
    with torch.no_grad():
        given, _ = model(*signal.values(), model.initial_state(1))
    # One leading axis counts the frames; each entry has the shape of the port.
    inputs = {
        port.name: np.stack([frame_of(port, signal[port.name], t).numpy() for t in range(GOLDEN_FRAMES)])
        for port in input_ports(model)
    }
    return Golden(inputs, {output_port(model).name: given.movedim(2, 0).unsqueeze(3).numpy()}, TOLERANCE)
