"""Arrays as a source: rows with NaN or infinity are reported one by one, types that are no numbers are refused."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from insphere.data.columns import match_columns, told_aside
from insphere.data.labels import binary_labels
from insphere.data.rows import AbstractSource, Notice, RowFacts, Rows
from insphere.data.table_spec import TableSpec
from insphere.errors import DataError
from insphere.validation import check_integer


@final
class ArraySource(AbstractSource):
    """Rows of an array in memory or mapped from a file.

    Parameters
    ----------
    X : array-like of shape (n, features), (n, height, width) or (n, height, width, channels)
        Numbers. uint8, float32 and float64 are kept; float16 becomes float32; truth values, other whole numbers and long
        doubles become float64. Grey images get one channel.
    name : str
        What messages call it.
    labels : array-like of shape (n,), optional
        0 normal, 1 anomaly.
    types, groups, ids, parts : sequence of str, optional
        One entry per row; see `RowFacts`.
    feature_names : sequence of str, optional
        Names of the features; taken from a data frame's columns if not given.
    notices : sequence of Notice
        What is to be told of the rows; see `AbstractSource`.
    table_spec : TableSpec, optional
        What a table's columns were read as.

    Raises
    ------
    DataError
        If `X` has another number of axes, no rows or no values in a row, is ragged, sparse, or of text, objects or complex numbers.

    Examples
    --------
    >>> source = ArraySource([[0.0, 1.0], [float("nan"), 1.0]])
    >>> source.row_shape, source.load().errors
    ((2,), {1: 'feature 0 is nan'})
    """

    def __init__(
        self,
        X: Any,
        *,
        name: str = "array",
        labels: Any = None,
        types: Sequence[str] | None = None,
        groups: Sequence[Any] | None = None,
        ids: Sequence[str] | None = None,
        feature_names: Sequence[str] | None = None,
        parts: Sequence[str] | None = None,
        notices: Sequence[Notice] = (),
        table_spec: TableSpec | None = None,
    ) -> None:
        facts = RowFacts(
            ids=_texts(ids),
            labels=None if labels is None else binary_labels(labels, subject=f"`labels` of {name}"),
            types=_texts(types),
            groups=_texts(groups),
            parts=_texts(parts),
        )
        names = _texts(feature_names) if feature_names is not None else _column_names(X)
        self._X = _numbers(X, name)
        facts.check(len(self._X))
        if names is not None and (self._X.ndim != 2 or len(names) != self._X.shape[1]):
            raise DataError(f"`feature_names` of {name} has {len(names)} names, but a row has shape {self._X.shape[1:]}.")
        shape, dtype = self._X.shape[1:], self._X.dtype
        super().__init__(name, shape, dtype, facts, feature_names=names, notices=notices, table_spec=table_spec)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._X)

    def batches(self, batch_size: int) -> Iterator[Rows]:
        """Yield all rows in order, `batch_size` at a time; rows with NaN or infinity as errors."""
        check_integer("batch_size", batch_size, at_least=1)
        return self._batches(batch_size)

    def take(self, positions: Sequence[int] | NDArray[np.int64]) -> Self:
        """Return a source of the rows at `positions` only, in that order."""
        return self._like(self._X[np.asarray(positions, dtype=np.int64)], self.facts.take(positions), self.feature_names, self.notices)

    def with_features(self, names: Sequence[str], *, aside: Sequence[str] = ()) -> Self:
        """Return a source of the features called `names`, in that order; further ones are left aside and told, but for those in `aside`.

        Raises
        ------
        DataError
            If the features have no names, or one of `names` is missing or there more than once.

        Examples
        --------
        >>> source = ArraySource([[1.0, 2.0, 3.0]], feature_names=["rpm", "volt", "temp"]).with_features(["volt", "rpm"])
        >>> source.load().X.tolist(), source.notices[0].examples
        ([[2.0, 1.0]], ('temp',))
        """
        if self.feature_names is None:
            raise DataError(f"{self.name} has no names of features, so they cannot be chosen by name.")
        if tuple(self.feature_names) == tuple(names):
            return self
        order = match_columns(self.name, self.feature_names, names)
        told = told_aside(self.name, self.feature_names, [*names, *aside])
        return self._like(self._X[:, order], self.facts, tuple(names), (*self.notices, *told))

    def _like(self, X: NDArray[Any], facts: RowFacts, names: Sequence[str] | None, notices: Sequence[Notice]) -> Self:
        """Return a source of other rows or features, of which the same is known otherwise."""
        return type(self)(
            X,
            name=self.name,
            labels=facts.labels,
            types=facts.types,
            groups=facts.groups,
            ids=facts.ids,
            feature_names=names,
            parts=facts.parts,
            notices=notices,
            table_spec=dataclasses.replace(self.table_spec, feature_names=None if names is None else tuple(names)),
        )

    def _batches(self, batch_size: int) -> Iterator[Rows]:
        for start in range(0, len(self), batch_size):
            block = self._X[start : start + batch_size]
            index = np.arange(start, start + len(block), dtype=np.int64)
            finite = self._finite(block)
            if finite.all():
                # A mapped or read-only array is copied: consumers may then write, and torch does not warn.
                yield Rows(block if block.flags.writeable else np.array(block), index, {})
            else:
                errors = {start + int(row): self._why(block[row]) for row in np.flatnonzero(~finite)}
                yield Rows(block[finite], index[finite], errors)

    @staticmethod
    def _finite(block: NDArray[Any]) -> NDArray[np.bool_]:
        if block.dtype.kind != "f":
            return np.ones(len(block), dtype=np.bool_)
        finite: NDArray[np.bool_] = np.isfinite(block).reshape(len(block), -1).all(axis=1)
        return finite

    def _why(self, row: NDArray[Any]) -> str:
        bad = np.argwhere(~np.isfinite(row))
        place = bad[0].tolist()
        value = row[tuple(place)]
        others = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        if len(place) == 3:
            return f"pixel at row {place[0]}, column {place[1]}, channel {place[2]} is {value}{others}"
        named = f" {self.feature_names[place[0]]!r}" if self.feature_names is not None else ""
        return f"feature {place[0]}{named} is {value}{others}"


def _texts(values: Sequence[Any] | None) -> tuple[str, ...] | None:
    return None if values is None else tuple(str(value) for value in values)


def _column_names(X: Any) -> tuple[str, ...] | None:
    """Return a data frame's column names if all are text, else None."""
    columns = getattr(X, "columns", None)
    if columns is None or not hasattr(X, "dtypes"):
        return None
    names = tuple(columns)
    return names if names and all(isinstance(name, str) for name in names) else None


def _numbers(X: Any, name: str) -> NDArray[Any]:
    """Return `X` as an array of shape (n, features) or (n, height, width, channels) in a type that is computed with."""
    if hasattr(X, "toarray"):
        raise DataError(f"{name} is a sparse matrix, which is not supported; give `X.toarray()`.")
    if isinstance(X, np.ma.MaskedArray):
        # A masked value is a missing one; `asarray` would take what lies under the mask for data.
        X = np.where(np.ma.getmaskarray(X), np.nan, X.data)
    try:
        X = np.asarray(X)
    except (ValueError, TypeError) as error:
        raise DataError(f"{name} cannot be made an array, its rows must all have one shape: {error}.") from error
    if X.dtype.kind not in "buif":
        remedy = "give a folder or a glob to read files" if X.dtype.kind == "U" else "remove what is no number and use `X.astype(float)`"
        raise DataError(f"{name} must hold real numbers, but its type is {X.dtype}; {remedy}.")
    if X.ndim not in (2, 3, 4):
        raise DataError(
            f"{name} must have shape (n, features), (n, height, width) or (n, height, width, channels), got {X.shape}; "
            "reshape it, for one row with `X[np.newaxis]`."
        )
    if 0 in X.shape:
        raise DataError(f"{name} must have at least one row and one value per row, but its shape is {X.shape}.")
    rows: NDArray[Any] = X.astype(_computed_type(X.dtype), copy=False)
    return rows[:, :, :, np.newaxis] if rows.ndim == 3 else rows


def _computed_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind == "f":
        return np.dtype(np.float32) if dtype.itemsize <= 4 else np.dtype(np.float64)
    return np.dtype(np.uint8) if dtype == np.uint8 else np.dtype(np.float64)
