"""Write a network that hears a whole recording as a bundle of mode "file"."""

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch.utils.flop_counter import FlopCounterMode

from ..models.published import selective  # noqa: F401 (defines the operator of PyTorch that is translated)
from ..models.published.recording import Recording
from ..runtime.bundle import load_bundle
from ..runtime.bundle_info import BundleInfo, Port, check_json
from ..runtime.ort_session import open_session
from .bundle import SAMPLE_RATE, write
from .excitation import excitation
from .functions import DOMAIN, define_functions
from .onnx import MEANINGS, OPSET, ExportError, failure

LEAD = 512  # samples
TOLERANCE = 1e-3  # of the standard deviation: many layers of norms over a whole recording, in another order of sums


def export_recording(
    model: Recording,
    path: str | Path,
    *,
    name: str,
    license: str,
    training: Mapping[str, Any] | None = None,
    comment: str = "",
) -> BundleInfo:
    """Export a network that has no step as one `.onnx` file that `hearloop process` runs.

    Parameters
    ----------
    model : Recording
    path, name, license, training, comment
        As for `export_bundle`.

    Raises
    ------
    ExportError
        If PyTorch cannot express the network in ONNX, or the graph computes something else; nothing is written.
    BundleError
        If the facts or the comment are not plain JSON; nothing is written.
    """
    check_json({"name": name, "license": license, "training": training, "comment": comment})
    model.cpu().eval()
    graph = _trace(model)
    _verify(model, graph)
    info = BundleInfo(
        name=name,
        task=model.task,
        sample_rate=SAMPLE_RATE,
        frame=model.piece,
        lookahead=0,
        channels_in=model.channels_in,
        channels_out=model.channels_out,
        front_end="waveform",
        window=None,
        inputs=(Port("audio", "audio", (1, model.channels_in, model.piece), "what the microphones heard"),),
        outputs=(Port("enhanced", "audio", (1, model.channels_out, model.piece), MEANINGS[model.task]),),
        states=(),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        macs_per_frame=_macs(model),
        license=license,
        comment=comment,
        training=training or {},
        mode="file",
    )
    onnx.helper.set_model_props(graph, info.to_metadata())
    write(graph, Path(path), check=load_bundle)
    return info


def _trace(model: Recording) -> onnx.ModelProto:
    """The graph for pieces of one length.

    By tracing operators, not by `torch.export`, which takes minutes for so many. The tracer keeps lengths as numbers:
    the graph holds for this one only.
    """
    file, fast = io.BytesIO(), torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one operator that ONNX does not have
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer announces its retirement, and every length that it follows
            torch.onnx.register_custom_op_symbolic(
                "hearloop::mamba_scan", lambda graph, *values: graph.op("hearloop::MambaScan", *values), OPSET
            )
            torch.onnx.export(
                model,
                (torch.from_numpy(_sound(model)),),
                file,  # type: ignore[arg-type] # the tracer takes it, the other exporter does not
                input_names=["audio"],
                output_names=["enhanced"],
                opset_version=OPSET,
                dynamo=False,
                custom_opsets={DOMAIN.domain: DOMAIN.version},
            )
    except Exception as error:  # the exporter lets through whatever goes wrong inside it
        raise ExportError(f"{type(model).__name__} cannot be exported: {failure(error)}") from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    graph = onnx.load_from_string(file.getvalue())
    define_functions(graph)
    for node in graph.graph.node:
        node.ClearField("doc_string")  # notes of the tracer, with file paths of the author's machine
    del graph.graph.output[:]  # of a shape that the tracer may not know
    shape = (1, model.channels_out, model.piece)
    graph.graph.output.append(onnx.helper.make_tensor_value_info("enhanced", onnx.TensorProto.FLOAT, shape))
    return graph


def _sound(model: Recording) -> np.ndarray:
    """A piece of the test signal, which begins with silence: where a transform is mirrored, phases would be noise."""
    sounds = [excitation(model.piece, seed=channel) for channel in range(model.channels_in)]
    return np.pad(np.stack(sounds)[np.newaxis, :, :-LEAD], ((0, 0), (0, 0), (LEAD, 0)))


def _verify(model: Recording, graph: onnx.ModelProto) -> None:
    session = open_session(graph.SerializeToString(), threads=0)
    sound = _sound(model)
    with torch.no_grad():
        expected = model(torch.from_numpy(sound)).numpy()
    (found,) = session.run(None, {"audio": sound})
    if found.shape != expected.shape or not np.isfinite(expected).all():
        raise ExportError(f"the exported graph gives shape {found.shape}, the network {expected.shape}")
    error = float(np.abs(found - expected).max() / expected.std())
    if not error <= TOLERANCE:
        raise ExportError(
            f"the exported graph differs from the network: error {error:.1e} of the standard deviation, at most "
            f"{TOLERANCE:.0e} is allowed"
        )


def _macs(model: Recording) -> int:
    """Multiply-accumulates for a piece; shapes are enough to count them."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad(), torch.device("meta"):
        torch.func.functional_call(
            model,
            {name: value.to("meta") for name, value in (*model.named_parameters(), *model.named_buffers())},
            (torch.empty(1, model.channels_in, model.piece),),
        )
    return counter.get_total_flops() // 2
