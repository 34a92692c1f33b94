"""What an explanation says of rows whose fault is known."""

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from insphere.data import AbstractSource, ArraySource
from insphere.detectors.base import AbstractDetector
from insphere.errors import DataError, ExplainError, ParameterError
from insphere.explain import METHODS, explain
from insphere.explain.occlusion import occlude_features, occlude_patches

Detectors = dict[str, AbstractDetector]


@pytest.mark.parametrize("name", ["local", "mahalanobis", "cae", "vae", "knn", "hybrid", "deep-svdd"])
def test_the_default_finds_the_block(name: str, detectors: Detectors, marked: NDArray[Any], digits: AbstractSource) -> None:
    heatmaps = explain(detectors[name], marked, normals=digits).heatmaps
    assert heatmaps is not None
    assert heatmaps.dtype == np.float32
    assert heatmaps.shape == (4, 8, 8)
    assert (heatmaps >= 0).all()
    for row in (1, 2, 3):
        assert heatmaps[row, :3, :3].mean() > 2 * heatmaps[row, 4:, :].mean()


@pytest.mark.parametrize("method", [method for method in METHODS if method != "map"])
def test_colour_images_have_one_heat_per_pixel(method: str, colour_detector: AbstractDetector) -> None:
    X = np.random.default_rng(1).integers(0, 256, (2, 9, 7, 3), dtype=np.uint8)
    explanation = explain(colour_detector, X, normals=X[:1], method=method, n_steps=2)
    assert explanation.heatmaps is not None
    assert explanation.heatmaps.shape == (2, 9, 7)
    if explanation.attributions is not None:
        assert explanation.attributions.shape == X.shape


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["local", "euclidean", "cae", "knn"])
def test_every_method_explains_or_says_why_not(name: str, method: str, detectors: Detectors, marked: NDArray[Any]) -> None:
    try:
        explanation = explain(detectors[name], marked, method=method, n_steps=4)
    except ExplainError as error:
        assert "use" in str(error) or "give" in str(error)
        assert (name, method) in {
            ("knn", "difference"), ("knn", "reconstruction"), ("knn", "reconstruction-smooth"), ("knn", "neighbours"),
            ("knn", "map"), ("local", "map"), ("euclidean", "map"), ("cae", "map"),
            ("knn", "integrated-gradients"), ("knn", "gradient-difference"), ("euclidean", "neighbours"), ("cae", "neighbours"),
        }  # fmt: skip
        return
    assert explanation.heatmaps is not None
    assert explanation.heatmaps.shape == (4, 8, 8)
    assert np.isfinite(explanation.heatmaps).all()
    np.testing.assert_array_equal(explanation.anomaly_score, detectors[name].anomaly_score(marked))
    np.testing.assert_array_equal(explanation.p_value, detectors[name].p_value(marked))
    json.dumps(explanation.to_json(), allow_nan=False)


@pytest.mark.parametrize("name", ["local", "mahalanobis", "euclidean", "cae", "deep-svdd", "vae"])
def test_integrated_gradients_are_complete(name: str, detectors: Detectors, marked: NDArray[Any]) -> None:
    explanation = explain(detectors[name], marked, method="integrated-gradients", baseline="blur", n_steps=256)
    assert explanation.attributions is not None
    assert explanation.baseline_score is not None
    gained = explanation.anomaly_score - explanation.baseline_score
    assert np.abs(gained).max() > 0
    np.testing.assert_allclose(explanation.attributions.sum(axis=(1, 2, 3)), gained, atol=0.03 * np.abs(explanation.anomaly_score).max())


def test_more_steps_come_nearer_to_completeness(detectors: Detectors, marked: NDArray[Any]) -> None:
    gaps = []
    for n_steps in (2, 512):
        explanation = explain(detectors["mahalanobis"], marked, method="integrated-gradients", baseline="blur", n_steps=n_steps)
        assert explanation.attributions is not None
        gained = explanation.anomaly_score - np.asarray(explanation.baseline_score)
        gaps.append(np.abs(explanation.attributions.sum(axis=(1, 2, 3)) - gained).max())
    assert gaps[1] < gaps[0]


def test_occlusion_equals_replacing_patches_one_by_one(detectors: Detectors, marked: NDArray[Any], digits: AbstractSource) -> None:
    replacement = digits.load().X[10:12]
    found = occlude_patches(detectors["knn"], marked[:2], replacement, patch=4)
    losses, covered = np.zeros((2, 8, 8)), np.zeros((8, 8))
    for top in range(-2, 8, 2):
        for left in range(-2, 8, 2):
            inside = np.zeros((8, 8), bool)
            inside[max(top, 0) : top + 4, max(left, 0) : left + 4] = True
            covered += inside
            changed = np.where(inside[None, :, :, None], replacement, marked[:2])
            lost = detectors["knn"].anomaly_score(marked[:2]) - detectors["knn"].anomaly_score(changed)
            losses += inside * lost[:, None, None] / inside.sum()
    np.testing.assert_allclose(found, losses / covered, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["vae-svdd", "cae", "iforest", "knn"])
def test_the_feature_that_is_off_adds_most(name: str, vector_detectors: Detectors, vectors: NDArray[Any]) -> None:
    row = vectors[:1].copy()
    row[0, 2] = 2.0  # twenty standard deviations
    explanation = explain(vector_detectors[name], row, normals=vectors)
    assert explanation.heatmaps is None
    assert explanation.feature_contributions is not None
    assert explanation.feature_contributions.shape == (1, 4)
    assert explanation.feature_contributions.argmax() == 2


class Counting:
    """A detector whose score is a weighted sum, and that counts the values it is asked about."""

    def __init__(self, weights: NDArray[Any]) -> None:
        self.weights, self.n_values = weights, 0

    def score_batches(self, source: AbstractSource, *, batch_size: int, hashed: bool) -> Any:
        for rows in source.batches(batch_size):
            self.n_values += rows.X.size
            yield SimpleNamespace(anomaly_score=rows.X @ self.weights)


def test_of_many_features_those_that_add_most_are_found_without_trying_each() -> None:
    asked = []
    for n_features in (6000, 24_000):
        weights = np.random.default_rng(0).normal(size=n_features) * 1e-3
        weights[[17, 3999, 5998]] = (5.0, -4.0, 3.0)
        detector: Any = Counting(weights)
        found = occlude_features(detector, np.ones((1, n_features)), np.zeros((1, n_features)))[0]
        assert np.argsort(-np.abs(found))[:3].tolist() == [17, 3999, 5998]
        np.testing.assert_allclose(found.sum(), weights.sum(), rtol=1e-6)
        asked.append(detector.n_values)
    assert asked[1] < 6 * asked[0]  # in proportion to the features, not to their square
    few: Any = Counting(weights[:1000])
    np.testing.assert_allclose(occlude_features(few, np.ones((1, 1000)), np.zeros((1, 1000)))[0], weights[:1000], atol=1e-9)


@pytest.mark.parametrize("name", ["vae-svdd", "cae"])
def test_features_of_networks_are_complete(name: str, vector_detectors: Detectors, vectors: NDArray[Any]) -> None:
    explanation = explain(vector_detectors[name], vectors[:5] * 3, n_steps=512)
    assert explanation.feature_contributions is not None
    gained = explanation.anomaly_score - np.asarray(explanation.baseline_score)
    np.testing.assert_allclose(explanation.feature_contributions.sum(axis=1), gained, atol=0.02 * explanation.anomaly_score.max())


def test_neighbours_are_the_nearest_codes(detectors: Detectors, marked: NDArray[Any], digits: AbstractSource) -> None:
    detector: Any = detectors["local"]
    neighbours = explain(detector, marked, normals=digits, n_neighbors=3).neighbours
    assert neighbours is not None
    assert neighbours.rows is not None
    rows = digits.load().X
    whitened = (detector.codes(digits) - detector.sphere_.center) @ detector.sphere_.whitening.T
    own = (detector.codes(ArraySource(marked)) - detector.sphere_.center) @ detector.sphere_.whitening.T
    distances = np.linalg.norm(own[:, None] - whitened[None], axis=2)
    for row in range(4):
        others = [index for index in np.argsort(distances[row]) if not np.array_equal(rows[index], marked[row])]
        assert neighbours.index[row].tolist() == others[:3]
        np.testing.assert_array_equal(neighbours.rows[row], rows[others[:3]])


def test_without_normals_the_stored_codes_are_decoded(detectors: Detectors, marked: NDArray[Any]) -> None:
    neighbours = explain(detectors["local"], marked).neighbours
    assert neighbours is not None
    assert neighbours.kind == "decoded"
    assert neighbours.values is not None
    assert neighbours.values.shape == (4, 5, 8, 8, 1)
    assert neighbours.rows is None
    np.testing.assert_allclose(neighbours.distance.mean(axis=1), detectors["local"].anomaly_score(marked), rtol=1e-6)


def test_reconstructions_are_in_the_units_of_the_rows(detectors: Detectors, digits: AbstractSource) -> None:
    X = digits.load().X[:20]
    reconstructions = explain(detectors["cae"], X).reconstructions
    assert reconstructions is not None
    # The scaling takes each image's mean and contrast away; in raw units both must be back.
    assert np.abs(reconstructions - X).mean() < 0.7 * np.abs(X - X.mean(axis=(1, 2, 3), keepdims=True)).mean()


def test_unreadable_rows_are_left_out_with_their_reason(vector_detectors: Detectors, vectors: NDArray[Any]) -> None:
    rows = vectors[:3].copy()
    rows[1, 0] = np.nan
    explanation = explain(vector_detectors["cae"], ArraySource(rows, ids=["a", "b", "c"]))
    assert explanation.ids == ("a", "c")
    assert explanation.errors == {"b": "feature 0 is nan"}
    with pytest.raises(DataError, match="b: feature 0 is nan"):
        explain(vector_detectors["cae"], ArraySource(rows[1:2], ids=["b"]))


def test_the_detector_s_own_method_is_the_same(detectors: Detectors, marked: NDArray[Any]) -> None:
    by_method, by_function = detectors["local"].explain(marked), explain(detectors["local"], marked)
    np.testing.assert_array_equal(by_method.heatmaps, by_function.heatmaps)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "occlude"}, "Did you mean 'occlusion'"),
        ({"n_neighbors": 0}, "n_neighbors"),
        ({"smoothing": -1.0}, "smoothing"),
        ({"baseline": "black"}, "baseline"),
        ({"patch": 0}, "patch"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str, detectors: Detectors, marked: NDArray[Any]) -> None:
    with pytest.raises(ParameterError, match=message):
        explain(detectors["local"], marked, **options)


def test_heat_maps_of_vectors_are_refused(vector_detectors: Detectors, vectors: NDArray[Any]) -> None:
    with pytest.raises(ExplainError, match="vectors"):
        explain(vector_detectors["cae"], vectors[:1], method="difference")
