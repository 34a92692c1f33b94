"""Whitening in detectors: the contract, anomalies that only a correlation shows, explanations in the units of the rows, files, graphs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import contract
import insphere
from insphere import model_file
from insphere.detectors.base import AbstractDetector
from insphere.detectors.stored import KIND
from insphere.errors import ModelFileError
from insphere.export import export_onnx
from insphere.metrics import auroc

DETECTORS = {
    "vae-svdd": lambda: insphere.DeepSVDDVAE(epochs=10, random_state=0, scaling="whiten"),
    "cae": lambda: insphere.CAE(epochs=10, random_state=0, scaling="whiten"),
    "knn": lambda: insphere.KNN(random_state=0, scaling="whiten"),
}


def correlated(n_rows: int, seed: int = 0, *, broken: bool = False) -> NDArray[np.float64]:
    """Rows whose last feature is the mean of the others but for a little; where broken, that alone no longer holds."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, 4)) * [1, 10, 100, 1000]
    last = (X / [1, 10, 100, 1000]).sum(axis=1) / 2
    return np.column_stack([X, rng.normal(size=n_rows) if broken else last + rng.normal(0, 0.05, n_rows)])


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("rows", ["vectors", "pictures"])
def test_the_contract(name: str, rows: str, tmp_path: Path) -> None:
    X: NDArray[Any] = contract.blobs() if rows == "vectors" else contract.pictures()
    contract.check_scores(DETECTORS[name](), X)
    contract.check_each_row_alone(DETECTORS[name](), X)
    contract.check_round_trip(DETECTORS[name](), X, tmp_path)


def test_a_broken_correlation_shows_once_rows_are_whitened() -> None:
    labels = np.repeat([0, 1], 200)
    test = np.concatenate([correlated(200, 1), correlated(200, 2, broken=True)])

    def area(**options: Any) -> float:
        return auroc(labels, contract.fit_quietly(insphere.KNN(random_state=0, **options), correlated(300)).anomaly_score(test)).value

    assert area(scaling="whiten") > 0.9 > area() + 0.05


def test_calibration_rows_are_not_whitened_by(tmp_path: Path) -> None:
    X = correlated(200)
    detector = contract.fit_quietly(insphere.KNN(random_state=0, scaling="whiten", calibration={"method": "split"}), X)
    fitting = insphere.KNN(random_state=0, calibration={"method": "split"})._prepare(X)
    rows = fitting.training_rows
    np.testing.assert_allclose(detector.preprocess_.offset, rows.mean(axis=0))
    assert len(rows) < len(X)


def test_explanations_are_of_the_features_themselves() -> None:
    detector = contract.fit_quietly(insphere.CAE(epochs=30, random_state=0, scaling="whiten"), correlated(300))
    row = correlated(1, 3)
    row[0, 1] += 200
    for method in ("integrated-gradients", "occlusion"):
        found = detector.explain(row, method=method, baseline="typical")
        assert found.feature_contributions is not None and found.feature_contributions[0].argmax() == 1
    found = detector.explain(row, method="integrated-gradients", baseline="typical", n_steps=400)
    assert found.attributions is not None and found.baseline_score is not None
    gap = float(found.anomaly_score[0] - found.baseline_score[0])
    assert found.attributions.sum() == pytest.approx(gap, rel=0.02)


class TestFiles:
    @pytest.fixture
    def saved(self, tmp_path: Path) -> tuple[Path, model_file.ModelFile]:
        contract.fit_quietly(insphere.KNN(random_state=0, scaling="whiten"), correlated(60)).save(tmp_path / "m.insphere")
        return tmp_path / "m.insphere", model_file.read(tmp_path / "m.insphere", KIND)

    @pytest.mark.parametrize("name", ["preprocess/whitening", "preprocess/mean"])
    def test_arrays_that_do_not_fit_are_refused(self, saved: tuple[Path, model_file.ModelFile], name: str) -> None:
        path, content = saved
        for array in (content.arrays[name][:-1], content.arrays[name].astype(np.float16)):
            model_file.write(path, KIND, content.header, content.arrays | {name: array})
            with pytest.raises(ModelFileError):
                insphere.load(path)


@pytest.mark.parametrize("name", ["cae", "knn"])
def test_exported_graphs_whiten_too(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    X: NDArray[Any] = correlated(120) if name == "knn" else contract.pictures()
    detector: AbstractDetector = contract.fit_quietly(DETECTORS[name](), X)
    export_onnx(detector, tmp_path / "m.onnx")  # which proves the graph equal, or raises
    assert (tmp_path / "m.onnx").exists()
