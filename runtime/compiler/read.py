"""Reading a model: ONNX with every shape known."""

from collections.abc import Mapping
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from ..errors import UnsupportedModel

OLDEST_OPSET = 9


def read_model(model: bytes, sizes: Mapping[str, int] | None = None) -> onnx.ModelProto:
    """Parse a model, and fix the free dimensions of its inputs: as told, or else to 1.

    Parameters
    ----------
    model : bytes
    sizes : mapping of str to int, optional
        Name of a free dimension -> its size.

    Raises
    ------
    UnsupportedModel
        If it is no valid ONNX model, is older than opset 9, or has inputs that are not tensors of numbers.
    """
    try:
        proto = onnx.load_model_from_string(model)
        for port in proto.graph.output:
            port.type.tensor_type.shape.SetInParent()  # often left out, and not needed: shapes follow from the nodes
        onnx.checker.check_model(proto)
    except (DecodeError, onnx.checker.ValidationError) as error:
        raise UnsupportedModel(f"not a valid ONNX model: {str(error).splitlines()[0]}") from error
    if opset_of(proto) < OLDEST_OPSET:
        raise UnsupportedModel(f"the model has opset {opset_of(proto)}, expected at least {OLDEST_OPSET}")
    for port in proto.graph.input:
        _fix_shape(port, sizes or {})
    return proto


def with_all_tensors(path: Path) -> bytes:
    """A model file with the tensors inside that lie in files beside it; raises whatever onnx does."""
    return onnx.load(path).SerializeToString()


def _fix_shape(port: onnx.ValueInfoProto, sizes: Mapping[str, int]) -> None:
    kind = port.type.WhichOneof("value")
    if kind != "tensor_type" or not port.type.tensor_type.HasField("shape"):
        raise UnsupportedModel(f"input {port.name!r} is a {kind} without a shape; expected a tensor of known rank")
    for dimension in port.type.tensor_type.shape.dim:
        if not dimension.HasField("dim_value"):
            dimension.dim_value = sizes.get(dimension.dim_param, 1)


def opset_of(model: onnx.ModelProto) -> int:
    """Version of the standard operators."""
    return next((opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")), 1)


def shape_of(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    """Shape of an input of a model that has been read."""
    return tuple(dimension.dim_value for dimension in value.type.tensor_type.shape.dim)


def dtype_of(value: onnx.ValueInfoProto) -> str:
    """NumPy's name of an input's or output's type."""
    return str(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
