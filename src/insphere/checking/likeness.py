"""Rows that are too alike, and rows that are not alike enough."""

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from insphere.checking.survey import Survey

NEAR_GREY_LEVELS = 3.0
"""Root mean square difference of two thumbnails, less their brightness, in grey levels, below which images count as near duplicates."""

MAX_COMPARED = 30_000
"""Rows that are compared with each other at most; taken evenly from more."""

_NEAR_SHARE = 0.35  # of the median distance to the nearest other row: where all images are alike, likeness does not show a copy
_NEAR_CONTRAST = 0.15  # of the image's own contrast
_N_LINKS = 4
_N_NEIGHBORS = 5
_N_COMPONENTS = 12
# Robust standard deviations of the logarithm of the distance to the neighbours. Draws of a plain Gaussian reach 4 in ten dimensions, and
# in two or three, where single points are far out more easily, 7 among 4000 rows.
_OUTLYING, _OUTLYING_IN_FEW_DIMENSIONS, _FEW_DIMENSIONS = 5.0, 8.0, 4


def exact_duplicates(known: Survey) -> list[list[int]]:
    """Return groups of rows with equal values, each in order."""
    groups: dict[bytes, list[int]] = {}
    for row in known.readable.tolist():
        groups.setdefault(known.digests[row], []).append(row)
    return [rows for rows in groups.values() if len(rows) > 1]


def near_duplicates(known: Survey) -> list[list[int]]:
    """Return groups of images that are not equal but look so at thumbnail size, each in order.

    Copies that were saved again, scaled, or made a little brighter are alike within a few grey levels. Constant images are left out.
    """
    rows = known.readable[~known.constant[known.readable]]
    _, first = np.unique([known.digests[row] for row in rows.tolist()], return_index=True)
    rows = _evenly(rows[np.sort(first)])
    if len(rows) < 3:
        return []
    thumbnails = known.places[rows]
    thumbnails = thumbnails - thumbnails.mean(axis=1, keepdims=True)
    n_found = min(_N_LINKS + 1, len(rows))
    distances, found = NearestNeighbors(n_neighbors=n_found, algorithm="brute").fit(thumbnails).kneighbors(thumbnails)
    distances = distances / np.sqrt(thumbnails.shape[1])
    # A limit for each image, as two that are almost flat differ by little whatever they show.
    contrasts = thumbnails.std(axis=1, keepdims=True)
    limits = np.minimum(min(NEAR_GREY_LEVELS, _NEAR_SHARE * float(np.median(distances[:, 1]))), _NEAR_CONTRAST * contrasts)
    pairs = [(int(rows[row]), int(rows[other])) for row, column in np.argwhere(distances <= limits) if (other := found[row, column]) != row]
    return linked(pairs)


def linked(pairs: list[tuple[int, int]]) -> list[list[int]]:
    """Return the groups that pairs connect, each in order, by their first member.

    Examples
    --------
    >>> linked([(5, 2), (1, 0), (2, 9)])
    [[0, 1], [2, 5, 9]]
    """
    group_of: dict[int, set[int]] = {}
    for first, second in pairs:
        merged = group_of.get(first, {first}) | group_of.get(second, {second})
        for member in merged:
            group_of[member] = merged
    return sorted({min(group): sorted(group) for group in group_of.values()}.values())


def outliers(known: Survey) -> NDArray[np.int64]:
    """Return the rows, among those to learn from, that lie far from all others; the farthest first.

    Rows are compared in their leading principal components, by the mean distance to the five nearest others; those whose distance is
    five robust standard deviations (by median and median deviation, of logarithms) above the median are named, eight in few dimensions.
    """
    rows = _evenly(known.normal)
    if len(rows) < 4 * _N_NEIGHBORS:
        return np.empty(0, np.int64)
    places = known.places[rows].astype(np.float64)
    spread = places.std(axis=0)
    # Thumbnails share one unit, features do not.
    places = places if known.is_image else (places - places.mean(axis=0))[:, spread > 0] / spread[spread > 0]
    if not places.shape[1] or not places.std():
        return np.empty(0, np.int64)
    n_components = min(_N_COMPONENTS, *places.shape)
    places = PCA(n_components, svd_solver="full" if min(places.shape) < 500 else "randomized", random_state=0).fit_transform(places)
    distances, _ = NearestNeighbors(n_neighbors=_N_NEIGHBORS + 1).fit(places).kneighbors(places)
    heights = np.log(distances[:, 1:].mean(axis=1) + 1e-12 * float(distances.max()) + 1e-300)
    deviation = 1.4826 * float(np.median(np.abs(heights - np.median(heights))))
    z = (heights - np.median(heights)) / deviation if deviation > 0 else np.zeros(len(rows))
    order = np.argsort(-z, kind="stable")
    limit = _OUTLYING_IN_FEW_DIMENSIONS if places.shape[1] <= _FEW_DIMENSIONS else _OUTLYING
    return np.asarray(rows[order[: np.count_nonzero(z > limit)]])


def _evenly(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    if len(rows) <= MAX_COMPARED:
        return rows
    return rows[np.unique(np.linspace(0, len(rows) - 1, MAX_COMPARED).round().astype(np.int64))]
