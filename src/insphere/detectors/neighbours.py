"""Distances to the nearest of some reference rows, each row computed alone."""

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import KDTree

from insphere.detectors.kernels import chunks, squared_distances

Array = NDArray[np.float64]

_TREE_DIMENSIONS = 10  # in more, a tree visits nearly every row and is slower than comparing with all


class Neighbours:
    """Reference rows that can be asked for the distances to the nearest of them.

    Parameters
    ----------
    references : ndarray, shape (m, d)

    Examples
    --------
    >>> Neighbours(np.array([[0.0], [1.0], [5.0]])).distances(np.array([[0.25]]), 2)
    array([[0.25, 0.75]])
    """

    def __init__(self, references: Array) -> None:
        self.references = references
        self._tree = KDTree(references) if references.shape[1] <= _TREE_DIMENSIONS else None

    def distances(self, rows: Array, n_neighbors: int, own: NDArray[np.int64] | None = None) -> Array:
        """Return the distances to the nearest references, increasing, shape (n, n_neighbors); fewer columns where there are fewer.

        Parameters
        ----------
        rows : ndarray, shape (n, d)
        n_neighbors : int
        own : ndarray of int, shape (n,), optional
            The reference that each row itself is, −1 where it is none; a row is not its own neighbour.
        """
        n_others = len(self.references) - (own is not None)
        n_found = min(n_neighbors + (own is not None), len(self.references))
        found = np.empty((len(rows), n_found))
        for part in chunks(len(rows), len(self.references)):
            distances, indices = self._candidates(rows[part], n_found)
            if own is not None:
                distances = np.where(indices == own[part, None], np.inf, distances)
            found[part] = np.sort(distances, axis=1)
        return np.ascontiguousarray(found[:, : min(n_neighbors, n_others)])

    def _candidates(self, rows: Array, n_found: int) -> tuple[Array, NDArray[np.int64]]:
        if self._tree is not None:
            distances, indices = self._tree.query(rows, k=n_found)
            return distances, indices
        squares = squared_distances(rows, self.references)
        indices = np.argpartition(squares, n_found - 1, axis=1)[:, :n_found]
        return np.sqrt(np.take_along_axis(squares, indices, axis=1)), indices
