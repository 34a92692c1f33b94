"""CSV files as a source: encoding, separator and header are found by stated rules, types from the whole file, broken lines told."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from insphere.data.arrays import ArraySource
from insphere.data.cells import DECIMAL_COMMAS, is_grouped_by_points, read_numbers
from insphere.data.csv_text import CsvText, read_file
from insphere.data.options import OpenOptions
from insphere.data.table_content import TableContent
from insphere.data.tables import open_table, read_or_refuse
from insphere.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_MOST_BROKEN = 0.5
"""Share of the lines that may be broken; beyond it the separator or the file is wrong."""


def open_csv(path: Path, options: OpenOptions) -> ArraySource:
    """Return the source of the numeric columns of a CSV file.

    Comma, semicolon, tab or bar, whichever is most frequent in the first line. UTF-8, UTF-16 with its mark, else Latin-1. A first line of
    numbers only is data, unless it counts 0, 1, 2, ..., which are then the columns' names. A line with more or fewer cells than the
    first is one row that cannot be read, and so is one with a cell that is not a number in a column of numbers.

    Raises
    ------
    DataError
        If it cannot be read, has no rows, or a column to be used does not have numbers.
    """
    table_spec = options.table_spec
    header = options.header if options.header is not None or table_spec is None else table_spec.header
    return open_table(_read(path, header), options)


def _read(path: Path, header: bool | None) -> TableContent:
    text = read_or_refuse(path, lambda path: read_file(path, header))
    try:
        table, broken = read_or_refuse(path, lambda _: (_parse(text), {}))
    except DataError as error:
        # Only then line by line, because that takes one thread and reads twice.
        if not re.search(r"Expected \d+ columns, got \d+", str(error)):
            raise
        table, broken = read_or_refuse(path, lambda _: _parse_around(text, path.name))
    if text.separator != ",":
        _refuse_groups_of_points(path.name, text, table)
    # A blank after the separator is not part of a name: "volt, rpm".
    table = table.rename_columns([column.strip() for column in table.column_names])
    lines = text.line_numbers(table.num_rows + text.has_header) or []
    return TableContent(
        path.name,
        table,
        named=text.has_header,
        broken=broken,
        lines=lines[1:] if text.has_header else lines,
        separator=text.separator,
        notices=tuple(text.notices),
    )


def _refuse_groups_of_points(name: str, text: CsvText, table: "pa.Table") -> None:
    """Refuse a column like 1.234, 2.500 where other columns have decimal commas: a point then parts groups of digits, as in 1.234,5.

    Arrow has read such a column as fractions, so its texts are looked at again.
    """
    import pyarrow as pa

    texts, fractions = (
        [position for position, field in enumerate(table.schema) if kind(field.type)] for kind in (pa.types.is_string, pa.types.is_floating)
    )
    if not fractions or not any(read_numbers(table.column(place), separator=text.separator).notation == DECIMAL_COMMAS for place in texts):
        return
    as_texts = _parse(text, lambda _: "skip", {table.column_names[position]: pa.string() for position in fractions})
    for position in fractions:
        if is_grouped_by_points(as_texts.column(position)):
            shown = next(cell for cell in as_texts.column(position).to_pylist() if cell and "." in cell)
            raise DataError(
                f"column {table.column_names[position]!r} of {name} has numbers like {shown!r} next to columns with decimal commas, so its"
                " points may part groups of digits or be decimal; write it without groups, or leave it out with `columns` (`--columns`)."
            )


def _parse(text: CsvText, on_invalid: Any = None, types: "dict[str, pa.DataType] | None" = None) -> "pa.Table":
    import pyarrow as pa
    from pyarrow import csv

    # No threads: a pool that is still starting when a short program ends aborts it, and of one block there is little to share.
    # One block, because types are inferred from the first one: 1, 2, 3 ... 1.5 must not fail in the second megabyte.
    block = min(max(len(text.data) + 1, 1 << 16), 1 << 30)
    return csv.read_csv(
        pa.BufferReader(text.data),
        read_options=csv.ReadOptions(block_size=block, autogenerate_column_names=not text.has_header, use_threads=False),
        parse_options=csv.ParseOptions(delimiter=text.separator, invalid_row_handler=on_invalid),
        convert_options=csv.ConvertOptions(column_types=types),
    )


def _parse_around(text: CsvText, name: str) -> "tuple[pa.Table, dict[int, str]]":
    """Return the rows with as many cells as the first line, with empty rows where the broken ones are, and what these are."""
    import pyarrow as pa

    found: list[tuple[int, str]] = []

    def note(row: Any) -> str:
        found.append((row.number, f"it has {row.actual_columns} cells instead of {row.expected_columns}"))
        return "skip"

    table = _parse(text, note)
    first = 2 if text.has_header else 1  # row numbers count from 1, the header among them
    broken = {number - first: why for number, why in found}
    n_rows = table.num_rows + len(broken)
    if len(broken) > _MOST_BROKEN * n_rows:
        row, why = next(iter(broken.items()))
        raise DataError(
            f"{name} cannot be read as a table: {len(broken)} of {n_rows} lines have another number of cells than the first line"
            f" (row {row}: {why}). Check that the cells are separated by {text.separator!r}."
        )
    places, next_row = [], 0
    for row in range(n_rows):
        places.append(None if row in broken else next_row)
        next_row += row not in broken
    return table.take(pa.array(places, pa.int64())), broken
