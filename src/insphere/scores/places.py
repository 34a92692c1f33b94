"""A sphere at every place of a picture: how far the vector of each place lies from what is normal there.

All in NumPy, each picture alone: the reference that the exported graph is compared with.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from insphere.errors import ModelFileError
from insphere.scores.factors import inverse_cholesky

Array = NDArray[np.float64]

BLOCK = 2
"""Places along each side of a block: those of a block share the shape of their ellipsoid, and have centres of their own."""


@dataclasses.dataclass(frozen=True, eq=False)
class PlaceMoments:
    """Sums over pictures from which ellipsoids are fitted; those of some of the pictures can be taken away again.

    Attributes
    ----------
    n : int
        Pictures.
    first : ndarray of float64, shape (height, width, d)
        Sums of the vectors at each place.
    second : ndarray of float64, shape (blocks, d, d)
        Sums of their outer products over the places of each block.
    block : int
        Places along each side of a block.
    """

    n: int
    first: Array
    second: Array
    block: int = BLOCK

    @classmethod
    def of(cls, places: NDArray[np.floating], block: int = BLOCK) -> Self:
        """Return the sums over pictures (n, height, width, d), in any floating type, for blocks of `block` × `block` places."""
        _, height, width, d = places.shape
        first = places.sum(axis=0, dtype=np.float64)
        rows, columns = -(-height // block), -(-width // block)
        second = np.empty((rows * columns, d, d))
        for row in range(rows):
            for column in range(columns):
                inside = slice(row * block, (row + 1) * block), slice(column * block, (column + 1) * block)
                part = places[:, *inside].reshape(-1, d).astype(np.float64)
                second[row * columns + column] = part.T @ part
        return cls(len(places), first, second, block)

    def __add__(self, other: "PlaceMoments") -> "PlaceMoments":
        """Return the sums over the pictures of both."""
        return PlaceMoments(self.n + other.n, self.first + other.first, self.second + other.second, self.block)

    def __sub__(self, other: "PlaceMoments") -> "PlaceMoments":
        """Return the sums without the pictures of `other`."""
        return PlaceMoments(self.n - other.n, self.first - other.first, self.second - other.second, self.block)


@dataclasses.dataclass(frozen=True, eq=False)
class PlaceSpheres:
    """One ellipsoid a place: a centre of its own, a shape shared by a block of 2 × 2 places (more on large maps).

    Parameters
    ----------
    scale : ndarray of float32, shape (d,)
        Spread of each value over all places of all training pictures, by which vectors are divided first.
    center : ndarray of float32, shape (height, width, d)
        Centres, in units of `scale`.
    whitening : ndarray of float16, shape (blocks, d, d)
        Matrix W of each block, with ‖Wᵀ(x − c)‖ the distance; half precision is what a model file holds.
    block : int
        Places along each side of a block.

    Source: the distance to a centre is eq. 13 of Zhou 2021, at each place; a covariance at each place, shrunk to the one over all places
    as PaDiM's (Defard 2021) is to the identity. Deviation: blocks, two shrinkage targets, no choice of dimensions.

    Examples
    --------
    >>> places = np.random.default_rng(0).normal(size=(50, 4, 4, 3))
    >>> spheres = PlaceSpheres.fit(PlaceMoments.of(places))
    >>> spheres.distance(places[:2]).shape
    (2, 4, 4)
    """

    scale: NDArray[np.float32]
    center: NDArray[np.float32]
    whitening: NDArray[np.float16]
    block: int = BLOCK

    @classmethod
    def fit(cls, moments: PlaceMoments, *, shrinkage: float = 0.1, ridge: float = 0.01) -> Self:
        """Return the ellipsoids of the covariance (1 − shrinkage)·S + shrinkage·P + ridge·I in each block.

        S is the covariance of the block's places about their own centres, P that of all places about their common centre, both in units of
        the spread of each value over all places.

        Parameters
        ----------
        moments : PlaceMoments
            Of two pictures at least.
        shrinkage : float
            In [0, 1].
        ridge : float
            Above 0.
        """
        height, width, d = moments.first.shape
        n_all = moments.n * height * width
        mean = moments.first.sum(axis=(0, 1)) / n_all
        pooled = moments.second.sum(axis=0) / n_all - np.outer(mean, mean)
        spread = np.sqrt(np.maximum(np.diag(pooled), 0.0))
        scale = np.where(spread > 0, spread, 1.0) + 1e-6
        units = np.outer(scale, scale)
        centers = moments.first / moments.n
        whitening = np.empty(moments.second.shape, dtype=np.float16)
        side = moments.block
        for block in range(len(whitening)):
            row, column = divmod(block, -(-width // side))
            own = centers[row * side : (row + 1) * side, column * side : (column + 1) * side].reshape(-1, d)
            scatter = moments.second[block] - moments.n * own.T @ own
            within = scatter / max(1, moments.n * len(own) - 1)
            covariance = ((1 - shrinkage) * within + shrinkage * pooled) / units + ridge * np.eye(d)
            whitening[block] = inverse_cholesky(covariance).T
        return cls(scale.astype(np.float32), (centers / scale).astype(np.float32), whitening, side)

    def distance(self, places: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the distance of each place's vector to its centre.

        Parameters
        ----------
        places : ndarray, shape (n, height, width, d)

        Returns
        -------
        ndarray of float32, shape (n, height, width)
        """
        (height, width, d), side = self.center.shape, self.block
        rows, columns = -(-height // side), -(-width // side)
        away = np.zeros((rows * side, columns * side, d), dtype=np.float32)
        found = np.empty((len(places), height, width), dtype=np.float32)
        for number, picture in enumerate(places):  # one by one, so that a picture's distances don't depend on those beside it
            away[:height, :width] = picture.astype(np.float32) / self.scale - self.center
            blocks = away.reshape(rows, side, columns, side, d).swapaxes(1, 2).reshape(rows * columns, side * side, d)
            lengths = np.sqrt(np.square(blocks @ self._in_single).sum(axis=-1))
            whole = lengths.reshape(rows, columns, side, side).swapaxes(1, 2).reshape(rows * side, columns * side)
            found[number] = whole[:height, :width]
        return found

    @functools.cached_property
    def _in_single(self) -> NDArray[np.float32]:
        return self.whitening.astype(np.float32)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what `restore` needs."""
        return {"scale": self.scale, "center": self.center, "whitening": self.whitening}

    @classmethod
    def restore(cls, arrays: Mapping[str, NDArray[Any]], grid: tuple[int, int], block: int = BLOCK) -> Self:
        """Return the spheres whose `arrays` were stored, with blocks of `block` × `block` places.

        Raises
        ------
        KeyError
            If an array is missing.
        ModelFileError
            If the arrays do not fit together or the grid.
        """
        d = arrays["scale"].size
        n_blocks = n_blocks_of(grid, block)
        expected = {"scale": (d,), "center": (*grid, d), "whitening": (n_blocks, d, d)}
        for name, shape in expected.items():
            if arrays[name].shape != shape or not np.isfinite(arrays[name]).all():
                raise ModelFileError(
                    f"The stored spheres' {name!r} of shape {arrays[name].shape} does not fit the rest; save the detector again."
                )
        return cls(arrays["scale"].astype(np.float32), arrays["center"].astype(np.float32), arrays["whitening"].astype(np.float16), block)


def block_for(grid: tuple[int, int], most: int) -> int:
    """Return the least side of blocks, at least 2 places, of which a map has `most` at most.

    Examples
    --------
    >>> block_for((34, 34), 300), block_for((60, 80), 300)
    (2, 4)
    """
    block = BLOCK
    while n_blocks_of(grid, block) > most and block < max(grid):
        block += 1
    return block


def n_blocks_of(grid: tuple[int, int], block: int) -> int:
    """Return how many blocks a map has, cut ones at its end among them."""
    return -(-grid[0] // block) * -(-grid[1] // block)


def highest_mean(maps: NDArray[np.floating], share: float) -> Array:
    """Return the mean over the `share` of places of each map that are highest, at least one place, float64, shape (n,).

    Examples
    --------
    >>> highest_mean(np.arange(200.0).reshape(1, 10, 20), 0.01)
    array([198.5])
    """
    flat = maps.reshape(len(maps), -1).astype(np.float64)
    n_highest = max(1, round(flat.shape[1] * share))
    return np.asarray(np.sort(np.partition(flat, -n_highest, axis=1)[:, -n_highest:], axis=1).mean(axis=1))
