"""A journal of scored files that grows for weeks and survives a killed process: CSV, JSON lines, or a folder of Parquet parts."""

import csv
import dataclasses
import io
import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from insphere.errors import DataError, ParameterError, did_you_mean
from insphere.output_file import append_whole, check_writable, drop_torn_end, make_folder, replacing
from insphere.visible import csv_text, read_csv_text


@dataclasses.dataclass(frozen=True)
class Entry:
    """One scored file, or why there is no score.

    Attributes
    ----------
    path : str
        Relative to the watched folder, as `insphere.visible.written_name` writes it: what cannot be printed, and backslashes, are escapes.
    anomaly_score, p_value : float or None
    is_anomaly : bool or None
    error : str or None
        Why there is no score.
    n_bytes, modified_ns : int
        Size, and time of the last change in nanoseconds, of the file that was scored: with `path`, what it is known by.
    scored_at : str
        Time in UTC, ISO 8601.
    """

    path: str
    anomaly_score: float | None
    p_value: float | None
    is_anomaly: bool | None
    error: str | None
    n_bytes: int
    modified_ns: int
    scored_at: str


COLUMNS = tuple(field.name for field in dataclasses.fields(Entry))
"""Columns of a journal."""

_LONGEST_LINE = 1_000_000  # bytes; a path has at most some thousands
_PARTS_TO_MERGE = 64
_PART = re.compile(r"rows-(\d{12})-(\d{12})\.parquet")
_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("anomaly_score", pa.float64()),
        ("p_value", pa.float64()),
        ("is_anomaly", pa.bool_()),
        ("error", pa.string()),
        ("n_bytes", pa.int64()),
        ("modified_ns", pa.int64()),
        ("scored_at", pa.string()),
    ]
)


class AbstractJournal(ABC):
    """Entries in the order in which they were made; what `append` has returned from is on the disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def entries(self) -> Iterator[Entry]:
        """Yield all entries so far.

        Raises
        ------
        DataError
            If the file was not written by ``insphere watch``.
        """

    def clean_up(self) -> None:  # noqa: B027 - most kinds have nothing to clean up
        """Mend what a killed run left behind; only for whoever holds the lock, since a run that goes on needs what looks left over."""

    @abstractmethod
    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries; all of them, or on an error none.

        Raises
        ------
        OutputError
            If the disk refuses.
        """


class _AbstractLines(AbstractJournal):
    """A text file of one entry a line; a line without its end was never completed."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        if path.exists() and path.stat().st_size:
            self._check_own()  # before anything is cut off
            drop_torn_end(path)
        if not path.exists() or not path.stat().st_size:
            with replacing(path) as handle:
                handle.write(self._line(COLUMNS) if self._has_header else b"")

    _has_header: bool

    def _check_own(self) -> None:
        """Raise `DataError` if the first line is none of this journal's, nor the beginning of one."""
        with open(self.path, "rb") as handle:
            first = handle.readline(_LONGEST_LINE)
        if not (self._is_line(first) if first.endswith(b"\n") else self._may_become_line(first)):
            raise DataError(f"{self.path} was not written by insphere watch; name another file, or move it away.")

    @abstractmethod
    def _is_line(self, first: bytes) -> bool:
        """Tell whether this is the first line of such a journal."""

    @abstractmethod
    def _may_become_line(self, torn: bytes) -> bool:
        """Tell whether this is how the first line of such a journal begins."""

    @abstractmethod
    def _line(self, values: Iterable[Any]) -> bytes:
        """Return a line with its end."""

    @abstractmethod
    def _parsed(self, lines: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Yield the fields of each line."""

    def entries(self) -> Iterator[Entry]:
        with open(self.path, encoding="utf-8", newline="") as handle:
            try:
                for fields in self._parsed(handle):
                    yield Entry(**fields)
            except (ValueError, TypeError, KeyError, RecursionError, csv.Error) as error:
                raise DataError(
                    f"{self.path} was not written by insphere watch, or was changed since ({error}); name another file, or move it away."
                ) from error

    def append(self, entries: Sequence[Entry]) -> None:
        append_whole(self.path, b"".join(self._line(dataclasses.astuple(entry)) for entry in entries))


class _JsonLines(_AbstractLines):
    _has_header = False

    def _is_line(self, first: bytes) -> bool:
        try:
            return tuple(json.loads(first)) == COLUMNS
        except (ValueError, TypeError, RecursionError):
            return False

    def _may_become_line(self, torn: bytes) -> bool:
        begins = b'{"path": "'
        return begins.startswith(torn[: len(begins)])

    def _line(self, values: Iterable[Any]) -> bytes:
        return json.dumps(dict(zip(COLUMNS, values, strict=True)), ensure_ascii=False).encode() + b"\n"

    def _parsed(self, lines: Iterable[str]) -> Iterator[dict[str, Any]]:
        return map(json.loads, lines)


class _Csv(_AbstractLines):
    _has_header = True

    def _is_line(self, first: bytes) -> bool:
        return first == self._line(COLUMNS)

    def _may_become_line(self, torn: bytes) -> bool:
        return self._line(COLUMNS).startswith(torn)

    def _line(self, values: Iterable[Any]) -> bytes:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(map(_cell, values))
        return text.getvalue().encode()

    def _parsed(self, lines: Iterable[str]) -> Iterator[dict[str, Any]]:
        rows = csv.reader(lines, strict=True)
        header = next(rows, [])
        if tuple(header) != COLUMNS:
            raise ValueError(f"its columns are {', '.join(header)[:200]}")
        for row in rows:
            yield {name: _READ[name](cell) if cell else None for name, cell in zip(COLUMNS, row, strict=True)}


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return csv_text(value)
    return str(value).lower() if isinstance(value, bool) else value


_READ: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("path", "error", "scored_at"), read_csv_text),
    **dict.fromkeys(("n_bytes", "modified_ns"), int),
    **dict.fromkeys(("anomaly_score", "p_value"), float),
    "is_anomaly": {"true": True, "false": False}.__getitem__,
}


class _ParquetParts(AbstractJournal):
    """A folder of Parquet files, each complete or not there, which every reader of Parquet takes for one table.

    A Parquet file ends with its table of contents and cannot be appended to. Many small parts are merged into one, which is named by the
    rows that it holds: parts whose rows another one holds too were left by a merge that was cut off, and are removed.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        make_folder(path)
        self._n_rows = max((last for _, last, _ in self._found()), default=0)

    def clean_up(self) -> None:
        for part in self._left_over():
            part.unlink()
        self._n_rows = max((last for _, last, _ in self._found()), default=0)

    def _left_over(self) -> list[Path]:
        """Return the parts whose rows another one holds too."""
        held_up_to, found = 0, []
        for _, last, part in self._found():
            if last <= held_up_to:
                found.append(part)
            held_up_to = max(held_up_to, last)
        return found

    def entries(self) -> Iterator[Entry]:
        left_over = set(self._left_over())
        for _, _, part in self._found():
            if part in left_over:
                continue
            try:
                rows = pq.read_table(part, schema=_SCHEMA, partitioning=None).to_pylist()
                yield from (Entry(**fields) for fields in rows)
            except (OSError, ValueError, TypeError, pa.ArrowException) as error:
                raise DataError(f"{part} was not written by insphere watch, or was changed since; name another folder.") from error

    def append(self, entries: Sequence[Entry]) -> None:
        self._write(pa.Table.from_pylist([dataclasses.asdict(entry) for entry in entries], schema=_SCHEMA), self._n_rows + 1)
        self._n_rows += len(entries)
        self._merge()

    def _write(self, table: pa.Table, first: int) -> None:
        name = f"rows-{first:012d}-{first + table.num_rows - 1:012d}.parquet"
        with replacing(self.path / name) as handle:
            pq.write_table(table, handle)

    def _found(self) -> list[tuple[int, int, Path]]:
        """Return first row, last row and path of the parts; of those that begin alike, the longest first."""
        matches = [(_PART.fullmatch(part.name), part) for part in self.path.iterdir()]
        found = [(int(match[1]), int(match[2]), part) for match, part in matches if match]
        return sorted(found, key=lambda part: (part[0], -part[1]))

    def _merge(self) -> None:
        small = self._found()[-_PARTS_TO_MERGE:]
        # Sizes double with each merge, so a row is rewritten a few times only, however long the journal.
        if len(small) < _PARTS_TO_MERGE or small[0][1] - small[0][0] > 4 * (small[-1][1] - small[0][1]):
            return
        self._write(pa.concat_tables([pq.read_table(part, schema=_SCHEMA, partitioning=None) for _, _, part in small]), small[0][0])
        for _, _, part in small:
            part.unlink()


JOURNAL_SUFFIXES: dict[str, Callable[[Path], AbstractJournal]] = {".csv": _Csv, ".jsonl": _JsonLines, ".parquet": _ParquetParts}
"""Suffix of a journal, and what opens it."""


def open_journal(path: str | os.PathLike[str]) -> AbstractJournal:
    """Return the journal at `path`, with what was written to it before; its suffix says which kind it is.

    Raises
    ------
    ParameterError
        If the suffix is not .csv, .jsonl or .parquet.
    DataError
        If a file of another kind is there.
    OutputError
        If it cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     journal = open_journal(Path(folder) / "scores.csv")
    ...     journal.append([Entry("a.png", 1.5, 0.25, False, None, 90, 1, "2030-01-01T00:00:00+00:00")])
    ...     [entry.anomaly_score for entry in open_journal(Path(folder) / "scores.csv").entries()]
    [1.5]
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in JOURNAL_SUFFIXES:
        raise ParameterError(
            f"The journal must end in {', '.join(JOURNAL_SUFFIXES)} (the suffix chooses the format), got {os.fspath(path)!r}."
            f"{did_you_mean(suffix, JOURNAL_SUFFIXES)}"
        )
    if suffix == ".parquet" and path.is_file():
        raise DataError(f"{path} is one Parquet file, to which nothing can be appended; name a new folder, which will hold parts.")
    if suffix != ".parquet" or not path.exists():
        check_writable(path)
    return JOURNAL_SUFFIXES[suffix](path)
