"""Tiny fitted detectors, and rows to explain: digits with a bright block where no digit has ink."""

import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import insphere
from insphere.data import AbstractSource, open_source
from insphere.detectors.base import AbstractDetector
from insphere.errors import HealthWarning


def fitted(detector: AbstractDetector, rows: Any) -> AbstractDetector:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HealthWarning)
        return detector.fit(rows)


@pytest.fixture(scope="session")
def digits() -> AbstractSource:
    return open_source("digits:3", split="train")


@pytest.fixture(scope="session")
def marked(digits: AbstractSource) -> NDArray[Any]:
    """Four normal digits, three of which have a bright block of 3×3 pixels in their upper left corner."""
    X = digits.load().X[:4].copy()
    X[1:, :3, :3] = X.max()
    return X


@pytest.fixture(scope="session")
def detectors(digits: AbstractSource) -> dict[str, AbstractDetector]:
    made: dict[str, AbstractDetector] = {
        geometry: insphere.DeepSVDDVAE(geometry=geometry, epochs=8, random_state=0) for geometry in ("local", "mahalanobis", "euclidean")
    }
    made |= {
        "several": insphere.DeepSVDDVAE(geometry="mahalanobis", reading={"n_centers": 3}, epochs=8, random_state=0),
        "cae": insphere.CAE(epochs=8, random_state=0),
        "deep-svdd": insphere.DeepSVDD(epochs=8, random_state=0),
        "oc-nn": insphere.OCNN(epochs=8, random_state=0),
        "vae": insphere.VAE(epochs=8, random_state=0),
        "knn": insphere.KNN(random_state=0),
        "hybrid": insphere.Hybrid({"name": "cae", "epochs": 5}, "knn", random_state=0),
    }
    return {name: fitted(detector, digits) for name, detector in made.items()}


@pytest.fixture(scope="session")
def colour_detector() -> AbstractDetector:
    X = np.random.default_rng(0).integers(0, 256, (40, 9, 7, 3), dtype=np.uint8)
    return fitted(insphere.DeepSVDDVAE(epochs=2, random_state=0), X)


@pytest.fixture(scope="session")
def vectors() -> NDArray[np.float64]:
    """Normal rows whose last feature follows from the first two."""
    X = np.random.default_rng(0).normal(size=(300, 3)) * [1.0, 10.0, 0.1]
    return np.column_stack([X, X[:, 0] + 0.1 * X[:, 1]])


@pytest.fixture(scope="session")
def vector_detectors(vectors: NDArray[np.float64]) -> dict[str, AbstractDetector]:
    made = {"vae-svdd": insphere.DeepSVDDVAE(epochs=20, random_state=0), "cae": insphere.CAE(epochs=20, random_state=0)}
    made |= {"iforest": insphere.IForest(random_state=0), "knn": insphere.KNN(random_state=0)}
    return {name: fitted(detector, vectors) for name, detector in made.items()}
