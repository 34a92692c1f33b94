"""Which vectors are left out of the training rows where some are known to be anomalies (`trim`)."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from insphere.data.preprocess import fit_preprocess
from insphere.data.row_store import chunks, take_rows
from insphere.scores.isolation import grow_forest
from insphere.scores.neighbours import Neighbours

Array = NDArray[np.float64]

_COMPARED = 2000
_N_TREES, _ROWS_OF_A_TREE = 100, 256
_SHARE_NEAR = 0.1
_LEAST_NEAR = 5


def suspicion(X: NDArray[np.generic], rng: np.random.Generator) -> Array:
    """Return how suspicious each training row is, before any detector is fitted on it.

    Anomalies of one kind lie together, so that a detector that has learned from them finds them usual: near rows vouch for each other. An
    isolation forest grows each tree on a few rows, and the distance to the furthest of the nearest tenth of all rows looks beyond a group
    that is smaller. The two are averaged by rank.

    Parameters
    ----------
    X : ndarray, shape (n, features)
        The training rows.
    rng : numpy.random.Generator
        Draws the trees, and the rows to compare with where there are more than 2,000.

    Returns
    -------
    ndarray of float64, shape (n,)
        Higher = more suspicious.

    Source: Liu 2008 (isolation forest), Ramaswamy 2000 (distance to the k-th neighbour); the mean of ranks is ours. Chosen among seven
    with five tables' labels in sight; all, and what they cost, in ``benchmarks/reports/contamination.md``.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> rows = np.concatenate([rng.normal(size=(95, 2)), rng.normal(6.0, 0.01, size=(5, 2))])  # five anomalies, all alike
    >>> np.sort(np.argsort(suspicion(rows, rng))[-5:])
    array([95, 96, 97, 98, 99])
    """
    known = take_rows(X, np.sort(rng.permutation(len(X))[:_COMPARED]))[:]  # an array, wherever the rows are
    preprocess = fit_preprocess(known, "standard")
    known = preprocess.apply(known)
    trees = grow_forest(known, _N_TREES, min(_ROWS_OF_A_TREE, len(known)), seed=int(rng.integers(2**31)))
    neighbours, n_near = Neighbours(known), max(_LEAST_NEAR, round(_SHARE_NEAR * len(known)))
    isolated, distances = [], []
    for part in chunks(X):
        rows = preprocess.apply(part)
        isolated.append(trees.score(rows))
        distances.append(neighbours.distances(rows, n_near)[:, -1])
    return np.asarray(rankdata(np.concatenate(isolated)) + rankdata(np.concatenate(distances)))
