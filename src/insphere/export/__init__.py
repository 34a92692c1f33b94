"""A fitted detector as one ONNX graph, from raw rows to decisions: for places where neither Python nor PyTorch is wanted."""

from insphere.export.onnx_file import ExportReport, export_onnx
from insphere.export.parity import Verification, verify

__all__ = ["ExportReport", "Verification", "export_onnx", "verify"]
