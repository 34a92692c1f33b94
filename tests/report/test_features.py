"""Features that make a vector stand out."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from insphere.report.features import N_FEATURES, FeatureScale, standing_out


def test_the_farthest_features_come_first() -> None:
    reference = np.random.default_rng(0).normal(size=(500, 8)) * [1, 10, 1, 1, 1, 1, 1, 1]
    scale = FeatureScale.of(reference)
    np.testing.assert_allclose(scale.spread, [1, 10, 1, 1, 1, 1, 1, 1], rtol=0.15)
    row = np.array([[0, 40.0, -7.0, 0, 0, 0, 0, 1.0]])
    (parts,) = standing_out(row, scale, list("abcdefgh"), None)
    assert [part.name for part in parts[:2]] == ["c", "b"] and len(parts) == N_FEATURES
    assert parts[0].value == -7.0 and parts[0].deviation < -5 and parts[0].weight == 1.0


def test_contributions_take_the_place_of_deviations() -> None:
    scale = FeatureScale.of(np.zeros((4, 3)))
    (parts,) = standing_out(np.array([[9.0, 1.0, 0.0]]), scale, None, np.array([[0.1, -3.0, 0.4]]))
    assert [(part.name, part.weight) for part in parts] == [("feature 2", 1.0), ("feature 0", 0.25), ("feature 1", 0.0)]


@given(npst.arrays(np.float64, st.tuples(st.integers(1, 8), st.integers(1, 7)), elements=st.floats(-1e9, 1e9)))
def test_constant_features_and_single_rows_are_no_trouble(X: np.ndarray) -> None:
    for parts in standing_out(X, FeatureScale.of(X), None, None):
        assert all(np.isfinite([part.deviation, part.weight]).all() and 0 <= part.weight <= 1 for part in parts)
