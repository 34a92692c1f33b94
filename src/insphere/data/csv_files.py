"""CSV files as a source: separator and header are found by a stated rule, types from the whole file."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from insphere.data.arrays import ArraySource
from insphere.data.options import OpenOptions
from insphere.data.tables import is_number, open_table, read_or_refuse
from insphere.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_SEPARATORS = (",", ";", "\t")


def open_csv(path: Path, options: OpenOptions) -> ArraySource:
    """Return the source of the numeric columns of a CSV file.

    Comma, semicolon or tab, whichever is most frequent in the first line. A first line of numbers only is data, unless it counts
    0, 1, 2, ..., which are then the columns' names.

    Raises
    ------
    DataError
        If it cannot be read, has no rows, or a column to be used is no number.
    """
    return open_table(path.name, _read_csv(path), options)


def _read_csv(path: Path) -> "pa.Table":
    from pyarrow import csv

    def read(path: Path) -> Any:
        with path.open("rb") as file:
            first = file.readline(1 << 20).decode("utf-8-sig", "replace").rstrip("\r\n")
        if not first.strip():
            raise DataError(f"{path.name} has an empty first line; give a CSV file with a header.")
        separator = max(_SEPARATORS, key=first.count)
        cells = [cell.strip().strip('"') for cell in first.split(separator)]
        # One block, because types are inferred from the first one: 1, 2, 3 ... 1.5 must not fail in the second megabyte.
        block = min(max(path.stat().st_size + 1, 1 << 16), 1 << 30)
        table = csv.read_csv(
            path,
            read_options=csv.ReadOptions(block_size=block, autogenerate_column_names=_is_data(cells)),
            parse_options=csv.ParseOptions(delimiter=separator),
        )
        # Names that are not UTF-8 fail when they are asked for, so that is done here, where the failure is this file's.
        if not table.column_names:
            raise DataError(f"{path.name} has no columns.")
        return table

    return read_or_refuse(path, read)


def _is_data(cells: list[str]) -> bool:
    """Return whether a first line holds data: numbers only (empty cells aside), and not the count 0, 1, 2, ... of columns."""
    filled = [cell for cell in cells if cell]
    return bool(filled) and all(is_number(cell) for cell in filled) and filled != [str(number) for number in range(len(filled))]
