"""Spheres at places and around wide vectors against slow, plain statements of their formulas; the graphs against both."""

import numpy as np
import pytest
import torch

from insphere.errors import ModelFileError
from insphere.scores.photo_graph import PlaceGraph, WhitenedGraph
from insphere.scores.places import PlaceMoments, PlaceSpheres, highest_mean
from insphere.scores.whitened import WhitenedSphere


def places(n: int = 40, height: int = 5, width: int = 3, d: int = 4, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, height, width, d)) * [1, 5, 0.2, 1] + rng.normal(size=(height, width, d))).astype(np.float32)


def slow_distance(train: np.ndarray, new: np.ndarray, shrinkage: float, ridge: float) -> np.ndarray:
    """One place after the other, by the definition."""
    _, height, width, d = train.shape
    rows = train.reshape(-1, d).astype(np.float64)
    scale = rows.std(axis=0)
    pooled = np.cov((rows / scale).T, bias=True)
    found = np.empty(new.shape[:3])
    for i in range(height):
        for j in range(width):
            block = [(k, m) for k in (i // 2 * 2, i // 2 * 2 + 1) for m in (j // 2 * 2, j // 2 * 2 + 1) if k < height and m < width]
            around = np.concatenate([(train[:, k, m] - train[:, k, m].mean(axis=0)) / scale for k, m in block]).astype(np.float64)
            within = around.T @ around / (len(around) - 1)
            inverse = np.linalg.inv((1 - shrinkage) * within + shrinkage * pooled + ridge * np.eye(d))
            away = (new[:, i, j] - train[:, i, j].mean(axis=0)) / scale
            found[:, i, j] = np.sqrt(np.einsum("nd,de,ne->n", away, inverse, away))
    return found


@pytest.mark.parametrize(("shrinkage", "ridge"), [(0.1, 0.01), (0.0, 0.5), (1.0, 0.01)])
def test_the_distance_at_each_place_is_that_of_the_definition(shrinkage: float, ridge: float) -> None:
    train, new = places(), places(6, seed=1)
    spheres = PlaceSpheres.fit(PlaceMoments.of(train), shrinkage=shrinkage, ridge=ridge)
    np.testing.assert_allclose(spheres.distance(new), slow_distance(train, new, shrinkage, ridge), rtol=5e-3)  # half precision


def test_sums_of_some_pictures_can_be_taken_away_again() -> None:
    train = places()
    first, second = PlaceMoments.of(train[:15]), PlaceMoments.of(train[15:])
    left = (first + second) - first
    assert left.n == 25
    np.testing.assert_allclose(left.second, second.second, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(PlaceSpheres.fit(left).whitening, PlaceSpheres.fit(second).whitening)


def test_a_pictures_distances_do_not_depend_on_those_beside_it() -> None:
    spheres, new = PlaceSpheres.fit(PlaceMoments.of(places())), places(7, seed=1)
    np.testing.assert_array_equal(spheres.distance(new[3:4])[0], spheres.distance(new)[3])


def test_a_wide_vectors_distance_is_the_mahalanobis_distance_of_the_shrunk_correlation() -> None:
    from sklearn.covariance import ledoit_wolf

    rng = np.random.default_rng(0)
    train, new = rng.normal(size=(30, 50)) * np.geomspace(0.01, 100, 50), rng.normal(size=(5, 50))
    scale = train.std(axis=0)
    covariance, _ = ledoit_wolf((train - train.mean(axis=0)) / scale)
    away = (new - train.mean(axis=0)) / scale
    expected = np.sqrt(np.einsum("nd,de,ne->n", away, np.linalg.inv(covariance), away))
    sphere = WhitenedSphere.fit(train)
    np.testing.assert_allclose(sphere.distance(new), expected, rtol=2e-3)
    np.testing.assert_allclose(WhitenedGraph(sphere)(torch.from_numpy(new.astype(np.float32))).numpy(), sphere.distance(new), rtol=1e-5)


def test_constant_values_do_no_harm() -> None:
    vectors = np.random.default_rng(0).normal(size=(20, 3))
    vectors[:, 1] = 7
    assert np.isfinite(WhitenedSphere.fit(vectors).distance(vectors)).all()
    at = places()
    at[..., 2] = 1
    assert np.isfinite(PlaceSpheres.fit(PlaceMoments.of(at)).distance(at)).all()


def test_the_graph_gives_the_distances_also_of_odd_grids() -> None:
    spheres, new = PlaceSpheres.fit(PlaceMoments.of(places())), places(3, seed=1)
    np.testing.assert_allclose(PlaceGraph(spheres)(torch.from_numpy(new)).numpy(), spheres.distance(new), rtol=1e-5)


def test_the_mean_of_the_highest_places() -> None:
    maps = np.random.default_rng(0).normal(size=(4, 10, 20))
    expected = [np.sort(heat.ravel())[-10:].mean() for heat in maps]
    np.testing.assert_allclose(highest_mean(maps, 0.05), expected)
    np.testing.assert_array_equal(highest_mean(maps, 1e-6), maps.max(axis=(1, 2)))


def test_arrays_that_do_not_fit_are_refused() -> None:
    spheres = PlaceSpheres.fit(PlaceMoments.of(places()))
    restored = PlaceSpheres.restore(spheres.arrays(), (5, 3))
    np.testing.assert_array_equal(restored.distance(places()), spheres.distance(places()))
    with pytest.raises(ModelFileError, match="does not fit"):
        PlaceSpheres.restore(spheres.arrays(), (4, 3))
    with pytest.raises(ModelFileError, match="does not fit"):
        PlaceSpheres.restore(spheres.arrays() | {"center": np.full((5, 3, 4), np.nan)}, (5, 3))
