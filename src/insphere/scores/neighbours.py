"""Distances to the nearest of some reference rows, each row computed alone."""

import numpy as np
from numpy.typing import NDArray

from insphere.scores.kernels import chunks, squared_distances

Array = NDArray[np.float64]

AS_FAR = 1 + 1e-9
"""Factor within which two references are as far as each other."""

ON = 1e-6
"""Share of its length, and of one, within which a row lies on a reference."""

_TREE_DIMENSIONS = 10  # in more, a tree visits nearly every row and is slower than comparing with all
_SCREENED_VALUES = 2**16  # of fewer values, all distances are computed sooner than the near ones are found
_TOGETHER_VALUES = 2**13


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
        self._tree = self._screen = None
        if references.shape[1] <= _TREE_DIMENSIONS:
            from sklearn.neighbors import KDTree  # here, as most references have more dimensions, and it brings much along

            self._tree = KDTree(references)
        elif references.size >= _SCREENED_VALUES:
            self._screen = _Screen(references)
        # Rows that are measured against each other's candidates too: more work in fewer calls, which pays where rows are short.
        self._n_together = min(64, max(1, _TOGETHER_VALUES // references.shape[1]))

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
            found[part] = np.sort(self._others(rows[part], n_found, None if own is None else own[part])[0], axis=1)
        return np.ascontiguousarray(found[:, : min(n_neighbors, n_others)])

    def means(self, rows: Array, n_neighbors: int, values: Array, own: NDArray[np.int64] | None = None) -> tuple[Array, Array]:
        """Return, for each row, the mean distance to its neighbourhood and the mean of the `values` there; shapes (n,).

        The neighbourhood of a row is all references that are no further than the last of the nearest ones: more than `n_neighbors` where
        several are as far as that (Breunig 2000, definition 4), so that no order among them decides.

        Parameters
        ----------
        rows, n_neighbors, own
            As of `distances`.
        values : ndarray, shape (m,)
            One of each reference.
        """
        n_wanted = min(n_neighbors, len(self.references) - (own is not None))
        n_found = min(n_wanted + 1 + (own is not None), len(self.references))
        mean, mean_value = np.empty(len(rows)), np.empty(len(rows))
        for part in chunks(len(rows), len(self.references)):
            of_part = None if own is None else own[part]
            distances, indices = self._others(rows[part], n_found, of_part)
            order = np.lexsort((indices, distances), axis=1)
            distances, indices = np.take_along_axis(distances, order, axis=1), np.take_along_axis(indices, order, axis=1)
            near = np.zeros(distances.shape, dtype=np.bool_)
            near[:, :n_wanted] = True
            mean[part], mean_value[part] = _means(distances, values[indices], near)
            tied = np.flatnonzero(distances[:, n_wanted:].min(axis=1, initial=np.inf) <= distances[:, n_wanted - 1] * AS_FAR)
            if len(tied):
                every = np.sqrt(squared_distances(rows[part][tied], self.references))
                if of_part is not None:
                    itself = of_part[tied, None] == np.arange(len(self.references))
                    every[itself] = np.inf
                last = np.partition(every, n_wanted - 1, axis=1)[:, n_wanted - 1, None]
                of_tied = _means(every, np.broadcast_to(values, every.shape), every <= last * AS_FAR)
                mean[part.start + tied], mean_value[part.start + tied] = of_tied
        return mean, mean_value

    def places(self, rows: Array) -> NDArray[np.int64]:
        """Return the number of the reference that each row lies on, one of them where several do, −1 where none does; shape (n,).

        A row lies on a reference within `ON` of its length, and of one: single precision and other roundings of a row are the row.
        """
        own = np.empty(len(rows), dtype=np.int64)
        for part in chunks(len(rows), len(self.references)):
            distances, indices = self._candidates(rows[part], 1)
            own[part] = np.where(distances[:, 0] <= ON * (1 + np.sqrt((rows[part] ** 2).sum(axis=1))), indices[:, 0], -1)
        return own

    def _others(self, rows: Array, n_found: int, own: NDArray[np.int64] | None) -> tuple[Array, NDArray[np.int64]]:
        """Return the distances to the nearest references in any order, that to the row itself infinite, and which they are."""
        distances, indices = self._candidates(rows, n_found)
        return (distances if own is None else np.where(indices == own[:, None], np.inf, distances)), indices

    def _candidates(self, rows: Array, n_found: int) -> tuple[Array, NDArray[np.int64]]:
        if self._tree is not None:
            distances, indices = self._tree.query(rows, k=n_found)
            return distances, indices
        if self._screen is None:
            return _nearest(squared_distances(rows, self.references), n_found)
        distances, indices = np.empty((len(rows), n_found)), np.empty((len(rows), n_found), dtype=np.int64)
        near = self._screen(rows, n_found)
        for start in range(0, len(rows), self._n_together):
            some = slice(start, start + self._n_together)
            among = np.flatnonzero(near[some].any(axis=0))
            distances[some], places = _nearest(squared_distances(rows[some], self.references[among]), n_found)
            indices[some] = among[places]
        return distances, indices


class _Screen:
    """Which references can be among the nearest of a row, by a matrix product: many times as fast as differences, but less exact.

    A product's rounding depends on the rows that are computed together, so nothing but this choice comes from it; and so it can be in
    float32, which takes half the time and lets a few more references through.

    Parameters
    ----------
    references : ndarray, shape (m, d)
    """

    def __init__(self, references: Array) -> None:
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows compares as near
            self._middle = references.mean(axis=0)
            moved = references - self._middle
            # A power of two, so that nothing is rounded, and values of any unit lie in the range of float32.
            self._exponent = -int(np.frexp(np.abs(moved).max())[1])
            self._references = np.ldexp(moved, self._exponent).astype(np.float32)
            self._norms = np.einsum("md,md->m", self._references, self._references)
            # One column more, so that a product gives |y|² − 2·x·y: what a squared distance is, less |x|², which is no reference's own.
            self._factors = np.concatenate([-2 * self._references.T, self._norms[np.newaxis]])

    def __call__(self, rows: Array, n_found: int) -> NDArray[np.bool_]:
        """Return whether each reference can be among the `n_found` nearest of each of `rows`, shape (n, d); where in doubt it can.

        The answer has the shape (n, m).
        """
        with np.errstate(over="ignore", invalid="ignore"):
            moved = np.ldexp(rows - self._middle, self._exponent).astype(np.float32)
            norms = np.einsum("nd,nd->n", moved, moved)
            squares = np.concatenate([moved, np.ones((len(moved), 1), np.float32)], axis=1) @ self._factors
            # In any order of summation an inner product errs by about d units of the last place of |x|·|y|. The factor has room for three
            # products, the shift by the middle and its rounding to float32, and that the errors of two references add up.
            # Where squares are so small that they lose digits, the error is not a share of them, and less than the least full number each.
            float32 = np.finfo(np.float32)
            # The exact distances lose digits in their own unit, not in that of the screen.
            least = np.float32(max(float(float32.tiny), float(np.ldexp(np.finfo(np.float64).tiny, 2 * self._exponent))))
            error = np.float32(16 * (rows.shape[1] + 8)) * (float32.eps * (norms + self._norms.max()) + least)
            limits = _bounds(squares, n_found) + error
            near: NDArray[np.bool_] = ~(squares > limits[:, None])
            return near


def _means(distances: Array, values: Array, near: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Return the means of distances and values over those that are near, of each row."""
    n_near = near.sum(axis=1)
    return np.where(near, distances, 0.0).sum(axis=1) / n_near, np.where(near, values, 0.0).sum(axis=1) / n_near


def _bounds(squares: NDArray[np.float32], n_found: int) -> NDArray[np.float32]:
    """Return a number for each row that at least `n_found` of its values do not exceed, and few more do not.

    The least values of many groups are found faster than the least ones of all; two that share a group are the price.

    Examples
    --------
    >>> _bounds(np.arange(2000, dtype=np.float32)[np.newaxis], 3)
    array([2.], dtype=float32)
    """
    n_groups = 16 * n_found
    if squares.shape[1] < 4 * n_groups:
        return np.partition(squares, n_found - 1, axis=1)[:, n_found - 1]
    least = squares[:, :n_groups].copy()
    for start in range(n_groups, squares.shape[1], n_groups):
        part = squares[:, start : start + n_groups]
        np.minimum(least[:, : part.shape[1]], part, out=least[:, : part.shape[1]])
    return np.partition(least, n_found - 1, axis=1)[:, n_found - 1]


def _nearest(squares: Array, n_found: int) -> tuple[Array, NDArray[np.int64]]:
    indices = np.argpartition(squares, n_found - 1, axis=1)[:, :n_found]
    return np.sqrt(np.take_along_axis(squares, indices, axis=1)), indices
