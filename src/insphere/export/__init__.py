"""A fitted detector as one ONNX graph, from raw rows to decisions: for places where neither Python nor PyTorch is wanted."""

from insphere.export.onnx_file import ExportReport, export_onnx

__all__ = ["ExportReport", "export_onnx"]
