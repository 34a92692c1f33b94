"""An isolation forest as plain arrays: what scikit-learn has grown, stored without pickle and walked without scikit-learn."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest

from insphere.errors import ModelFileError

Array = NDArray[np.float64]

_CHUNK = 4096
MAX_DEPTH = 64
"""Edges from a root to a leaf at most: scikit-learn grows trees no deeper than log2 of the rows that each is grown on."""

_WHOLE = ("roots", "features", "left", "right")


@dataclasses.dataclass(frozen=True)
class IsolationTrees:
    """Nodes of all trees, one after the other, each after its parent.

    Attributes
    ----------
    roots : ndarray of int64, shape (n_trees,)
        First node of each tree.
    features : ndarray of int64, shape (n_nodes,)
        Feature that a node compares; −1 in a leaf.
    thresholds : ndarray of float64, shape (n_nodes,)
        A row with a value at most this, in single precision, goes to the left.
    left, right : ndarray of int64, shape (n_nodes,)
        Child nodes; a leaf is its own.
    path_lengths : ndarray of float64, shape (n_nodes,)
        Edges from the root to a leaf, and those that its training rows would still need to be isolated.
    normaliser : float
        Mean path length of a search tree of `max_samples` rows, above 0 (c(ψ) of Liu 2008, eq. 1).
    """

    roots: NDArray[np.int64]
    features: NDArray[np.int64]
    thresholds: Array
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    path_lengths: Array
    normaliser: float

    def score(self, X: Array) -> Array:
        """Return 2^(−mean path length / normaliser) of each row, in (0, 1), higher = more anomalous (Liu 2008, eq. 2)."""
        scores, depths = np.empty(len(X)), self._depths()
        # Two children a node, right and left: whether a row's value is at most the threshold picks one without a branch.
        children = np.stack([self.right, self.left], axis=1).ravel()
        for start in range(0, len(X), _CHUNK):
            scores[start : start + _CHUNK] = self._score(X[start : start + _CHUNK], children, depths)
        return scores

    def _score(self, X: Array, children: NDArray[np.int64], depths: list[int]) -> Array:
        values = X.astype(np.float32).ravel()  # as scikit-learn compares
        first = np.arange(len(X)) * X.shape[1]
        features = np.maximum(self.features, 0)  # both ways lead a leaf back to itself, whatever it compares
        lengths = np.zeros(len(X))
        for root, depth in zip(self.roots, depths, strict=True):  # summed as scikit-learn does: the scores are equal to the last bit
            nodes = np.full(len(X), root)
            for _ in range(depth):
                goes_left = values.take(first + features.take(nodes)) <= self.thresholds.take(nodes)
                nodes = children.take(2 * nodes + goes_left)
            lengths += self.path_lengths.take(nodes)
        return np.asarray(2.0 ** -(lengths / (len(self.roots) * self.normaliser)))

    def _depths(self) -> list[int]:
        """Return the edges from each root to its deepest leaf."""
        depths, nodes, trees = np.zeros(len(self.roots), dtype=np.int64), self.roots, np.arange(len(self.roots))
        while True:
            inner = self.features[nodes] >= 0
            nodes, trees = nodes[inner], trees[inner]
            if not len(nodes):
                return depths.tolist()
            depths[np.unique(trees)] += 1
            nodes, trees = np.concatenate([self.left[nodes], self.right[nodes]]), np.concatenate([trees, trees])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that `restore_forest` needs beside `normaliser`."""
        whole = {name: getattr(self, name).astype(np.int32) for name in _WHOLE}
        return {**whole, "thresholds": self.thresholds, "path_lengths": self.path_lengths}

    def is_sound(self, n_features: int) -> bool:
        """Tell whether every walk ends in a leaf: nodes that came from a file may say anything."""
        n_nodes, here = len(self.features), np.arange(len(self.features))
        arrays = (self.features, self.thresholds, self.left, self.right, self.path_lengths)
        if (
            not n_nodes
            or not self.roots.size
            or self.roots.ndim != 1
            or self.features.ndim != 1
            or any(array.shape != (n_nodes,) for array in arrays)
        ):
            return False
        leaf = self.features == -1
        known = leaf | ((self.features >= 0) & (self.features < n_features))
        onward = all((np.where(leaf, child == here, child > here) & (child < n_nodes)).all() for child in (self.left, self.right))
        starts = ((self.roots >= 0) & (self.roots < n_nodes)).all()
        finite = np.isfinite(self.thresholds).all() and np.isfinite(self.path_lengths).all() and 0 < self.normaliser < np.inf
        return bool(known.all() and onward and starts and finite and self._are_shallow_trees(leaf))

    def _are_shallow_trees(self, leaf: NDArray[np.bool_]) -> bool:
        """Tell whether no node has two parents and no leaf is deeper than `MAX_DEPTH`: a chain of nodes would take minutes to walk."""
        nodes = np.flatnonzero(~leaf)
        children = np.concatenate([self.left[nodes], self.right[nodes], self.roots])
        if len(np.unique(children)) < len(children):
            return False
        level = self.roots
        for _ in range(MAX_DEPTH):
            level = level[~leaf[level]]
            if not len(level):
                return True
            level = np.concatenate([self.left[level], self.right[level]])
        return bool(leaf[level].all())


def grow_forest(X: Array, n_estimators: int, max_samples: int, seed: int) -> IsolationTrees:
    """Return the trees that scikit-learn's `IsolationForest` grows, each on a random choice of rows.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> theirs = IsolationForest(n_estimators=10, max_samples=64, random_state=0).fit(X)
    >>> bool((grow_forest(X, 10, 64, seed=0).score(X) == -theirs.score_samples(X)).all())
    True
    """
    n_samples = min(max_samples, len(X))
    forest = IsolationForest(n_estimators=n_estimators, max_samples=n_samples, random_state=seed).fit(X)
    trees = [estimator.tree_ for estimator in forest.estimators_]
    roots = np.cumsum([0, *(tree.node_count for tree in trees)])[:-1]
    features, left, right, paths = [], [], [], []
    for root, tree in zip(roots, trees, strict=True):
        nodes = np.arange(tree.node_count)
        leaf = tree.children_left < 0
        features.append(np.where(leaf, -1, tree.feature))
        left.append(root + np.where(leaf, nodes, tree.children_left))
        right.append(root + np.where(leaf, nodes, tree.children_right))
        paths.append(tree.compute_node_depths() + mean_path_length(tree.n_node_samples) - 1.0)
    return IsolationTrees(
        np.asarray(roots, dtype=np.int64),
        np.concatenate(features).astype(np.int64),
        np.concatenate([tree.threshold for tree in trees]),
        np.concatenate(left).astype(np.int64),
        np.concatenate(right).astype(np.int64),
        np.concatenate(paths),
        float(mean_path_length(np.array([n_samples]))[0]),
    )


def restore_forest(arrays: Mapping[str, NDArray[Any]], normaliser: float, n_features: int) -> IsolationTrees:
    """Return the trees whose `arrays()` and `normaliser` were stored.

    Raises
    ------
    KeyError
        If an array is missing.
    ModelFileError
        If the nodes do not form trees over rows of `n_features`.
    """
    roots, features, left, right = (arrays[name].astype(np.int64) for name in _WHOLE)
    trees = IsolationTrees(roots, features, arrays["thresholds"], left, right, arrays["path_lengths"], normaliser)
    if not trees.is_sound(n_features):
        raise ModelFileError("The stored trees do not fit together; save the detector again.")
    return trees


def mean_path_length(n_rows: NDArray[np.integer]) -> Array:
    """Return c(n), the mean length of an unsuccessful search in a binary search tree of n rows (Liu 2008, eq. 1).

    Examples
    --------
    >>> mean_path_length(np.array([1, 2, 256])).round(3)
    array([ 0.   ,  1.   , 10.245])
    """
    n = np.maximum(n_rows, 3).astype(np.float64)
    many = 2.0 * (np.log(n - 1.0) + np.euler_gamma) - 2.0 * (n - 1.0) / n
    return np.where(n_rows <= 1, 0.0, np.where(n_rows == 2, 1.0, many))
