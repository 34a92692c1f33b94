"""Which rows depend on each other: rows of one group and rows that are equal count as one, wherever rows are promised to be independent."""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere.errors import DataError

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_CHUNK_WORDS = 2**22


def row_hashes(X: NDArray[Any]) -> NDArray[np.uint64]:
    """Return a 64-bit hash of each row's values; equal rows have equal hashes, and others differ but for chance (2⁻⁶⁴ a pair).

    Parameters
    ----------
    X : ndarray of shape (n, …)
        Rows of one type; −0.0 counts as 0.0.

    Returns
    -------
    ndarray of uint64, shape (n,)

    Notes
    -----
    Source of the mixing of each word: SplitMix64 (Steele 2014, "Fast splittable pseudorandom number generators"). Deviation: words are
    mixed with their places and summed, so that all rows are hashed at once.

    Examples
    --------
    >>> first, second, third = row_hashes(np.array([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0]]))
    >>> first == third, first == second
    (np.True_, np.False_)
    """
    if not len(X):
        return np.empty(0, dtype=np.uint64)
    n_bytes = math.prod(X.shape[1:]) * X.dtype.itemsize
    n_words = max(1, -(-n_bytes // 8))
    places = _mixed(np.arange(1, n_words + 1, dtype=np.uint64) * _GOLDEN)
    hashes = np.empty(len(X), dtype=np.uint64)
    step = max(1, _CHUNK_WORDS // n_words)
    for start in range(0, len(X), step):
        part = X[start : start + step]
        if part.dtype.kind == "f":
            part = part + 0.0  # turns −0.0 into 0.0, as == has it
        words = np.zeros((len(part), 8 * n_words), dtype=np.uint8)
        words[:, :n_bytes] = np.ascontiguousarray(part).view(np.uint8).reshape(len(part), n_bytes)
        hashes[start : start + step] = _mixed(_mixed(words.view(np.uint64) ^ places).sum(axis=1, dtype=np.uint64))
    return hashes


def _mixed(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def independent_units(hashes: NDArray[np.uint64], groups: Iterable[Hashable] | None = None) -> NDArray[np.int64] | None:
    """Return the number 0.. of the unit that each row belongs to: rows of one group, and equal rows, are one unit.

    Where two groups have a row in common they are one unit too. None if every row is a unit of its own.

    Parameters
    ----------
    hashes : ndarray of uint64, shape (n,)
        See `row_hashes`.
    groups : iterable of n hashable labels, optional
        Taken by position.

    Raises
    ------
    DataError
        If `groups` does not have one hashable label per row.

    Examples
    --------
    >>> independent_units(np.array([7, 8, 7, 9], np.uint64), ["a", "b", "c", "b"])
    array([0, 1, 0, 1])
    >>> independent_units(np.array([7, 8], np.uint64)) is None
    True
    """
    n_rows = len(hashes)
    _, equal = np.unique(hashes, return_inverse=True)
    if groups is None:
        units = equal
    else:
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        named = group_codes(groups, n_rows)
        n_named = int(named.max(initial=-1)) + 1
        edges = (np.ones(n_rows, dtype=np.int8), (named, n_named + equal))
        n_nodes = n_named + int(equal.max(initial=-1)) + 1
        _, component = connected_components(coo_array(edges, shape=(n_nodes, n_nodes)), directed=False)
        units = component[named]
    if len(np.unique(units)) == n_rows:
        return None
    return _in_order_of_appearance(units)


def known_among(hashes: NDArray[np.uint64], known: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Return whether each hash is one of the `known` ones, which are sorted, as a model keeps them.

    Examples
    --------
    >>> known_among(np.array([3, 4], np.uint64), np.array([1, 3, 9], np.uint64))
    array([ True, False])
    """
    if not len(known):
        return np.zeros(len(hashes), dtype=np.bool_)
    places = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
    return np.asarray(known[places] == hashes)


def group_codes(groups: Iterable[Hashable], n_rows: int) -> NDArray[np.int64]:
    """Return a number 0.. for the group of each row, in order of first appearance; labels are taken by position.

    Raises
    ------
    DataError
        If there is not one hashable label per row.

    Examples
    --------
    >>> group_codes(["a", "b", "a"], 3)
    array([0, 1, 0])
    """
    code: dict[Hashable, int] = {}
    try:
        codes = np.array([code.setdefault(group, len(code)) for group in groups], dtype=np.int64)
    except TypeError as error:
        raise DataError(f"`groups` must be one label per row, such as a name or a number: {error}.") from error
    if len(codes) != n_rows:
        raise DataError(f"`groups` must have one label per row: {n_rows}, got {len(codes)}.")
    return codes


def one_row_a_unit(units: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the position of one row of each unit, drawn at random, increasing.

    Source: Dunn 2022, "Distribution-free prediction sets for two-layer hierarchical models", sec. 3 (subsampling once). One row a unit
    makes the rows exchangeable with a row of a new unit, however alike the rows of a unit are.

    Examples
    --------
    >>> one_row_a_unit(np.array([0, 0, 1, 1, 1]), np.random.default_rng(0)).shape
    (2,)
    """
    order = rng.permutation(len(units))
    _, first = np.unique(units[order], return_index=True)
    return np.sort(order[first])


def _in_order_of_appearance(units: NDArray[Any]) -> NDArray[np.int64]:
    _, first, inverse = np.unique(units, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))
    return rank[inverse]


def by_position(values: Any, *, name: str) -> list[Any] | None:
    """Return values that are given one a row as a list in the order they come in: a data frame's column by position, not by its labels.

    One column of an array, a frame or a tensor is taken for its values, as scikit-learn does.

    Parameters
    ----------
    values : iterable, or None
    name : str
        What messages call them.

    Raises
    ------
    DataError
        If they are no sequence of one value per row: more than one column, a mapping, a set, a text or a single value.

    Examples
    --------
    >>> by_position(np.array([3, 1]), name="y"), by_position(np.array([[3], [1]]), name="y")
    ([3, 1], [3, 1])
    """
    if values is None:
        return None
    if hasattr(values, "to_numpy"):  # a pandas or polars column: its own order, whatever its index says
        values = values.to_numpy()
    elif hasattr(values, "__array__"):
        values = np.asarray(values)
    if isinstance(values, np.ndarray):
        if values.ndim != 1 and (values.ndim != 2 or values.shape[1] != 1):
            raise DataError(f"`{name}` must have one value per row, but has shape {values.shape}; give one column, such as `{name}[:, 0]`.")
        listed: Sequence[Any] = values.ravel().tolist()
        return list(listed)
    if isinstance(values, Mapping | Set | str | bytes) or not isinstance(values, Iterable):
        raise DataError(
            f"`{name}` must have one value per row, in the order of the rows, got a {type(values).__name__}; give a list, an array or a"
            " column."
        )
    found = list(values)
    return [value[0] for value in found] if all(isinstance(value, list) and len(value) == 1 for value in found) else found
