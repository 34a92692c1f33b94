"""Exported graphs as scorers: ONNX Runtime, NumPy and Pillow score what PyTorch was needed to learn."""

from insphere.runtime.graph_model import GraphModel, load_any, load_graph
from insphere.runtime.sessions import session

__all__ = ["GraphModel", "load_any", "load_graph", "session"]
