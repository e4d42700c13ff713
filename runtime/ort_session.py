"""Sessions of ONNX Runtime, all opened here: on the CPU, and silent, because what goes wrong is raised."""

from pathlib import Path

import numpy as np
import onnxruntime

# What ONNX Runtime calls the types that NumPy has as well.
DTYPES = {"tensor(float)": np.dtype(np.float32), "tensor(double)": np.dtype(np.float64)} | {
    f"tensor({name})": np.dtype(name)
    for name in ("float16", "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
}

FATAL = 4  # the least that ONNX Runtime can log


def open_session(
    model: bytes | Path,
    threads: int = 1,
    *,
    streaming: bool = False,
    optimised: bool = True,
    profile_prefix: str | None = None,
) -> onnxruntime.InferenceSession:
    """Open a model; what ONNX Runtime cannot load raises one of its several, partly private, types of exceptions.

    Parameters
    ----------
    model : bytes or Path
        A path if tensors may lie beside the model.
    threads : int
        0 for as many as there are cores: what is worth it for seconds of sound, and not for a frame.
    streaming : bool
        For steps that come every few milliseconds. ONNX Runtime's defaults are made for throughput: threads spin while
        they wait, which burns a core and misses deadlines. Denormal numbers, which are slow, count as zero.
    optimised : bool
        False for a session that is never run, but asked for ports and metadata.
    profile_prefix : str, optional
        Turns ONNX Runtime's own profiler on.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = FATAL
    if streaming:
        for name in ("intra_op.allow_spinning", "inter_op.allow_spinning"):
            options.add_session_config_entry(f"session.{name}", "0")
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if profile_prefix is not None:
        options.enable_profiling, options.profile_file_prefix = True, profile_prefix
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=0)
