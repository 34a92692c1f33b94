"""Parquet files as a source: images if a column holds encoded ones, else a table of numbers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from insphere.data.image_tables import image_column, open_image_table
from insphere.data.options import OpenOptions
from insphere.data.rows import AbstractSource
from insphere.data.table_content import TableContent
from insphere.data.tables import first_line, open_table, read_or_refuse, read_schema
from insphere.errors import DataError


def open_parquet(name: str, files: Sequence[Path], options: OpenOptions) -> AbstractSource:
    """Return the source of Parquet files: images if a column holds image bytes (Hugging Face layout), else the numeric columns.

    Of several files whose names begin with "train" and "test", a split reads its own.

    Raises
    ------
    DataError
        If a file cannot be read, the files do not fit together, or as `open_csv`.
    """
    import pyarrow as pa

    files = _of_split(name, files, options.split)
    schema = read_schema(files[0])
    parts = _row_parts(files)
    image = image_column(schema)
    if image is not None:
        return open_image_table(name, files, image, options, parts)
    tables = [read_or_refuse(file, _read) for file in files]
    try:
        table = pa.concat_tables(tables)
    except pa.ArrowInvalid as error:
        problem = f"the Parquet files of {name} do not have the same columns ({first_line(error)})"
        raise DataError(f"{problem}; write them with one schema.") from error
    return open_table(TableContent(name, table), options, parts)


def _read(path: Path) -> Any:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as parquet:
        return parquet.read()


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
