"""Several centres of codes, each piece against what it says in words."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from insphere.training.clusters import k_means, nearest_center, shares, still_in_use


def blobs(n_rows: int, places: np.ndarray, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy((places[np.arange(n_rows) % len(places)] + rng.normal(size=(n_rows, places.shape[1]))).astype(np.float32))


def test_k_means_finds_what_scikit_learn_finds() -> None:
    codes = blobs(300, 12 * np.random.default_rng(1).normal(size=(4, 5)))
    found = k_means(codes, 4)
    expected = KMeans(4, n_init=10, random_state=0).fit(codes.numpy().astype(np.float64)).cluster_centers_
    order, theirs = np.argsort(found[:, 0].numpy()), np.argsort(expected[:, 0])
    assert found.dtype == codes.dtype
    np.testing.assert_allclose(found.numpy()[order], expected[theirs], rtol=1e-4, atol=1e-4)


def test_k_means_is_as_good_as_scikit_learn_s_where_there_are_no_clusters() -> None:
    codes = torch.from_numpy(np.random.default_rng(0).normal(size=(400, 3)))
    expected = KMeans(5, n_init=10, random_state=0).fit(codes.numpy()).inertia_
    squares = (codes.unsqueeze(1) - k_means(codes, 5)).square().sum(dim=2).amin(dim=1)
    assert float(squares.sum()) < 1.02 * expected


def test_k_means_is_the_same_again_and_leaves_the_global_state() -> None:
    codes, before = blobs(50, np.zeros((1, 2))), torch.get_rng_state()
    first = k_means(codes, 3)
    assert torch.equal(k_means(codes, 3), first) and torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("n_different", [1, 2])
def test_fewer_different_codes_than_centres(n_different: int) -> None:
    codes = torch.arange(n_different).repeat(6).unsqueeze(1).float()
    found = k_means(codes, 4)
    assert sorted(set(found.flatten().tolist())) == list(range(n_different))


def test_no_code_belongs_to_a_centre_that_is_not_in_use() -> None:
    centers = torch.tensor([[0.0, 0.0], [5.0, 0.0], [5.0, 1.0]])
    codes = torch.tensor([[[1.0, 0.0], [5.0, 0.9]], [[2.4, 0.0], [2.6, 0.0]]])
    assert nearest_center(codes, centers, torch.tensor([True, True, True])).tolist() == [[0, 2], [0, 1]]
    assert nearest_center(codes, centers, torch.tensor([True, True, False])).tolist() == [[0, 1], [0, 1]]
    assert nearest_center(codes, centers, torch.tensor([False, True, False])).unique().tolist() == [1]
    assert shares(torch.tensor([[1], [0]]), 2).tolist() == [[[0.0, 1.0]], [[1.0, 0.0]]]


@pytest.mark.parametrize(("rows", "kept"), [([100.0, 10.0, 9.9], [True, True, False]), ([0.0, 0.0, 3.0], [False, False, True])])
def test_a_centre_with_less_than_a_tenth_of_the_fullest_one_s_rows_is_dropped(rows: list[float], kept: list[bool]) -> None:
    assert still_in_use(torch.ones(3, dtype=torch.bool), torch.tensor(rows)).tolist() == kept


def test_what_was_dropped_stays_dropped() -> None:
    assert still_in_use(torch.tensor([True, False]), torch.tensor([1.0, 1.0])).tolist() == [True, False]
