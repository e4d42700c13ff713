"""Reading a model: ONNX with every shape known."""

import onnx
from google.protobuf.message import DecodeError

from ..errors import UnsupportedModel

OLDEST_OPSET = 9


def read_model(model: bytes) -> onnx.ModelProto:
    """Parse a model; free dimensions of its inputs count as 1.

    Raises
    ------
    UnsupportedModel
        If it is no ONNX model, or older than opset 9.
    """
    try:
        proto = onnx.load_model_from_string(model)
        onnx.checker.check_model(proto)
    except (DecodeError, onnx.checker.ValidationError) as error:
        raise UnsupportedModel(f"not a valid ONNX model: {str(error).splitlines()[0]}") from error
    if opset_of(proto) < OLDEST_OPSET:
        raise UnsupportedModel(f"the model has opset {opset_of(proto)}, expected at least {OLDEST_OPSET}")
    return proto


def opset_of(model: onnx.ModelProto) -> int:
    """Version of the standard operators."""
    return next((opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")), 1)


def shape_of(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    """Shape of an input; a free dimension is 1."""
    return tuple(dimension.dim_value or 1 for dimension in value.type.tensor_type.shape.dim)


def dtype_of(value: onnx.ValueInfoProto) -> str:
    """NumPy's name of an input's or output's type."""
    return str(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
