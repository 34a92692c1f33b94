"""Parquet files as a source: images if a column holds encoded ones, else a table of numbers."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from insphere.data.columns import listed
from insphere.data.image_tables import image_column, open_image_table
from insphere.data.options import OpenOptions
from insphere.data.rows import AbstractSource, Notice
from insphere.data.table_content import TableContent
from insphere.data.tables import first_line, open_table, read_or_refuse, read_schema
from insphere.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa


def open_parquet(name: str, files: Sequence[Path], options: OpenOptions) -> AbstractSource:
    """Return the source of Parquet files: images if a column holds image bytes (Hugging Face layout), else the numeric columns.

    Of several files whose names begin with "train" and "test", a split reads its own.

    Raises
    ------
    DataError
        If a file cannot be read, the files do not fit together, or as `open_csv`.
    """
    files = _of_split(name, files, options.split)
    schema = read_schema(files[0])
    parts = _row_parts(files)
    image = image_column(schema)
    if image is not None:
        return open_image_table(name, files, image, options, parts)
    folders = _folder_columns(files)
    used = {column for column in folders[0] if column in _asked_for(options)}
    tables = [_with_folders(read_or_refuse(file, _read), values, used) for file, values in zip(files, folders, strict=True)]
    aside = [column for column in folders[0] if column not in used]
    return open_table(TableContent(name, _joined(name, tables), notices=_told_folders(name, aside)), options, parts)


def partitioned_files(folder: Path) -> list[Path]:
    """Return the Parquet files below a folder whose subfolders are called ``column=value`` (Hive's layout), in order."""
    files = sorted(folder.rglob("*.parquet"))
    return [file for file in files if all("=" in part for part in file.relative_to(folder).parts[:-1])]


def _folder_columns(files: Sequence[Path]) -> list[dict[str, str]]:
    """Return, for each file, the columns that the folders it is in name, with their values."""
    found: list[dict[str, str]] = []
    for file in files:
        values: dict[str, str] = {}
        for part in reversed(file.parts[:-1]):
            column, equals, value = part.partition("=")
            if not equals:
                break
            values[column] = unquote(value)
        found.append(dict(reversed(values.items())))
    return found if len(files) > 1 and all(values.keys() == found[0].keys() for values in found) else [{} for _ in files]


def _asked_for(options: OpenOptions) -> set[str]:
    remembered = options.remembered
    named = [options.label_column, options.groups, options.category, remembered.label_column, remembered.groups, remembered.category]
    return {column for column in (*named, *(options.columns or ()), *(remembered.feature_names or ())) if column is not None}


def _with_folders(table: "pa.Table", values: Mapping[str, str], used: Collection[str]) -> "pa.Table":
    """Return the table with a column for each of the used ones that its folders name."""
    import pyarrow as pa

    for column in used:
        table = table.append_column(column, pa.array([values[column]] * table.num_rows, pa.string()))
    return table


def _told_folders(name: str, aside: Sequence[str]) -> tuple[Notice, ...]:
    if not aside:
        return ()
    text = (
        f"The folders of {name} are called by the values of {', '.join(map(repr, aside))}, which is left aside; to use it, name it in"
        " `columns` (--columns), `label_column` (--label-column), `groups` (--groups) or `category` (--category)."
    )
    return (Notice("left out", len(aside), text, tuple(aside)),)


def _joined(name: str, tables: "Sequence[pa.Table]") -> "pa.Table":
    """Return the rows of all tables, their columns matched by name."""
    import pyarrow as pa

    names = tables[0].column_names
    for table in tables[1:]:
        if sorted(table.column_names) != sorted(names):
            odd = sorted(set(table.column_names) ^ set(names))
            listing = listed(odd) if odd else "some are there twice"
            raise DataError(f"the Parquet files of {name} do not have the same columns ({listing}); write them with one schema.")
    alike = [table if table.column_names == names or len(set(names)) < len(names) else table.select(names) for table in tables]
    try:
        return pa.concat_tables(alike, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        problem = f"the Parquet files of {name} do not have the same columns ({first_line(error)})"
        raise DataError(f"{problem}; write them with one schema.") from error


def _read(path: Path) -> Any:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as parquet:
        table = parquet.read()
    table.validate(full=True)  # texts that are not UTF-8 are read as they are, and end whatever looks at them
    return table


def _part(file: Path) -> str:
    return next((part for part in ("train", "test") if file.name.lower().startswith(part)), "")


def _of_split(name: str, files: Sequence[Path], split: str) -> Sequence[Path]:
    if split == "all" or len(files) == 1 or not any(_part(file) for file in files):
        return files
    chosen = [file for file in files if _part(file) == split]
    if not chosen:
        raise DataError(f"the folder {name} has no Parquet file for the split {split!r}; it has {', '.join(file.name for file in files)}.")
    return chosen


def _row_parts(files: Sequence[Path]) -> list[str] | None:
    """Return the part of every row, None unless the files are of both parts."""
    import pyarrow.parquet as pq

    if {_part(file) for file in files} != {"train", "test"}:
        return None
    return [_part(file) for file in files for _ in range(read_or_refuse(file, pq.read_metadata).num_rows)]
