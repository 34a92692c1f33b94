"""A table as it was read, before its columns get a meaning."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from insphere.data.columns import listed
from insphere.data.rows import Notice
from insphere.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class TableContent:
    """A table as it was read, before its columns get a meaning.

    Parameters
    ----------
    name : str
        What messages call it.
    table : pyarrow.Table
        Broken rows are there, without values.
    named : bool
        Whether the columns' names are the table's own.
    broken : mapping of int to str
        Row to the reason why it could not be read.
    lines : sequence of int
        Line of the file that each row is in; empty where that is not known.
    separator : str
        What cells are separated by.
    notices : tuple of Notice
        What was guessed at reading.

    Examples
    --------
    >>> import pyarrow as pa
    >>> content = TableContent("t.csv", pa.table({"volt": [1.0, 2.0]}), lines=[2, 3])
    >>> content.place(1)
    'line 3'
    """

    name: str
    table: "pa.Table"
    named: bool = True
    broken: Mapping[int, str] = field(default_factory=dict)
    lines: Sequence[int] = ()
    separator: str = ","
    notices: tuple[Notice, ...] = ()

    @cached_property
    def positions(self) -> dict[str, list[int]]:
        """Where the columns of each name are."""
        found: dict[str, list[int]] = {}
        for position, column in enumerate(self.table.column_names):
            found.setdefault(column, []).append(position)
        return found

    def place(self, row: int) -> str:
        """Return how a message names a row."""
        return f"line {self.lines[row]}" if self.lines else f"row {row}"

    def column(self, column: str) -> Any:
        """Return the values of the one column called so.

        Raises
        ------
        DataError
            If there are none or several.
        """
        found = self.positions.get(column, [])
        if not found:
            columns = self.table.column_names
            raise DataError(f"{self.name} has no column {column!r}; its columns are {listed(columns)}.{did_you_mean(column, columns)}")
        if len(found) > 1:
            raise DataError(f"{self.name} has {len(found)} columns named {column!r}; rename them.")
        return plain_column(self.table.column(found[0]))


def plain_column(values: Any) -> Any:
    """Return a column in the plain type of its values: categories and Arrow's other kinds of text as texts."""
    import pyarrow as pa
    import pyarrow.compute as pc

    types = pa.types
    if types.is_dictionary(values.type):
        values = pc.cast(values, values.type.value_type)
    return pc.cast(values, pa.string()) if types.is_string_view(values.type) or types.is_large_string(values.type) else values
