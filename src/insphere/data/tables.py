"""Tables of numbers as a source: which columns are features, and what a column that is no number may be."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from insphere.data.arrays import ArraySource
from insphere.data.columns import match_columns, told_aside
from insphere.data.labels import binary_labels, label_texts
from insphere.data.options import OpenOptions
from insphere.data.rows import Notice, split_positions
from insphere.data.table_spec import TableSpec
from insphere.errors import DataError, ParameterError, did_you_mean

if TYPE_CHECKING:
    import pyarrow as pa


def open_table(name: str, table: "pa.Table", options: OpenOptions, parts: Sequence[str] | None = None) -> ArraySource:
    """Return the source of a table's numeric columns; `parts` says of each row whether it is for "train" or "test".

    Raises
    ------
    DataError
        If a column is missing, a feature is no number, a label is not understood, or there are no rows.
    """
    options.refuse(("image_size", "mode"), "a table of numbers")
    if options.normal_label is not None and options.label_column is None and (options.table_spec or TableSpec()).label_column is None:
        raise ParameterError("`normal_label` says which value of a column is normal; name that column with `label_column`.")
    spec, notices = _spec(name, table, options)
    names = spec.feature_names or ()
    X = _features(name, table, names)
    groups = None if spec.groups is None else label_texts(_values(name, table, spec.groups), subject=f"column {spec.groups!r}")
    labels, types = _labels(name, table, spec)
    source = ArraySource(
        X, name=name, labels=labels, types=types, groups=groups, feature_names=names, parts=parts, notices=notices, table_spec=spec
    )
    if labels is None or options.split != "train":
        return source
    return source.take(split_positions("train", len(source), labels.tolist(), None, name=name, remedy=" (every label is an anomaly)"))


def _spec(name: str, table: "pa.Table", options: OpenOptions) -> tuple[TableSpec, list[Notice]]:
    """Return what the table is read as: by the options, then by what a model remembers, then all columns as features."""
    remembered = options.table_spec or TableSpec()
    present = set(table.column_names)
    label, groups = (
        given if given is not None or known not in present else known
        for given, known in ((options.label_column, remembered.label_column), (options.groups, remembered.groups))
    )
    normal = remembered.normal_label if options.normal_label is None and options.label_column is None else options.normal_label
    spec = TableSpec(None, label, None if label is None else normal, groups)
    if options.columns is None and remembered.feature_names is not None:
        for column in spec.set_aside:
            _column(name, table, column)
        match_columns(name, table.column_names, remembered.feature_names)
        names, aside = list(remembered.feature_names), (*spec.set_aside, *remembered.set_aside)
        return replace(spec, feature_names=tuple(names)), told_aside(name, table.column_names, [*names, *aside])
    return replace(spec, feature_names=tuple(_feature_columns(name, table, options, spec))), []


def _labels(name: str, table: "pa.Table", spec: TableSpec) -> tuple[NDArray[np.int64] | None, list[str] | None]:
    """Return labels and types of the rows, as far as there are any."""
    if spec.label_column is None:
        return None, None
    subject = f"column {spec.label_column!r} of {name}"
    values = _values(name, table, spec.label_column)
    labels = binary_labels(values, subject=subject, normal_label=spec.normal_label)
    return labels, None if spec.normal_label is None else label_texts(values, subject=subject)


def read_or_refuse(path: Path, read: Callable[[Path], Any]) -> Any:
    """Return ``read(path)``; whatever it raises on damaged bytes becomes one `DataError`."""
    try:
        return read(path)
    except DataError:
        raise
    # Arrow raises ArrowInvalid (a ValueError), OSError, ArrowNotImplementedError, UnicodeDecodeError, ... on damaged files.
    except Exception as error:
        raise DataError(f"{path.name} cannot be read as a table: {first_line(error)}.") from error


def read_schema(path: Path) -> "pa.Schema":
    """Return the schema of a Parquet file.

    Raises
    ------
    DataError
        If the file cannot be read or has no columns.
    """

    def read(path: Path) -> Any:
        import pyarrow.parquet as pq

        schema = pq.read_schema(path)
        # Names that are not UTF-8 fail when they are asked for, so that is done here, where the failure is this file's.
        if not schema.names:
            raise DataError(f"{path.name} has no columns.")
        return schema

    return read_or_refuse(path, read)


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, for messages."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def is_number(cell: str) -> bool:
    """Return whether a text is a number, as Python reads it."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _listed(name: str, column: str, values: Any) -> list[Any]:
    try:
        return list(values.to_pylist())
    except UnicodeDecodeError as error:
        raise DataError(f"column {column!r} of {name} has text that is not UTF-8; write the table anew in UTF-8.") from error


def _column(name: str, table: "pa.Table", column: str) -> Any:
    count = table.column_names.count(column)
    if count == 0:
        listed = ", ".join(table.column_names[:20])
        raise DataError(f"{name} has no column {column!r}; its columns are {listed}.{did_you_mean(column, table.column_names)}")
    if count > 1:
        raise DataError(f"{name} has {count} columns named {column!r}; rename them.")
    return table.column(column)


def _values(name: str, table: "pa.Table", column: str) -> NDArray[Any]:
    """Return a column of numbers or text; missing values are None or NaN."""
    import pyarrow as pa

    values = _column(name, table, column)
    if pa.types.is_boolean(values.type) or pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
        return np.asarray(values.to_numpy())
    return np.array(_listed(name, column, values), dtype=object)


def _feature_columns(name: str, table: "pa.Table", options: OpenOptions, spec: TableSpec) -> list[str]:
    aside = spec.set_aside
    if options.columns is None:
        names = [column for column in table.column_names if column not in aside]
    else:
        names = [str(column) for column in options.columns]
    for column in aside:
        if column in names:
            raise ParameterError(f"`columns` names {column!r}, which is the label or group column; leave it out.")
        _column(name, table, column)
    if not names:
        raise DataError(f"{name} has no column left to use; its columns are {', '.join(table.column_names) or 'none'}.")
    if len(set(names)) < len(names):
        twice = next(column for column in names if names.count(column) > 1)
        raise DataError(f"{name} has several columns named {twice!r}; rename them, or name each once in `columns`.")
    return names


def _features(name: str, table: "pa.Table", names: Sequence[str]) -> NDArray[Any]:
    """Return columns as an array of shape (n, features); missing values are NaN. float32 only if every column has at most that."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if table.num_rows == 0:
        raise DataError(f"{name} has a header but no rows.")
    columns = [_column(name, table, column) for column in names]
    for column, values in zip(names, columns, strict=True):
        _check_numeric(name, column, values)
    small = all(pa.types.is_float32(values.type) or pa.types.is_float16(values.type) for values in columns)
    X = np.empty((table.num_rows, len(names)), dtype=np.float32 if small else np.float64)
    for position, values in enumerate(columns):
        # Not "safe": whole numbers beyond 2**53 are rounded, as everywhere in floating point, instead of refused.
        X[:, position] = pc.cast(values, pa.float32() if small else pa.float64(), safe=False).to_numpy()
    return X


def _check_numeric(name: str, column: str, values: Any) -> None:
    import pyarrow as pa

    types = pa.types
    if types.is_boolean(values.type) or types.is_integer(values.type) or types.is_floating(values.type) or types.is_decimal(values.type):
        return
    if types.is_null(values.type):
        raise DataError(f"column {column!r} of {name} is empty; leave it out with `columns` (`--columns`).")
    shown = ""
    if types.is_string(values.type) or types.is_large_string(values.type):
        row, text = next(
            ((row, text) for row, text in enumerate(_listed(name, column, values)) if text is not None and not is_number(text)), (0, "")
        )
        shown = f" (row {row}: {text[:40]!r})"
    raise DataError(
        f"column {column!r} of {name} is no number but {values.type}{shown}; "
        "leave it out with `columns` (`--columns`), or name it with `label_column` (`--label-column`) if it is the label."
    )
