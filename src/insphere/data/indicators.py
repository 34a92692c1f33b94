"""A table's columns of words, found and replaced by indicators; see `insphere.data.one_hot`."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from insphere.data.columns import listed
from insphere.data.one_hot import OneHot, cell_text
from insphere.data.rows import Notice
from insphere.data.table_content import TableContent
from insphere.errors import DataError

MOST_VALUES = 100
"""Different values of a column beyond which it names rows (a serial number) rather than kinds of them."""


def find_values(content: TableContent, columns: Sequence[str]) -> tuple[OneHot, ...]:
    """Return the values of columns of words.

    Raises
    ------
    DataError
        If a column is not there, or has no value, or more than `MOST_VALUES`.

    Examples
    --------
    >>> import pyarrow as pa
    >>> find_values(TableContent("t.csv", pa.table({"colour": ["red", "blue", "red"]})), ["colour"])
    (OneHot(column='colour', values=('blue', 'red')),)
    """
    found = []
    for column in dict.fromkeys(columns):
        texts = _coded(content, column)[1]
        if not texts:
            raise DataError(f"column {column!r} of {content.name} is empty; leave it out of `one_hot` and of `columns`.")
        if len(texts) > MOST_VALUES:
            raise DataError(
                f"column {column!r} of {content.name} has {len(texts):,} different values, more than {MOST_VALUES}: it seems to name rows"
                " rather than kinds of them. Leave it out with `columns` (`--columns`), or bring its values to fewer kinds."
            )
        found.append(OneHot(column, tuple(sorted(texts))))
    return tuple(found)


def with_indicators(content: TableContent, one_hot: Sequence[OneHot]) -> tuple[TableContent, list[Notice]]:
    """Return the table with indicators in place of columns of words, and what is to be told of values that the fit did not see.

    Raises
    ------
    DataError
        If a column is missing, or the table has a column that is called as an indicator is.
    """
    import pyarrow as pa

    table, notices = content.table, []
    for entry in one_hot:
        codes, texts = _coded(content, entry.column)
        taken = [name for name in entry.names if name in content.positions]
        if taken:
            raise DataError(
                f"{content.name} has a column {taken[0]!r}, which is what the value {taken[0].partition('=')[2]!r} of column"
                f" {entry.column!r} is called; rename one of the two."
            )
        place = table.column_names.index(entry.column)
        table = table.remove_column(place)
        by_code = np.array([*(entry.indicators(text) for text in texts), (np.nan,) * len(entry.values)])
        for offset, name in enumerate(entry.names):
            table = table.add_column(place + offset, name, pa.array(by_code[codes, offset]))
        unknown = [code for code, text in enumerate(texts) if text not in entry.values]
        if unknown:
            n_rows = int(np.isin(codes, unknown).sum())
            text = (
                f"{n_rows} row{'s have' if n_rows > 1 else ' has'} a value in column {entry.column!r} of {content.name} that the fit did"
                f" not see ({listed([texts[code] for code in unknown])}): none of its known values is taken to hold."
            )
            notices.append(Notice("taken as", n_rows, text, tuple(texts[code] for code in unknown[:10])))
    return replace(content, table=table), notices


def _coded(content: TableContent, column: str) -> tuple[NDArray[np.int64], list[str]]:
    """Return the number of each row's value, −1 where it is missing, and the values."""
    import pyarrow as pa
    import pyarrow.compute as pc

    values = content.column(column)
    if pa.types.is_null(values.type) or not len(values):
        return np.full(len(values), -1), []
    coded = pa.chunked_array([pc.dictionary_encode(values).combine_chunks()]).chunk(0)
    try:
        of_dictionary = [cell_text(value) for value in coded.dictionary.to_pylist()]
    except UnicodeDecodeError as error:
        raise DataError(f"column {column!r} of {content.name} has text that is not UTF-8; write the table again in UTF-8.") from error
    texts = list(dict.fromkeys(text for text in of_dictionary if text is not None))
    numbers = {text: number for number, text in enumerate(texts)}
    # The last entry is that of missing cells, which have no place in the dictionary.
    of_code = np.array([*(-1 if text is None else numbers[text] for text in of_dictionary), -1])
    return of_code[pc.fill_null(coded.indices, len(of_dictionary)).to_numpy(zero_copy_only=False)], texts
