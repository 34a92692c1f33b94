"""How a graph is run, wherever insphere runs one."""

from typing import Any

from insphere.errors import MissingDependencyError


def session(content: bytes) -> Any:
    """Return an ONNX Runtime session of a graph, on one thread of the CPU and without its log lines.

    Raises
    ------
    MissingDependencyError
        If ONNX Runtime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError("Scoring by a graph needs ONNX Runtime: pip install 'insphere[runtime]'.") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # it warns of every input with a default, which is what the threshold is meant to be
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
