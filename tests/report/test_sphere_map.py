"""The map: inside the circle is normal, exactly."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import insphere
from insphere.detectors.base import AbstractDetector
from insphere.report.axes import Axis, score_axis
from insphere.report.judging import judge
from insphere.report.sphere_map import MAX_POINTS, RING, Radius, _radius, principal_components, sphere_map
from report.conftest import fit


def places(path: str) -> np.ndarray:
    return np.array([[float(x), float(y)] for x, y in re.findall(r"M(-?\d+) (-?\d+)h0", path)])


def test_flagged_rows_and_no_others_are_outside_the_circle(digits: AbstractDetector) -> None:
    rows = judge(digits, digits.open("digits:3", split="test"))
    found = sphere_map(digits, rows, score_axis(rows.anomaly_score))
    for name, mask in rows.groups.items():
        distance = np.hypot(*(places(found.around[name]) - 500).T) / 485
        flagged = rows.is_anomaly[mask]
        assert (distance[flagged] >= RING - 0.004).all() and (distance[~flagged] <= RING + 0.004).all()
        assert len(places(found.components[name])) == mask.sum()
    assert found.units_per_score is None  # the mean distance to neighbours is none to the centre


def test_where_the_score_is_a_distance_the_disc_holds_all_that_is_inside() -> None:
    detector = fit(insphere.DeepSVDDVAE(epochs=3, latent_dim=2, geometry="mahalanobis", random_state=0), "digits:3")
    rows = judge(detector, detector.open("digits:3", split="test"))
    found = sphere_map(detector, rows, score_axis(rows.anomaly_score))
    inside = 0
    for name, mask in rows.groups.items():
        distance = np.hypot(*(places(found.components[name]) - found.centre).T)
        at_edge = (np.abs(places(found.components[name]) - 500) >= 489).any(axis=1)
        # With two latent dimensions nothing is projected away: distance on the map is the score.
        np.testing.assert_allclose(distance[~at_edge], found.units_per_score * rows.anomaly_score[mask][~at_edge], atol=1.5)
        inside += (~at_edge).sum()
    assert inside > 300


def test_detectors_without_codes_have_no_map(vectors: AbstractDetector) -> None:
    X = np.random.default_rng(0).normal(size=(20, 4))
    rows = judge(vectors, vectors.open(X))
    assert sphere_map(vectors, rows, score_axis(rows.anomaly_score)) is None


def test_the_map_of_many_rows_is_a_sample_that_repeats(digits: AbstractDetector) -> None:
    X = np.repeat(insphere.open_source("digits:3", split="test").load().X, 5, axis=0)
    rows = judge(digits, digits.open(X))
    first, second = (sphere_map(digits, rows, score_axis(rows.anomaly_score)) for _ in range(2))
    assert first == second
    assert first.n_shown == MAX_POINTS == len(places(first.around["all"]))


def test_principal_components_are_those_of_the_definition() -> None:
    offsets = np.random.default_rng(0).normal(size=(50, 4)) * [5, 1, 3, 0.1]
    found, shares = principal_components(offsets)
    values, vectors = np.linalg.eigh(offsets.T @ offsets)
    np.testing.assert_allclose(np.abs(found), np.abs(offsets @ vectors[:, [3, 2]]), atol=1e-9)
    assert shares == (pytest.approx(values[3] / values.sum()), pytest.approx(values[2] / values.sum()))
    one, (_, second) = principal_components(np.array([[2.0], [-1.0]]))
    assert one.tolist() == [[2.0, 0.0], [-1.0, 0.0]] and second == 0.0
    np.testing.assert_array_equal(principal_components(np.zeros((3, 2)))[0], 0)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=20), st.floats(-50, 50))
def test_distances_from_the_middle_keep_the_order_and_the_decision(values: list[float], threshold: float) -> None:
    scores = np.sort(np.array([*values, threshold]))
    radius = _radius(SimpleNamespace(threshold_=threshold), scores, score_axis(scores))
    distances = radius.of(scores)
    assert (np.diff(distances) >= 0).all() and (distances >= 0).all() and (distances <= 1).all()
    assert (distances[scores <= threshold] <= RING).all() and (distances[scores > threshold] >= RING).all()


def test_the_scale_beyond_the_threshold() -> None:
    radius = Radius(0.0, 1.0, Axis(1.0, 100.0, logarithmic=True))
    assert radius.of(np.array([0.5, 10.0, 1000.0])).tolist() == [0.25, 0.75, 1.0]
