"""Rows that are not normal, made of normal ones: several families of them, since no single one is like all anomalies."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere.data.preprocess import bounded
from insphere.data.synthetic import LEAST_SIDE, put_defects
from insphere.errors import DataError

Maker = Callable[[NDArray[Any], np.random.Generator], NDArray[Any]]

_SWAPPED = 0.3  # of the features, on average
_SPIKE = 2.0  # standard deviations
_BEYOND = 0.1  # of a feature's range, on either side
_NOISE = 0.12  # of a picture's range
_GRID = 4  # cells along each side of a picture


def synthetic_outliers(rows: NDArray[Any], rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    """Return one outlier of each family for each normal row.

    Of vectors: "mixed" (each feature from another row, so that all are usual and do not belong together), "swapped" (some features from
    other rows), "blended" (half way between two rows), "spiked" (a tenth of the features off by about two standard deviations) and
    "uniform" (anywhere in the range of the rows and a little beyond). Of pictures: "rotated" (by a quarter, a half or three), "shuffled"
    (sixteen cells in another order), "blended", "noised" and "cut-paste" (a scratch, spot, patch or scar, see `insphere.data.synthetic`).

    Parameters
    ----------
    rows : ndarray, shape (n, features) or (n, height, width, channels)
        Normal rows; pixels in 0..255.
    rng : numpy.random.Generator
        The only source of chance.

    Returns
    -------
    dict of str to ndarray
        Family to rows, of the shape and type of `rows`. Families that rows of this shape can't have are left out: turns of pictures that
        are not square are halves, and pictures below eight pixels get no marks.

    Raises
    ------
    DataError
        If there are fewer than two rows.

    Examples
    --------
    >>> found = synthetic_outliers(np.random.default_rng(0).normal(size=(5, 3)), np.random.default_rng(0))
    >>> sorted(found), found["mixed"].shape
    (['blended', 'mixed', 'spiked', 'swapped', 'uniform'], (5, 3))
    """
    if len(rows) < 2:
        raise DataError("Synthetic outliers are made of at least two normal rows; give more examples.")
    rows, makers = bounded(rows), PICTURES if rows.ndim == 4 else VECTORS
    if rows.ndim == 4 and min(rows.shape[1:3]) < LEAST_SIDE:
        makers = MappingProxyType({name: maker for name, maker in makers.items() if name != "cut-paste"})
    return {name: maker(rows, rng).astype(rows.dtype, copy=False) for name, maker in makers.items()}


# Vectors.


def _mixed(rows: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    return np.take_along_axis(rows, rng.integers(len(rows), size=rows.shape), axis=0)


def _swapped(rows: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    swaps = rng.random(rows.shape) < _SWAPPED
    swaps[np.arange(len(rows)), rng.integers(rows.shape[1], size=len(rows))] = True
    return np.where(swaps, _mixed(rows, rng), rows)


def _blended(rows: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    others = (np.arange(len(rows)) + rng.integers(1, len(rows), size=len(rows))) % len(rows)
    middle = 0.5 * rows + 0.5 * rows[others]
    return np.asarray(np.rint(middle) if np.issubdtype(rows.dtype, np.integer) else middle)


def _spiked(rows: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    n_features = rows.shape[1]
    n_spikes = max(1, round(0.1 * n_features))
    hit = rng.random(rows.shape).argsort(axis=1).argsort(axis=1) < n_spikes
    return np.asarray(rows + hit * _SPIKE * rows.std(axis=0) * rng.standard_normal(rows.shape))


def _uniform(rows: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    low, high = rows.min(axis=0), rows.max(axis=0)
    margin = _BEYOND * (high - low)
    return rng.uniform(low - margin, high + margin, size=rows.shape)


# Pictures.


def _rotated(rows: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    quarters = rng.integers(1, 4, size=len(rows)) if rows.shape[1] == rows.shape[2] else np.full(len(rows), 2)
    return np.stack([np.rot90(row, int(turns)) for row, turns in zip(rows, quarters, strict=True)])


def _shuffled(rows: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    height, width = (side // _GRID for side in rows.shape[1:3])
    if not height or not width:
        return rows[:, ::-1, ::-1]
    shuffled = rows.copy()
    for row, picture in zip(rows, shuffled, strict=True):
        for place, cell in enumerate(rng.permutation(_GRID**2)):
            (down, across), (from_down, from_across) = divmod(place, _GRID), divmod(int(cell), _GRID)
            taken = row[from_down * height : (from_down + 1) * height, from_across * width : (from_across + 1) * width]
            picture[down * height : (down + 1) * height, across * width : (across + 1) * width] = taken
    return shuffled


def _noised(rows: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    low, high = float(rows.min()), float(rows.max())
    noisy = rows + _NOISE * (high - low) * rng.standard_normal(rows.shape)
    noisy = noisy.clip(low, high)
    return np.rint(noisy) if np.issubdtype(rows.dtype, np.integer) else noisy


def _marked(rows: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    return put_defects(rows, rng)[0]


VECTORS: Mapping[str, Maker] = MappingProxyType(
    {"mixed": _mixed, "swapped": _swapped, "blended": _blended, "spiked": _spiked, "uniform": _uniform}
)
"""The families of vectors, in the order in which they are drawn."""

PICTURES: Mapping[str, Maker] = MappingProxyType(
    {"rotated": _rotated, "shuffled": _shuffled, "blended": _blended, "noised": _noised, "cut-paste": _marked}
)
"""The families of pictures."""
