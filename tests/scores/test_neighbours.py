"""The screen by a matrix product changes no distance: the plain comparison of all pairs is the oracle."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insphere.scores import neighbours
from insphere.scores.neighbours import Neighbours


def both(monkeypatch, references, rows, n_neighbors, own=None):
    found = []
    for least in (references.size + 1, 0):
        monkeypatch.setattr(neighbours, "_SCREENED_VALUES", least)
        found.append(Neighbours(references).distances(rows, n_neighbors, own))
    return found


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    n_features=st.integers(11, 40),
    n_references=st.integers(1, 60),
    n_neighbors=st.integers(1, 8),
    offset=st.sampled_from([0.0, 1e3, 1e9]),
    scale=st.sampled_from([1e-170, 1e-162, 1e-161, 1e-160, 1e-3, 1.0, 1e170]),
    levels=st.sampled_from([None, 2]),
)
def test_the_screen_finds_the_same_distances(seed, n_features, n_references, n_neighbors, offset, scale, levels):
    random = np.random.default_rng(seed)
    draw = random.normal if levels is None else lambda size: random.integers(levels, size=size).astype(float)
    references = scale * (offset + draw(size=(n_references, n_features)))
    rows = np.concatenate([references[:5], references[:3] * (1 + 1e-15), scale * (offset + draw(size=(10, n_features)))])
    with pytest.MonkeyPatch.context() as monkeypatch:
        plain, screened = both(monkeypatch, references, rows, n_neighbors)
    np.testing.assert_array_equal(screened, plain)


def test_rows_whose_sum_overflows_are_compared_without_a_warning(monkeypatch, recwarn):
    references = np.full((20, 12), 1e308)
    references[:, 0] = np.arange(20)
    plain, screened = both(monkeypatch, references, references[:5], 3)
    np.testing.assert_array_equal(screened, plain)
    assert not recwarn.list


def test_a_row_is_not_its_own_neighbour_on_either_way(monkeypatch):
    references = np.random.default_rng(0).normal(size=(50, 12))
    references[7] = references[3]
    plain, screened = both(monkeypatch, references, references, 4, np.arange(50))
    np.testing.assert_array_equal(screened, plain)
    assert screened[3, 0] == 0 and screened[7, 0] == 0 and np.delete(screened[:, 0], [3, 7]).min() > 0


def test_distances_do_not_depend_on_the_rows_that_come_with_them(monkeypatch):
    monkeypatch.setattr(neighbours, "_SCREENED_VALUES", 0)
    random = np.random.default_rng(1)
    found = Neighbours(random.normal(size=(300, 64)))
    rows = random.normal(size=(40, 64))
    alone = np.concatenate([found.distances(row[None], 5) for row in rows])
    np.testing.assert_array_equal(found.distances(rows, 5), alone)


def test_the_screen_leaves_few_references_to_compare(monkeypatch):
    monkeypatch.setattr(neighbours, "_SCREENED_VALUES", 0)
    random = np.random.default_rng(2)
    screen = neighbours._Screen(random.normal(size=(500, 100)))
    assert 20 * 5 <= screen(random.normal(size=(20, 100)), 5).sum() <= 20 * 5 + 2


@pytest.mark.parametrize(
    ("n", "d", "way"),
    [(70_000, 10, "tree"), (5, 1, "tree"), (4_096, 16, "screen"), (5_000, 40, "screen"), (4_095, 16, "all pairs"), (50, 11, "all pairs")],
)
def test_references_are_asked_in_the_way_that_is_fastest_for_them(n, d, way):
    # A tree in ten dimensions at most; elsewhere the screen from 2**16 values on.
    made = Neighbours(np.random.default_rng(0).normal(size=(n, d)))
    assert (made._tree is not None, made._screen is not None) == (way == "tree", way == "screen")


@given(n=st.integers(1, 3), m=st.integers(1, 700), n_found=st.integers(1, 12), seed=st.integers(0, 99), decimals=st.integers(0, 6))
def test_a_bound_lets_enough_through_and_few_more(n, m, n_found, seed, decimals):
    n_found = min(n_found, m)
    squares = np.random.default_rng(seed).normal(size=(n, m)).round(decimals).astype(np.float32)
    bounds = neighbours._bounds(squares, n_found)
    least = np.sort(squares, axis=1)
    assert (bounds >= least[:, n_found - 1]).all()
    # Two of the nearest that share one of sixteen times as many groups cost a place; that many do is unlikely.
    assert (bounds <= least[:, min(m, 2 * n_found + 8) - 1]).all()
    assert np.isin(bounds, squares).all()


def test_a_bound_of_what_is_not_a_number_is_none():
    squares = np.full((1, 700), np.nan, np.float32)
    assert np.isnan(neighbours._bounds(squares, 2)).all()


def plain_means(references, rows, n_neighbors, values, own):
    distances = np.sqrt(((rows[:, None] - references) ** 2).sum(axis=2))
    distances[own >= 0, own[own >= 0]] = np.inf
    last = np.sort(distances, axis=1)[:, [min(n_neighbors, len(references) - 1) - 1]]
    near = distances <= last * neighbours.AS_FAR
    return [np.array([of[near[row]].mean() for row, of in enumerate(all_of)]) for all_of in (distances, np.tile(values, (len(rows), 1)))]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    n_features=st.integers(1, 20),
    n_references=st.integers(2, 60),
    n_neighbors=st.integers(1, 8),
    levels=st.sampled_from([None, 2, 4]),
    screened=st.booleans(),
)
def test_a_neighbourhood_has_all_that_are_as_far_as_the_last(seed, n_features, n_references, n_neighbors, levels, screened):
    random = np.random.default_rng(seed)
    draw = random.normal if levels is None else lambda size: random.integers(levels, size=size).astype(float)
    references = draw(size=(n_references, n_features))
    rows, values = np.concatenate([references[:5], draw(size=(8, n_features))]), random.uniform(1, 2, n_references)
    own = np.where(np.arange(len(rows)) < min(5, n_references), np.arange(len(rows)), -1)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(neighbours, "_SCREENED_VALUES", 0 if screened else 2**30)
        found = Neighbours(references)
        means = found.means(rows, n_neighbors, values, own)
        alone = [found.means(rows[[row]], n_neighbors, values, own[[row]]) for row in range(len(rows))]
    for got, single, expected in zip(means, zip(*alone, strict=True), plain_means(references, rows, n_neighbors, values, own), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-300)
        np.testing.assert_array_equal(got, np.concatenate(single))


def test_rows_are_known_among_the_references():
    found = Neighbours(np.array([[0.0, 1.0], [2.0, 3.0], [2.0, 3.0]]))
    places = found.places(np.array([[-0.0, 1.0], [2.0, 3.0 + 1e-8], [2.0, 3.1]]))
    assert places[0] == 0 and places[1] in (1, 2) and places[2] == -1
