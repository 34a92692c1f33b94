"""Which rows count as one."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import naive
from insphere.decision.units import by_position, group_codes, independent_units, one_row_a_unit, row_hashes
from insphere.errors import DataError


@given(
    npst.arrays(
        st.sampled_from([np.float64, np.float32, np.uint8]), st.tuples(st.integers(0, 9), st.integers(1, 4)), elements=st.integers(0, 2)
    )
)
def test_hashes_are_equal_where_rows_are(X: Any) -> None:
    hashes = row_hashes(X)
    for i in range(len(X)):
        for j in range(len(X)):
            assert (hashes[i] == hashes[j]) == bool((X[i] == X[j]).all())


def test_hashes_tell_apart_what_differs_in_one_place_or_in_order() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2000, 7))
    changed = rows.copy()
    changed[np.arange(2000), rng.integers(7, size=2000)] *= 2.0  # a power of two: the lower bits of the word stay zero
    whole = rng.integers(0, 4, size=(2000, 7)).astype(float)
    every = np.concatenate([rows, changed, rows[:, ::-1], np.unique(whole, axis=0)])
    assert len(np.unique(row_hashes(every))) == len(every)
    images = rng.integers(0, 256, size=(500, 5, 3, 1), dtype=np.uint8)
    images[1::2] = images[::2]
    images[1::2, 4, 2, 0] ^= 1
    assert len(np.unique(row_hashes(images))) == 500


def test_minus_zero_is_zero_and_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    assert row_hashes(np.array([[0.0, 1.0]])) == row_hashes(np.array([[-0.0, 1.0]]))
    X = np.random.default_rng(0).normal(size=(50, 3))
    expected = row_hashes(X)
    monkeypatch.setattr("insphere.decision.units._CHUNK_WORDS", 7)
    np.testing.assert_array_equal(row_hashes(X), expected)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 8)), max_size=14), st.booleans())
def test_units_are_the_connected_rows(rows: list[tuple[int, int]], grouped: bool) -> None:
    hashes = np.array([value for _, value in rows], dtype=np.uint64)
    groups = [group for group, _ in rows] if grouped else None
    units = independent_units(hashes, groups)
    expected = naive.connected(hashes.tolist(), groups)
    if units is None:
        assert len(set(expected)) == len(rows)
    else:
        assert units.tolist() == expected and len(set(expected)) < len(rows)


def test_one_row_of_each_unit_each_with_the_same_chance() -> None:
    units = np.array([0, 1, 1, 2, 2, 2])
    times = np.zeros(6)
    for seed in range(3000):
        chosen = one_row_a_unit(units, np.random.default_rng(seed))
        assert units[chosen].tolist() == [0, 1, 2]
        times[chosen] += 1
    assert times / 3000 == pytest.approx([1, 1 / 2, 1 / 2, 1 / 3, 1 / 3, 1 / 3], abs=0.04)


class Labelled:
    """A column that is looked up by labels, as a data frame's is."""

    def __init__(self, values: list[Any], index: list[int]) -> None:
        self.values, self.place = values, {label: place for place, label in enumerate(index)}

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Any:
        return iter(self.values)

    def __getitem__(self, label: int) -> Any:
        return self.values[self.place[label]]


def test_values_go_by_position_and_not_by_label() -> None:
    assert by_position(Labelled(["a", "b", "c"], [2, 0, 1]), name="groups") == ["a", "b", "c"]
    assert by_position(np.array([3, 1]), name="y") == [3, 1] and by_position(None, name="y") is None
    pandas = pytest.importorskip("pandas")
    assert by_position(pandas.Series(["a", "b", "c"], index=[2, 0, 1]), name="groups") == ["a", "b", "c"]


@pytest.mark.parametrize("groups", [[1, 2, 3], [[1], [2], [3], [4]], np.zeros((4, 2)).tolist()])
def test_groups_must_be_labels_one_per_row(groups: Any) -> None:
    with pytest.raises(DataError, match="`groups` must"):
        group_codes(groups, 4)
