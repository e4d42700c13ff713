"""Export: a PyTorch model becomes a bundle that the runtime executes without PyTorch."""

from .bundle import export_bundle
from .onnx import ExportError

__all__ = ["ExportError", "export_bundle"]
