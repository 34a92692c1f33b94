import numpy as np
import pytest

from insphere.data.outliers import PICTURES, VECTORS, synthetic_outliers
from insphere.errors import DataError


def vectors(n_rows: int = 400) -> np.ndarray:
    rng = np.random.default_rng(1)
    X = rng.normal(size=(n_rows, 3)) * [1.0, 5.0, 0.0]
    X[:, 2] = 2 * X[:, 0]
    return X


def pictures(shape: tuple[int, int, int] = (16, 16, 1), n_rows: int = 6) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 200, size=(n_rows, *shape)).astype(np.uint8)


def test_every_family_has_a_row_for_each_and_the_same_seed_gives_the_same() -> None:
    for rows, families in ((vectors(), VECTORS), (pictures(), PICTURES)):
        found, again = (synthetic_outliers(rows, np.random.default_rng(3)) for _ in range(2))
        assert list(found) == list(families)
        for name, made in found.items():
            assert made.shape == rows.shape and made.dtype == rows.dtype and np.isfinite(made).all()
            assert not np.array_equal(made, rows)
            np.testing.assert_array_equal(made, again[name])


def test_the_rows_themselves_stay_as_they_are() -> None:
    for rows in (vectors(), pictures()):
        before = rows.copy()
        synthetic_outliers(rows, np.random.default_rng(0))
        np.testing.assert_array_equal(rows, before)


def test_mixed_rows_keep_each_features_values_and_lose_their_bonds() -> None:
    rows = vectors()
    mixed = synthetic_outliers(rows, np.random.default_rng(0))["mixed"]
    assert all(np.isin(mixed[:, feature], rows[:, feature]).all() for feature in range(3))
    assert abs(np.corrcoef(mixed[:, 0], mixed[:, 2])[0, 1]) < 0.2 < np.corrcoef(rows[:, 0], rows[:, 2])[0, 1]


def test_swapped_rows_change_about_three_in_ten_features_and_each_row_at_least_one() -> None:
    rows = np.random.default_rng(0).normal(size=(500, 10))
    changed = synthetic_outliers(rows, np.random.default_rng(0))["swapped"] != rows
    assert 0.25 < changed.mean() < 0.4 and changed.any(axis=1).mean() > 0.99


def test_blended_rows_lie_half_way_between_two_different_ones() -> None:
    rows = np.array([[0.0], [2.0], [6.0]])
    blended = synthetic_outliers(np.repeat(rows, 20, axis=0), np.random.default_rng(0))["blended"]
    assert set(blended[:, 0].tolist()) <= {0.0, 1.0, 2.0, 3.0, 4.0, 6.0} and {1.0, 3.0, 4.0} & set(blended[:, 0].tolist())


def test_spikes_hit_a_tenth_of_the_features_and_uniform_rows_go_a_little_beyond_the_range() -> None:
    rows = np.random.default_rng(0).uniform(-1, 1, size=(400, 30))
    found = synthetic_outliers(rows, np.random.default_rng(0))
    assert ((found["spiked"] != rows).sum(axis=1) == 3).all()
    assert 1.0 < np.abs(found["uniform"]).max() <= 1.2001


@pytest.mark.parametrize("shape", [(16, 16, 1), (12, 20, 3)])
def test_turned_and_shuffled_pictures_have_the_same_pixels(shape: tuple[int, int, int]) -> None:
    rows = pictures(shape)
    found = synthetic_outliers(rows, np.random.default_rng(0))
    for row in range(len(rows)):
        for name in ("rotated", "shuffled"):
            np.testing.assert_array_equal(np.sort(found[name][row], axis=None), np.sort(rows[row], axis=None))
        if shape[0] != shape[1]:
            np.testing.assert_array_equal(found["rotated"][row], rows[row, ::-1, ::-1])


def test_pictures_of_a_few_pixels_have_the_families_that_they_can_have() -> None:
    found = synthetic_outliers(pictures((3, 3, 1)), np.random.default_rng(0))
    assert "cut-paste" not in found and all(np.isfinite(made).all() for made in found.values())


def test_one_row_makes_no_outliers() -> None:
    with pytest.raises(DataError, match="at least two normal rows"):
        synthetic_outliers(np.zeros((1, 3)), np.random.default_rng(0))
