"""Arrays as a source: rows with NaN or infinity are reported one by one, types other than numbers are refused."""

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from insphere.data.columns import match_columns, told_aside
from insphere.data.file_rows import FileRows
from insphere.data.imputation import Imputer
from insphere.data.labels import binary_labels, label_text
from insphere.data.one_hot import OneHot
from insphere.data.rows import AbstractSource, Notice, RowFacts, Rows
from insphere.data.table_spec import TableSpec
from insphere.errors import DataError, ParameterError
from insphere.validation import check_integer


@final
class ArraySource(AbstractSource):
    """Rows of an array in memory or in a .npy file.

    Parameters
    ----------
    X : array-like of shape (n, features), (n, height, width) or (n, height, width, channels)
        Numbers. uint8, float32 and float64 are kept; float16 becomes float32; truth values, other whole numbers and long
        doubles become float64. Grey images get one channel.
    name : str
        What messages call it.
    labels : array-like of shape (n,), optional
        0 normal, 1 anomaly.
    types, groups, ids, parts, masks, categories : sequence of str, optional
        One entry per row; see `RowFacts`.
    feature_names : sequence of str, optional
        Names of the features; taken from a data frame's columns if not given.
    notices : sequence of Notice
        What is to be told of the rows; see `AbstractSource`.
    table_spec : TableSpec, optional
        What a table's columns were read as.
    row_errors : mapping of int to str, optional
        Rows that could not be read, to the reason.
    channels : {"auto", "first", "last"}
        Where the channels of images are; see `insphere.open_source`.
    keep_missing : bool or collection of int
        Whether rows of features in which some, but not all, are NaN are given as they are instead of as errors; or in which of them.
    doubt : str, optional
        Why a fit must not go on with these rows; see `AbstractSource`.

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
        row_errors: Mapping[int, str] | None = None,
        doubt: str | None = None,
        channels: str = "auto",
        keep_missing: bool | Collection[int] = False,
        masks: Sequence[str | None] | None = None,
        categories: Sequence[Any] | None = None,
    ) -> None:
        facts = RowFacts(
            ids=_texts(ids),
            labels=None if labels is None else binary_labels(labels, subject=f"`labels` of {name}"),
            types=_texts(types),
            groups=_texts(groups),
            parts=_texts(parts),
            masks=None if masks is None else tuple(masks),
            categories=None if categories is None else tuple(None if value is None else label_text(value) for value in categories),
        )
        names = _texts(feature_names) if feature_names is not None else _column_names(X)
        self._X = _channels_last(_numbers(X, name), name, channels)
        self.channels_first = channels == "first"
        self._keep_missing = self._X.ndim == 2 and keep_missing
        facts.check(len(self._X))
        if names is not None and (self._X.ndim != 2 or len(names) != self._X.shape[1]):
            raise DataError(f"`feature_names` of {name} has {len(names)} names, but a row has shape {self._X.shape[1:]}.")
        shape, dtype = self._X.shape[1:], self._X.dtype
        super().__init__(name, shape, dtype, facts, feature_names=names, notices=notices, table_spec=table_spec, doubt=doubt)
        self._row_errors = dict(row_errors or {})

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._X)

    @property
    def in_memory(self) -> bool:
        """Whether the rows do not lie in a file, as those of a .npy file or of a mapped array do."""
        base = self._X
        while isinstance(base, np.ndarray) and not isinstance(base, np.memmap) and isinstance(base.base, np.ndarray):
            base = base.base
        return not isinstance(base, FileRows | np.memmap)

    def batches(self, batch_size: int) -> Iterator[Rows]:
        """Yield all rows in order, `batch_size` at a time; rows with NaN or infinity as errors."""
        check_integer("batch_size", batch_size, at_least=1)
        return self._batches(batch_size)

    def take(self, positions: Sequence[int] | NDArray[np.int64]) -> Self:
        """Return a source of the rows at `positions` only, in that order."""
        rows = np.asarray(positions, dtype=np.int64)
        errors = (
            {new: self._row_errors[old] for new, old in enumerate(rows.tolist()) if old in self._row_errors} if self._row_errors else {}
        )
        return self._like(self._X[rows], self.facts.take(positions), self.feature_names, self.notices, errors)

    def with_features(self, names: Sequence[str], *, aside: Sequence[str] = (), one_hot: Sequence[OneHot] = ()) -> Self:
        """Return a source of the features called `names`, in that order; further ones are left aside and told, but for those in `aside`.

        Of columns of words that this source too was opened with, values that no row here has get their indicators, all zeros.

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
        X, present = _with_absent_values(np.asarray(self._X), self.feature_names, self.table_spec.one_hot, one_hot)
        order = match_columns(self.name, present, names)
        told = told_aside(self.name, present, [*names, *aside])
        return self._like(X[:, order], self.facts, tuple(names), (*self.notices, *told), self._row_errors)

    def keeping_missing(self, features: Collection[int] | None = None) -> Self:
        """Return a source of the same rows in which missing features, all or those given, are NaN; a row without any is an error."""
        source = self._like(self._X, self.facts, self.feature_names, self.notices, self._row_errors)
        source._keep_missing = self._X.ndim == 2 and (True if features is None else tuple(features))
        return source

    def imputed(self, imputer: Imputer) -> Self:
        """Return a source of the rows as `Imputer.transform` gives them; what it leaves missing makes its row an error."""
        names = None if self.feature_names is None else imputer.names(self.feature_names)
        source = self._like(imputer.transform(np.asarray(self._X)), self.facts, names, self.notices, self._row_errors)
        source._keep_missing = False
        return source

    def _like(
        self,
        X: "NDArray[Any] | FileRows",
        facts: RowFacts,
        names: Sequence[str] | None,
        notices: Sequence[Notice],
        row_errors: Mapping[int, str],
    ) -> Self:
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
            row_errors=row_errors,
            doubt=self.doubt,
            channels="last",
            keep_missing=self._keep_missing,
            masks=facts.masks,
            categories=facts.categories,
        )

    def _batches(self, batch_size: int) -> Iterator[Rows]:
        for start in range(0, len(self), batch_size):
            block = self._X[start : start + batch_size]
            index = np.arange(start, start + len(block), dtype=np.int64)
            finite = self._finite(block)
            finite[[row - start for row in self._row_errors if start <= row < start + len(block)]] = False
            if finite.all():
                # A mapped or read-only array is copied: consumers may then write, and torch does not warn.
                yield Rows(block if block.flags.writeable else np.array(block), index, {})
            else:
                bad = (start + np.flatnonzero(~finite)).tolist()
                errors = {row: self._row_errors.get(row) or self._why(self._X[row]) for row in bad}
                yield Rows(block[finite], index[finite], errors)

    def _finite(self, block: NDArray[Any]) -> NDArray[np.bool_]:
        if block.dtype.kind != "f":
            return np.ones(len(block), dtype=np.bool_)
        if self._keep_missing:
            missing = may_be = np.isnan(block)
            if not isinstance(self._keep_missing, bool):
                may_be = missing & np.isin(np.arange(block.shape[1]), list(self._keep_missing))
            usable: NDArray[np.bool_] = (np.isfinite(block) | may_be).all(axis=1) & ~missing.all(axis=1)
            return usable
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


def _with_absent_values(
    X: NDArray[Any], names: Sequence[str], own: Sequence[OneHot], wanted: Sequence[OneHot]
) -> tuple[NDArray[Any], list[str]]:
    """Return rows and names with indicators of the values that only `wanted` knows, of columns that `own` has too."""
    names, own_names = list(names), {entry.column: entry.names for entry in own}
    for entry in wanted:
        absent = [name for name in entry.names if name not in names]
        if absent and entry.column in own_names:
            # Zero, or missing where the cell is.
            zeros = 0 * X[:, [names.index(own_names[entry.column][0])]]
            X, names = np.concatenate([X, np.repeat(zeros, len(absent), axis=1)], axis=1), [*names, *absent]
    return X, names


def _texts(values: Sequence[Any] | None) -> tuple[str, ...] | None:
    return None if values is None else tuple(str(value) for value in values)


def _column_names(X: Any) -> tuple[str, ...] | None:
    """Return a data frame's column names if all are text, else None."""
    columns = getattr(X, "columns", None)
    if columns is None or not hasattr(X, "dtypes"):
        return None
    names = tuple(columns)
    return names if names and all(isinstance(name, str) for name in names) else None


def plain(values: Any) -> NDArray[Any]:
    """Return values as an array in which a masked one is missing: `asarray` would take what lies under the mask for data.

    Examples
    --------
    >>> plain(np.ma.masked_array([1, 9], mask=[False, True]))
    array([ 1., nan])
    """
    if isinstance(values, np.ma.MaskedArray):
        return np.where(np.ma.getmaskarray(values), np.nan, values.data)
    return np.asarray(values)


def _has_masked_rows(X: Any) -> bool:
    return isinstance(X, list | tuple) and any(isinstance(row, np.ma.MaskedArray) for row in X)


def _numbers(X: Any, name: str) -> "NDArray[Any] | FileRows":
    """Return `X` as an array of shape (n, features) or (n, height, width, channels) in a type that is computed with."""
    if hasattr(X, "toarray"):
        raise DataError(f"{name} is a sparse matrix, which is not supported; give `X.toarray()`.")
    if isinstance(X, np.ma.MaskedArray):
        X = plain(X)
    if not isinstance(X, FileRows):
        try:
            X = np.stack([plain(row) for row in X]) if _has_masked_rows(X) else np.asarray(X)
        except (ValueError, TypeError) as error:
            raise DataError(f"{name} cannot be made an array, its rows must all have one shape: {error}.") from error
    if X.dtype.kind not in "buif":
        remedy = "give a folder or a glob to read files" if X.dtype.kind == "U" else "remove what is not a number and use `X.astype(float)`"
        raise DataError(f"{name} must hold real numbers, but its type is {X.dtype}; {remedy}.")
    if X.ndim not in (2, 3, 4):
        raise DataError(
            f"{name} must have shape (n, features), (n, height, width) or (n, height, width, channels), got {X.shape}; "
            "reshape it, for one row with `X[np.newaxis]`."
        )
    if 0 in X.shape:
        raise DataError(f"{name} must have at least one row and one value per row, but its shape is {X.shape}.")
    if isinstance(X, FileRows):
        return X.computed(_computed_type(X.dtype))
    rows: NDArray[Any] = X.astype(_computed_type(X.dtype), copy=False)
    return rows[:, :, :, np.newaxis] if rows.ndim == 3 else rows


def _channels_last(X: "NDArray[Any] | FileRows", name: str, channels: str) -> "NDArray[Any] | FileRows":
    """Return images with their channels along the last axis; refuse those that seem to have them along the second.

    That is so with 1, 3 or 4 along the second axis and more than 4 along both others: a picture of 3 rows and 32 columns in 32 colours
    is not what people have, one of 32 by 32 pixels in 3 colours is. With at most 4 along the last axis, that has the channels.
    """
    if channels == "first":
        if X.ndim != 4:
            raise ParameterError(f"`channels` does not apply to {name}, whose rows have shape {X.shape[1:]}; leave it out.")
        return X.channels_last() if isinstance(X, FileRows) else np.moveaxis(X, 1, -1)
    _, second, height, width = X.shape if X.ndim == 4 else (0, 0, 0, 0)
    if channels == "auto" and second in (1, 3, 4) and min(height, width) > 4:
        raise DataError(
            f"{name} has shape {X.shape}, which looks like images with their channels first, {second} of {height}×{width} pixels; images"
            ' have shape (n, height, width, channels). Turn them with `channels="first"` in `insphere.open_source` (`--channels first`) or'
            f' `X.transpose(0, 2, 3, 1)`; if they are {second} pixels high and have {width} channels, say `channels="last"`.'
        )
    return X


def _computed_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind == "f":
        return np.dtype(np.float32) if dtype.itemsize <= 4 else np.dtype(np.float64)
    return np.dtype(np.uint8) if dtype == np.uint8 else np.dtype(np.float64)
