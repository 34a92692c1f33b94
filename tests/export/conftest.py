"""The room's tests need its packages."""

import pytest


@pytest.fixture(autouse=True)
def installed() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="pip install 'insphere[export]'")
