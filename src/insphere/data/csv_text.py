"""The text of a CSV file: its encoding, the separator of its cells, and whether its first line has names. Rules, not statistics."""

import codecs
import csv
import re
from dataclasses import dataclass, field
from pathlib import Path

from insphere.data.cells import is_date, is_number, looks_like_data
from insphere.data.rows import Notice
from insphere.errors import DataError

_SEPARATORS = (",", ";", "\t", "|")
_SAID_SEPARATOR = re.compile(rb'"?sep=([,;\t|])"?\r?\n', re.IGNORECASE)
_SAMPLED_LINES = 200
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_LONGEST_LINE = 1 << 26

MAX_COLUMNS = 100_000
"""Columns of a CSV file at most: each costs time and memory of its own, however few rows there are."""


@dataclass(frozen=True)
class CsvText:
    r"""A CSV file as UTF-8, and how it is to be read.

    Parameters
    ----------
    data : bytes
        UTF-8 without a byte-order mark.
    separator : {",", ";", tab, "|"}
        The most frequent one in the first line; not the comma where it can only be the decimal sign.
    has_header : bool
        Whether the first line has the names of the columns.
    notices : list of Notice
        What was guessed.
    first_line : int
        Which line of the file `data` begins with; 2 after a line like ``sep=;``, with which Excel says the separator.

    Examples
    --------
    >>> read_text(b"volt;rpm\n1,5;900\n", "t.csv").separator
    ';'
    """

    data: bytes
    separator: str
    has_header: bool
    notices: list[Notice] = field(default_factory=list)
    first_line: int = 1

    def line_numbers(self, n_rows: int) -> list[int] | None:
        """Return the line of each of `n_rows` rows, header and broken rows included, counted from 1; None where quotes hold line breaks."""
        lines = [number for number, line in enumerate(self.data.split(b"\n"), self.first_line) if line.rstrip(b"\r")]
        return lines if len(lines) == n_rows else None


def read_text(data: bytes, name: str, header: bool | None = None) -> CsvText:
    """Return a CSV file's text; `header` says whether the first line has names, None leaves it to the rule of `_has_header`.

    Raises
    ------
    DataError
        If the first line is empty, or has more than 100,000 cells, or the bytes are not text.
    """
    data, notices = _as_utf8(data, name)
    _check_width(data, name)
    said = _SAID_SEPARATOR.match(data)
    data = data[said.end() :] if said else data
    first = data[:_LONGEST_LINE].partition(b"\n")[0].decode("utf-8", "replace").rstrip("\r")
    if not first.strip():
        raise DataError(f"{name} has an empty first line; give a CSV file with a header.")
    separator = said[1].decode() if said else _separator(first)
    if header is None:
        header, doubt = _has_header(_sample(data, separator), separator)
        if doubt:
            notices.append(Notice("taken as", 1, f"The first line of {name} {doubt}.", (first[:80],)))
    return CsvText(data, separator, header, notices, first_line=2 if said else 1)


def read_file(path: Path, header: bool | None = None) -> CsvText:
    """Return the text of the CSV file at `path`, as `read_text`."""
    return read_text(path.read_bytes(), path.name, header)


def _as_utf8(data: bytes, name: str) -> tuple[bytes, list[Notice]]:
    """Return the bytes as UTF-8 without a byte-order mark."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            try:
                return (data[len(mark) :], []) if encoding == "utf-8-sig" else (data.decode(encoding).encode(), [])
            except UnicodeDecodeError as error:
                raise DataError(f"{name} cannot be read as a table: it begins as UTF-16 but is not ({error.reason}).") from error
    if b"\x00" in data[:4096]:
        raise DataError(
            f"{name} cannot be read as a table: it has zero bytes, so it is not text, or UTF-16 without its mark; save it as UTF-8."
        )
    try:
        data.decode()
    except UnicodeDecodeError:
        told = f"{name} is not UTF-8; it is read as Latin-1 (western European). If names or texts look wrong, save it as UTF-8."
        return data.decode("latin-1").encode(), [Notice("taken as", 1, told)]
    return data, []


def _check_width(data: bytes, name: str) -> None:
    end = data.find(b"\n")
    n_cells = 1 + max(data.count(separator.encode(), 0, end if end >= 0 else len(data)) for separator in _SEPARATORS)
    if n_cells > MAX_COLUMNS:
        raise DataError(
            f"{name} has {n_cells:,} cells in its first line, and a CSV file may have {MAX_COLUMNS:,} columns; save the numbers with"
            " `np.save` as .npy, which takes any, or with rows and columns exchanged if that is what they are."
        )


def _separator(first: str) -> str:
    """Return the separator: the most frequent one, but not the comma where it can only be the decimal sign."""
    for separator in _SEPARATORS[1:]:
        if separator in first and all(looks_like_data(cell, separator) for cell in first.split(separator)):
            return separator
    return max(_SEPARATORS, key=first.count)


def _sample(data: bytes, separator: str) -> list[list[str]]:
    """Return the cells of the first lines."""
    lines = data[: 1 << 20].decode("utf-8", "replace").splitlines()[:_SAMPLED_LINES]
    if len(lines) < 2:
        lines = data[:_LONGEST_LINE].decode("utf-8", "replace").splitlines()[:2]
    try:
        return [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=separator) if row]
    except csv.Error:  # a cell longer than Python's reader takes
        return [[cell.strip().strip('"') for cell in line.split(separator)] for line in lines]


def _has_header(rows: list[list[str]], separator: str) -> tuple[bool, str]:
    """Return whether the first of some rows has names, and what is to be told of the guess ("" where there is no doubt).

    Cells that are numbers, dates or marks for "missing" alone are data, unless they count 0, 1, 2, ... With a text among them it is
    data where a cell is a decimal number or a date, or the text occurs again in its column; else it is a header.
    """
    first, later = rows[0], rows[1:]
    filled = [cell for cell in first if cell]
    if filled == [str(number) for number in range(len(filled))]:
        return True, ""
    numbers = [cell for cell in filled if is_number(cell, separator)]
    if not numbers and not any(map(is_date, filled)):
        return True, ""
    remedy = "say header=False (--no-header) if it is data"
    if all(looks_like_data(cell, separator) for cell in first):
        return False, "has numbers and no names, so it is taken as data; say header=True (--header) if the numbers are names"
    texts = [(column, cell) for column, cell in enumerate(first) if not looks_like_data(cell, separator)]
    again = any(len(row) > column and row[column] == cell for column, cell in texts for row in later)
    exact = any(not cell.lstrip("+-").isdecimal() for cell in numbers) or any(map(is_date, filled))
    if again or (exact and len(numbers) >= len(texts)):
        return False, "looks like the lines below it, so it is taken as data; say header=True (--header) if it has names"
    return True, f"has numbers among its names; {remedy}"
