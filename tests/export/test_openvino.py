"""Graphs in another runtime: OpenVINO reads what `insphere export` writes, and answers the same."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import contract
import insphere
from insphere.export import export_onnx

openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed; it is in no extra, and nothing but this test needs it")
pytest.importorskip("onnxruntime")


def gratings(n_rows: int, seed: int = 0, *, marks: bool = False) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64]
    pictures = 110 + 25 * np.sin(x / 5) * np.sin(y / 7) + rng.normal(0, 5, size=(n_rows, 64, 64))
    if marks:
        pictures[:, 20:30, 24:34] -= 60
    return pictures.clip(0, 255).astype(np.uint8)[..., None]


@pytest.mark.parametrize("tiles", [None, (1, 2)])
def test_photos_are_answered_as_by_the_library(tiles: Any, tmp_path: Path) -> None:
    detector = contract.fit_quietly(
        insphere.PhotoSpheres(backbone="scratch", side=64, tiles=tiles, random_state=0, calibration={"method": "split"}), gratings(30)
    )
    export_onnx(detector, tmp_path / "m.onnx")
    X = np.concatenate([gratings(6, 1), gratings(6, 2, marks=True)])
    core = openvino.Core()
    graph = core.read_model(tmp_path / "m.onnx")
    if tiles is not None:  # a fusion of OpenVINO 2026 asks for the length of the batch, and fails where that is open
        graph.reshape({"images": list(X.shape)})
    model = core.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert [entry.get_any_name() for entry in model.inputs] == ["images"]  # the threshold, which has a default, becomes a constant
    found = model({"images": X})
    (expected,) = detector.score_batches(X, maps=True, batch_size=len(X))
    np.testing.assert_allclose(found["anomaly_score"], expected.anomaly_score, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found["anomaly_map"], expected.maps, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found["p_value"], expected.p_value, atol=1e-9)
    np.testing.assert_array_equal(found["is_anomaly"], expected.is_anomaly)
