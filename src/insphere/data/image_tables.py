"""Parquet files with image bytes (Hugging Face layout: `image` struct<bytes, path> beside `label`) as a source."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from insphere.data.guesses import unread_labels
from insphere.data.labels import binary_labels, class_texts, label_text, label_texts
from insphere.data.options import OpenOptions
from insphere.data.parquet_store import ImageFile, ParquetStore
from insphere.data.rows import Notice, RowFacts, split_positions
from insphere.data.stores import ImageSource
from insphere.data.tables import read_or_refuse, read_schema
from insphere.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import pyarrow as pa

_IMAGE_COLUMNS = ("image", "img")
_LABEL_COLUMN = "label"


@dataclass
class ImageTable:
    """Encoded images of Parquet files, which stay there, and the columns read beside them.

    Parameters
    ----------
    store : ParquetStore
        The encoded images.
    paths : list of str or None
        What the files call them.
    columns : dict of str to ndarray
        The other columns, by name.
    class_names : list of str or None
        Names of the label's classes where the file states them.
    """

    store: ParquetStore
    paths: list[str | None] = field(default_factory=list)
    columns: dict[str, NDArray[Any]] = field(default_factory=dict)
    class_names: list[str] | None = None


def image_column(schema: "pa.Schema") -> str | None:
    """Return the column with encoded images: a struct with `bytes`, or binary and called image or img; None if there is none."""
    import pyarrow as pa

    def holds_images(column: Any) -> bool:
        if pa.types.is_struct(column.type):
            position = column.type.get_field_index("bytes")
            return position >= 0 and _is_binary(column.type.field(position).type)
        return _is_binary(column.type) and column.name.lower() in _IMAGE_COLUMNS

    found = [column.name for column in schema if holds_images(column)]
    return next((name for name in _IMAGE_COLUMNS if name in found), found[0] if found else None)


def read_image_table(files: Sequence[Path], image: str, columns: Sequence[str]) -> ImageTable:
    """Read the columns beside encoded images, one row group after the other, and find where the images are.

    Parameters
    ----------
    files : sequence of path
        Parquet files of one schema.
    image : str
        The column with the images.
    columns : sequence of str
        Other columns to read.

    Raises
    ------
    DataError
        If a file cannot be read or lacks a column.
    """
    found = [read_or_refuse(file, lambda path: _read_file(path, image, columns)) for file in files]
    paths = [name for read in found for name in read.paths]
    joined = {column: np.concatenate([read.columns[column] for read in found]) for column in columns}
    class_names = next((read.class_names for read in found if read.class_names), None)
    return ImageTable(ParquetStore([read.file for read in found]), paths, joined, class_names)


def open_image_table(name: str, files: Sequence[Path], image: str, options: OpenOptions, parts: Sequence[str] | None = None) -> ImageSource:
    """Return the source of Parquet files with images; `label` gives the rows' types, with `normal_label` also their labels.

    `parts` says of each row whether it is for "train" or "test".

    Raises
    ------
    DataError
        If a column is missing, a label is not understood, the split has no row, or no image can be read.
    """
    options.refuse(("columns", "category_by"), "a table of images")
    names = read_schema(files[0]).names
    known = options.remembered.label_column
    usual = known if known is not None and known in names else _LABEL_COLUMN
    label = options.label_column or (usual if usual in names else None)
    if label is None:
        options.refuse(("normal_label",), "a table of images without a label column (name it with `label_column`)")
    remembered = options.remembered.category
    category = options.category or (remembered if remembered in names else None)
    read = read_image_table(files, image, [column for column in (label, options.groups, category) if column is not None])
    facts = RowFacts(ids=_unique(read.paths), parts=parts)
    if options.groups is not None:
        subject = f"column {options.groups!r} of {name}"
        facts = replace(facts, groups=label_texts(read.columns[options.groups], subject=subject))
    if category is not None:
        found = read.columns[category].tolist()
        facts = replace(facts, categories=tuple(None if value is None or value != value else label_text(value) for value in found))
    if label is not None:
        facts = _labelled(facts, read, label, name, options)
    labels = None if facts.labels is None else facts.labels.tolist()
    notices, doubt = _told(facts, label, names, {image, label, options.groups, category}, name)
    if doubt is not None and options.split == "train":
        raise DataError(doubt)
    positions = split_positions(options.split, len(read.store), labels, None, name=name, remedy="")
    store = read.store.take(positions)
    return options.image_source(name, store, facts.take(positions), notices=notices, doubt=doubt)


def _told(
    facts: RowFacts, label: str | None, names: Sequence[str], used: set[str | None], name: str
) -> tuple[tuple[Notice, ...], str | None]:
    """Return what is to be told of the columns that are not read, and why a fit must not go on."""
    aside = tuple(column for column in names if column not in used)
    text = f"{len(aside)} columns next to the images are left aside."
    notices = (Notice("left out", len(aside), text, aside),) if aside else ()
    if facts.labels is not None or facts.types is None:
        return notices, None
    told, doubt = unread_labels(facts.types, subject=f"column {label!r} of {name}")
    return (*notices, *told), doubt


def _labelled(facts: RowFacts, read: ImageTable, label: str, name: str, options: OpenOptions) -> RowFacts:
    """Return `facts` with types and, where their meaning is known, labels."""
    values = read.columns[label]
    subject = f"column {label!r} of {name}"
    types = class_texts(values, read.class_names, subject=subject)
    labels = None
    remembered = options.remembered_normal(label, usual=_LABEL_COLUMN)
    normal = options.normal_label if remembered is None else remembered
    if normal is not None:
        # Either the number or the name of a class may be given; the number wins where "1" is also the name of class 0.
        by_number = label_text(normal) in set(label_texts(values, subject=subject))
        chosen = values if by_number or read.class_names is None else np.array(types)
        labels = binary_labels(chosen, subject=subject, normal_label=normal, strict=remembered is None, column=label)
    elif options.label_column is not None or (label == options.remembered.label_column and set(types) <= {"0", "1"}):
        labels = binary_labels(values, subject=subject, column=label)
    return replace(facts, labels=labels, types=types)


@dataclass(frozen=True)
class _FileRead:
    file: ImageFile
    paths: list[str | None]
    columns: dict[str, NDArray[Any]]
    class_names: list[str] | None


def _read_file(path: Path, image: str, columns: Sequence[str]) -> _FileRead:
    """Return the columns beside the images of one file, and which rows its row groups have."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as parquet:
        schema = parquet.schema_arrow
        for column in (image, *columns):
            if column not in schema.names:
                raise DataError(
                    f"{path.name} has no column {column!r}; its columns are {', '.join(schema.names)}.{did_you_mean(column, schema.names)}"
                )
        kind = schema.field(image).type
        is_struct = pa.types.is_struct(kind)
        named = is_struct and kind.get_field_index("path") >= 0
        file = _image_file(path, parquet.metadata, f"{image}.bytes" if is_struct else image)
        table = parquet.read(columns=[*columns, *([f"{image}.path"] if named else [])])
        values = {column: _column_values(table.column(column)) for column in columns}
        paths = pc.struct_field(table.column(image), "path").to_pylist() if named else [None] * file.n_rows
    if any(len(each) != file.n_rows for each in (paths, *values.values())):
        raise DataError(f"{path.name} does not hold as many rows as it says; write it again.")
    return _FileRead(file, paths, values, _class_names(schema, columns))


def _image_file(path: Path, metadata: Any, column: str) -> ImageFile:
    """Return which rows and how many bytes each row group has, as the file's end says.

    Nothing is asked of single columns there: on damaged statistics of theirs Arrow ends the process.
    """
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    rows, sizes = tuple(group.num_rows for group in groups), tuple(max(group.total_byte_size, 0) for group in groups)
    if min(rows, default=0) < 0 or sum(rows) != metadata.num_rows:
        raise DataError(f"{path.name} does not hold as many rows as it says; write it again.")
    return ImageFile(path, column, rows, sizes)


def _column_values(column: Any) -> NDArray[Any]:
    import pyarrow as pa

    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type):
        return np.asarray(column.to_numpy())
    return np.array(column.to_pylist(), dtype=object)


def _unique(paths: Sequence[str | None]) -> tuple[str, ...] | None:
    names = tuple(path for path in paths if isinstance(path, str) and path)
    return names if names and len(set(names)) == len(paths) else None


def _class_names(schema: "pa.Schema", columns: Sequence[str]) -> list[str] | None:
    """Return the class names that Hugging Face writes into a file's metadata for the first of `columns`, None if there are none."""
    try:
        names = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][columns[0]]["names"]
    except (KeyError, IndexError, TypeError, ValueError, RecursionError):
        return None
    return [str(name) for name in names] if isinstance(names, list) else None


def _is_binary(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
