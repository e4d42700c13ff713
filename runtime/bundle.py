"""The bundle: one ONNX file whose metadata says everything that is needed to run it.

The flat metadata keys (`sample_rate`, `n_fft`, `hop_length`, `window_length`, `window_type`, `model_type`, `version`,
`license`, `comment`) are the ones that other streaming runtimes read. The key `hearloop` holds one JSON object, the
`BundleInfo`. Nothing in it is trusted: on load every field is checked, against the field list, against the other fields
and against the graph itself.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .bundle_checks import check_flat_keys, check_graph
from .bundle_info import BundleInfo
from .bundle_reader import parse_info
from .errors import BundleError
from .ort_session import open_session

BUNDLE_FOLDER = Path(__file__).parent / "bundles"
STEERING = "-steering.onnx"  # what makes of a voice what steers a target bundle; in a file beside it
ELSEWHERE = b"\n\x08location"  # so a tensor that lies beside the model begins to say where, in Protocol Buffers


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle: its description, the model itself as bytes, and where it came from."""

    info: BundleInfo
    model: bytes
    path: Path | None = None


def bundle_paths() -> dict[str, Path]:
    """The bundles that ship with hearloop: name -> file."""
    paths = sorted(BUNDLE_FOLDER.glob("*.onnx"), key=lambda path: path.stem)
    return {path.stem: path for path in paths if not path.name.endswith(STEERING)}


def load_bundle(name_or_path: str | Path) -> Bundle:
    """Load a shipped bundle by name or any bundle by path.

    Raises
    ------
    BundleError
        If there is no such file, it is not an ONNX model, or a key of its metadata is missing or wrong.
    """
    path = Path(name_or_path)
    if path.suffix != ".onnx" or not path.exists():
        path = bundle_paths().get(str(name_or_path), path)
    if not path.is_file():
        raise BundleError(
            f"model {str(name_or_path)!r}: no such file, and no shipped bundle of that name; "
            f"shipped are {', '.join(bundle_paths()) or 'none'}"
        )
    model = model_bytes(path)
    # A steering is looked for beside it later, when the folder to work in may be another one.
    return Bundle(info=_read_info(model, str(path)), model=model, path=path.absolute())


def model_bytes(path: Path) -> bytes:
    """A model file as bytes that need no other file: tensors that lie beside it are put inside.

    Raises
    ------
    BundleError
        If the file, or one of those beside it, cannot be read.
    """
    try:
        content = path.read_bytes()
        if ELSEWHERE not in content:
            return content
        from .compiler.read import with_all_tensors  # parses ONNX, which takes time; other models do without

        return with_all_tensors(path)
    except Exception as error:  # onnx raises several unrelated types
        raise BundleError(f"{path}: not a readable ONNX model ({_first_line(error)})") from error


def ports_and_metadata(model: bytes, where: str) -> tuple[list[Any], list[Any], dict[str, str]]:
    """Inputs and outputs of a model, each with `name`, `type` and `shape`, and its metadata.

    Raises
    ------
    BundleError
        If it is not an ONNX model.
    """
    try:
        session = open_session(model, optimised=False)
        return session.get_inputs(), session.get_outputs(), session.get_modelmeta().custom_metadata_map
    except Exception as error:  # onnxruntime raises several unrelated types, some of them private
        raise BundleError(f"{where}: not a readable ONNX model ({_first_line(error)})") from error


def _read_info(model: bytes, where: str) -> BundleInfo:
    inputs, outputs, metadata = ports_and_metadata(model, where)
    if "hearloop" not in metadata:
        raise BundleError(
            f"{where}: no metadata key 'hearloop'; a bundle is written by `hearloop export`, keys found: "
            f"{', '.join(sorted(metadata)) or 'none'}"
        )
    info = parse_info(metadata["hearloop"], where)
    check_flat_keys(info, metadata, where)
    check_graph(info, inputs, outputs, where)
    return info


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
