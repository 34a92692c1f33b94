"""Tables of numbers as a source: which columns are features, and what a column that does not have numbers may be."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from insphere.data.arrays import ArraySource
from insphere.data.cells import is_date, is_grouped_by_commas, read_numbers
from insphere.data.columns import listed, match_columns, told_aside
from insphere.data.folder_names import names_normal
from insphere.data.guesses import index_columns, label_columns
from insphere.data.indicators import find_values, with_indicators
from insphere.data.labels import binary_labels, label_text, label_texts
from insphere.data.one_hot import expanded
from insphere.data.options import OpenOptions
from insphere.data.rows import Notice, split_positions
from insphere.data.table_content import TableContent
from insphere.data.table_spec import TableSpec
from insphere.errors import DataError, ParameterError

if TYPE_CHECKING:
    import pyarrow as pa

_MOST_BAD = 0.5
"""Share of a column's filled cells that may be something else than numbers; beyond it the column does not hold numbers."""


@dataclass(frozen=True)
class _Features:
    X: NDArray[Any]
    errors: dict[int, str]
    notices: list[Notice]


def open_table(content: TableContent, options: OpenOptions, parts: Sequence[str] | None = None) -> ArraySource:
    """Return the source of a table's numeric columns; `parts` says of each row whether it is for "train" or "test".

    Raises
    ------
    DataError
        If a column is missing, a feature does not hold numbers, a label is not understood, or there are no rows.
    """
    options.refuse(("image_size", "mode", "category_by", "jpeg_draft"), "a table of numbers")
    remembered = options.table_spec or TableSpec()
    if options.normal_label is not None and options.label_column is None and remembered.label_column is None:
        raise ParameterError("`normal_label` says which value of a column is normal; name that column with `label_column`.")
    content, spec, told, doubt = _meaning(content, options)
    features = _features(content, spec.feature_names or (), lenient=remembered.feature_names is not None)
    groups = None
    if spec.groups is not None:
        groups = label_texts(_values(content, spec.groups), subject=f"column {spec.groups!r} of {content.name}")
    categories = None
    if spec.category is not None:
        # A row of an unknown category is not a reason to refuse the others.
        found = _values(content, spec.category).tolist()
        categories = [None if value is None or value != value or value == "" else value for value in found]
    is_remembered = options.remembered_normal(spec.label_column) is not None
    labels, types, told_of_labels = _labels(content, spec, remembered=options.label_column is None, strict=not is_remembered)
    source = ArraySource(
        features.X,
        name=content.name,
        labels=labels,
        types=types,
        groups=groups,
        feature_names=spec.feature_names,
        parts=parts,
        notices=(*content.notices, *told, *features.notices, *told_of_labels, *options.told_of_anomalies(labels)),
        table_spec=spec,
        row_errors=features.errors,
        doubt=doubt,
        categories=categories,
    )
    if labels is None or options.split != "train":
        return source
    return source.take(
        split_positions("train", len(source), labels.tolist(), None, name=content.name, remedy=" (every label is an anomaly)")
    )


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


def _meaning(content: TableContent, options: OpenOptions) -> tuple[TableContent, TableSpec, list[Notice], str | None]:
    """Return what the columns mean: by the options, then by what a model remembers, then by their names and values.

    The last entry says why a fit must not go on, where a column is used as a feature that is likely to be the label, nor a recalibration,
    where such a column is left aside.
    """
    remembered = options.table_spec or TableSpec()
    label = options.label_column or _if_present(content, remembered.label_column)
    groups = options.groups or _if_present(content, remembered.groups)
    normal = options.remembered_normal(label) if options.normal_label is None else options.normal_label
    category = options.category or _if_present(content, remembered.category)
    spec = TableSpec(None, label, None if label is None else normal, groups, options.header, category=category)
    for column in spec.set_aside:
        content.column(column)
    content, spec, told = _with_words(content, options, spec)
    if options.columns is not None:
        columns = expanded([str(column) for column in options.columns], spec.one_hot)
        return content, replace(spec, feature_names=_named_columns(content, columns, spec)), told, None
    index = [column for column in index_columns(content.table) if column not in spec.set_aside]
    if remembered.feature_names is not None and content.named and not remembered.is_generated:
        names, aside = remembered.feature_names, (*spec.set_aside, *remembered.set_aside)
        match_columns(content.name, content.table.column_names, names)
        told += told_aside(content.name, content.table.column_names, [*names, *aside])
        doubt = _unread_label(content, [column for column in content.table.column_names if column not in {*names, *aside, *index}])
        return content, replace(spec, feature_names=names), told, doubt
    names = tuple(column for column in content.table.column_names if column not in {*spec.set_aside, *index})
    told += _told_index(content, index)
    if remembered.feature_names is not None:
        return *_by_position(content, remembered, spec, names, told), None
    _check_names(content, names)
    doubt, told_of_doubt = _doubt(content, names)
    return content, replace(spec, feature_names=names), told + told_of_doubt, doubt


def _with_words(content: TableContent, options: OpenOptions, spec: TableSpec) -> tuple[TableContent, TableSpec, list[Notice]]:
    """Return the table with indicators in place of its columns of words: those of the model, else those that the options name."""
    remembered, asked = options.table_spec or TableSpec(), tuple(options.one_hot or ())
    for column in spec.set_aside:
        if column in asked:
            raise ParameterError(f"`one_hot` names {column!r}, which is the label or group column; leave it out.")
    if remembered.feature_names is None:
        left_out = [] if options.columns is None else [column for column in asked if column not in set(map(str, options.columns))]
        if left_out:
            raise ParameterError(f"`one_hot` names {listed(left_out)}, which `columns` leaves out; name it in both or in neither.")
        one_hot = find_values(content, asked)
    else:
        one_hot = remembered.one_hot
        known = [entry.column for entry in one_hot]
        if options.one_hot is not None and set(asked) != set(known):
            raise ParameterError(
                f"`one_hot` is settled by the fit ({listed(known) or 'no column'}); leave it out, or fit again with {listed(asked)}."
            )
    content, told = with_indicators(content, one_hot)
    return content, replace(spec, one_hot=one_hot), told


def _by_position(
    content: TableContent, remembered: TableSpec, spec: TableSpec, names: tuple[str, ...], told: list[Notice]
) -> tuple[TableContent, TableSpec, list[Notice]]:
    """Match columns of which the table's or the detector's have no names of their own."""
    wanted = remembered.feature_names or ()
    if set(wanted) <= set(content.positions):
        return content, replace(spec, feature_names=wanted), [*told, *told_aside(content.name, names, wanted)]
    if len(names) != len(wanted):
        whose = "the detector was fitted" if content.named else f"{content.name} was written"
        raise DataError(
            f"{content.name} has {len(names)} columns to use, but the detector takes {len(wanted)}, and {whose} without names of columns,"
            " so they cannot be matched by name. Give a header line with the names, or choose the columns with `columns` (`--columns`)."
        )
    text = f"The columns of {content.name} are matched with those of the fit by position, because one of the two has no names."
    renamed = dict(zip(names, wanted, strict=True))
    table = content.table.rename_columns([renamed.get(column, column) for column in content.table.column_names])
    return replace(content, table=table), replace(spec, feature_names=wanted), [*told, Notice("taken as", len(names), text, names[:3])]


def _if_present(content: TableContent, column: str | None) -> str | None:
    return column if column is not None and column in content.positions else None


def _named_columns(content: TableContent, columns: Sequence[str], spec: TableSpec) -> tuple[str, ...]:
    names = tuple(str(column) for column in columns)
    for column in spec.set_aside:
        if column in names:
            raise ParameterError(f"`columns` names {column!r}, which is the label, group or category column; leave it out.")
    _check_names(content, names)
    return names


def _check_names(content: TableContent, names: Sequence[str]) -> None:
    if not names:
        raise DataError(f"{content.name} has no column left to use; its columns are {listed(content.table.column_names) or 'none'}.")
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise DataError(f"{content.name} has several columns named {twice!r}; rename them, or name each once in `columns`.")


def _told_index(content: TableContent, index: Sequence[str]) -> list[Notice]:
    if not index:
        return []
    text = (
        f"{content.name} has the index of a data frame (row numbers or names) as a column, which says nothing about a row; it is left"
        " aside. Name it in `columns` (`--columns`) to use it."
    )
    return [Notice("left out", len(index), text, tuple(index))]


def _doubt(content: TableContent, names: Sequence[str]) -> tuple[str | None, list[Notice]]:
    found = label_columns(content.table, names)
    if not found:
        return None, []
    rest = [name for name in names if name not in found]
    normal, option = _asked_of_label(content, found[0])
    text = (
        f"Column {listed(found)} of {content.name} looks like the label, not like a feature: learned from, it would give the answer away."
        f" If it is, say label_column={found[0]!r}{normal} (--label-column {found[0]}{option}); to leave it out, or to use it"
        f" all the same, name the columns to use with `columns` (--columns {','.join(rest[:8]) + (',…' if len(rest) > 8 else '')})."
    )
    return text, [Notice("taken as", len(found), text, tuple(found))]


def _unread_label(content: TableContent, aside: Sequence[str]) -> str | None:
    """Return why rows must not all be taken as normal, where a column that the model knows nothing of looks like the label."""
    found = label_columns(content.table, aside)
    if not found:
        return None
    normal, option = _asked_of_label(content, found[0])
    return (
        f"Column {listed(found)} of {content.name} looks like the label and is not read, so that rows it marks as anomalies would be taken"
        f" as normal. Say label_column={found[0]!r}{normal} (--label-column {found[0]}{option}); where all rows are normal, name the"
        " columns of the fit with `columns` (--columns), or remove the column."
    )


def _asked_of_label(content: TableContent, column: str) -> tuple[str, str]:
    """Return what must be said besides the name of a label column, in Python and on the command line: the normal value, unless it is 0."""
    values = _values(content, column).tolist()
    kinds = {type(value) for value in values}
    texts = {label_text(value) for value in values if value is not None and value == value}
    if not texts <= {"0", "1"}:
        return ", normal_label=VALUE", " --normal-label VALUE, with the value of normal rows"
    if not names_normal(column):
        return "", ""
    return (", normal_label=True", " --normal-label true") if bool in kinds else (", normal_label=1", " --normal-label 1")


def _values(content: TableContent, column: str) -> NDArray[Any]:
    """Return a column of numbers or text; missing values are None or NaN."""
    import pyarrow as pa

    values = content.column(column)
    if pa.types.is_boolean(values.type) or pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
        return np.asarray(values.to_numpy())
    return np.array(_texts(content, column, values), dtype=object)


def _texts(content: TableContent, column: str, values: Any) -> list[Any]:
    try:
        return list(values.to_pylist())
    except UnicodeDecodeError as error:
        raise DataError(f"column {column!r} of {content.name} has text that is not UTF-8; write the table again in UTF-8.") from error


def _labels(
    content: TableContent, spec: TableSpec, *, remembered: bool, strict: bool
) -> tuple[NDArray[np.int64] | None, list[str] | None, list[Notice]]:
    """Return labels and types of the rows, as far as there are any, and what is to be told of them.

    Rows are not refused for labels that a model only remembers: those that cannot be read are told.
    """
    if spec.label_column is None:
        return None, None, []
    subject = f"column {spec.label_column!r} of {content.name}"
    values = _values(content, spec.label_column)
    try:
        labels = binary_labels(values, subject=subject, normal_label=spec.normal_label, strict=strict, column=spec.label_column)
    except DataError as error:
        if not remembered:
            raise
        return None, None, [Notice("left out", 1, f"The labels that the detector was fitted with are not used: {error}")]
    return labels, None if spec.normal_label is None else label_texts(values, subject=subject), []


def _features(content: TableContent, names: Sequence[str], *, lenient: bool) -> _Features:
    """Return columns as an array of shape (n, features); missing values are NaN. float32 only if every column has at most that."""
    import pyarrow as pa
    import pyarrow.compute as pc

    n_rows = content.table.num_rows
    if n_rows == 0:
        raise DataError(f"{content.name} has a header but no rows.")
    columns = [content.column(column) for column in names]
    small = all(pa.types.is_float32(values.type) or pa.types.is_float16(values.type) for values in columns)
    X = np.empty((n_rows, len(names)), dtype=np.float32 if small else np.float64)
    bad: dict[int, list[str]] = {row: [why] for row, why in content.broken.items()}
    notations: dict[str, list[str]] = {}
    for position, (column, values) in enumerate(zip(names, columns, strict=True)):
        if _is_numeric(values) or (lenient and pa.types.is_null(values.type)):
            # Not "safe": whole numbers beyond 2**53 are rounded, as everywhere in floating point, instead of refused.
            X[:, position] = pc.cast(values, X.dtype.name, safe=False).to_numpy()
            continue
        X[:, position] = _read_cells(content, column, values, bad, notations, lenient=lenient)
    errors = {row: content.place(row) + ": " + _together(reasons) for row, reasons in sorted(bad.items())}
    return _Features(X, errors, [_told_notation(content.name, *entry) for entry in notations.items()])


def _read_cells(
    content: TableContent, column: str, values: Any, bad: dict[int, list[str]], notations: dict[str, list[str]], *, lenient: bool
) -> NDArray[np.float64]:
    """Return a column of texts as numbers; note the cells that are not, and the notation."""
    import pyarrow as pa

    if not pa.types.is_string(values.type):
        raise _not_numbers(content, column, values)
    numbers = read_numbers(values, separator=content.separator)
    most = max(_MOST_BAD * numbers.n_filled, 1 if lenient else 0)
    if (not numbers.n_filled and not lenient) or len(numbers.bad) > most:
        raise _not_numbers(content, column, values, numbers.bad)
    if numbers.notation:
        notations.setdefault(numbers.notation, []).append(column)
    for row, text in numbers.bad.items():
        bad.setdefault(row, []).append(f"column {column!r} is not a number but {text[:40]!r}")
    return numbers.values


def _together(reasons: Sequence[str]) -> str:
    return reasons[0] + (f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else "")


def _told_notation(name: str, notation: str, columns: list[str]) -> Notice:
    text = f"Numbers with {notation} are read in {len(columns)} column{'s' if len(columns) > 1 else ''} of {name}: {listed(columns)}."
    return Notice("taken as", len(columns), text, tuple(columns[:10]))


def _is_numeric(values: Any) -> bool:
    import pyarrow as pa

    types = pa.types
    return bool(
        types.is_boolean(values.type) or types.is_integer(values.type) or types.is_floating(values.type) or types.is_decimal(values.type)
    )


def _not_numbers(content: TableContent, column: str, values: Any, bad: Mapping[int, str] | None = None) -> DataError:
    """Return the error that says what a column holds instead of numbers, and what to do."""
    import pyarrow as pa

    if pa.types.is_null(values.type) or values.null_count == len(values) or bad == {}:
        return DataError(f"column {column!r} of {content.name} is empty; leave it out with `columns` (`--columns`).")
    what, shown = str(values.type), ""
    if bad and all(is_grouped_by_commas(text) for text in _some(bad.values())):
        text = next(iter(bad.values()))[:40]
        return DataError(
            f"column {column!r} of {content.name} has numbers like {text!r}, whose comma may be a decimal one or part groups of three"
            " digits; write them with a decimal point, or leave the column out with `columns` (`--columns`)."
        )
    if bad:
        row, text = next(iter(bad.items()))
        shown = f" ({content.place(row)}: {text[:40]!r})"
    if pa.types.is_temporal(values.type) or (bad and all(map(is_date, _some(bad.values())))):
        what = f"dates or times ({values.type})"
    return DataError(
        f"column {column!r} of {content.name} does not hold numbers but {what}{shown}; leave it out with `columns` (`--columns`), name it"
        " with `one_hot` (`--one-hot`) if its words are kinds of things, or with `label_column` (`--label-column`) if it is the"
        " label. In Python these are options of `insphere.open_source`, whose rows every detector takes."
    )


def _some(texts: Iterable[str]) -> list[str]:
    return list(texts)[:100]
