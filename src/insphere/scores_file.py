"""Scores as a file, row by row in input order: Parquet, CSV or JSON lines by suffix, complete or not there."""

import csv
import io
import json
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from insphere.errors import DataError, ParameterError, did_you_mean
from insphere.output_file import replacing
from insphere.visible import csv_text, one_line

Record = dict[str, Any]

_ARROW_TYPES = {"label": pa.int64, "adjusted_p_value": pa.float64, "is_discovery": pa.bool_, "drawn": pa.bool_}

_ROWS_PER_GROUP = 65_536  # of a Parquet file: one read of a few megabytes


class ScoredBatch(Protocol):
    """What a batch of scored rows must offer; `insphere.detectors` has the class."""

    @property
    def index(self) -> NDArray[np.int64]:
        """Positions of the scored rows in the source, increasing."""

    @property
    def anomaly_score(self) -> NDArray[np.float64]:
        """Score of each, higher = more anomalous."""

    @property
    def p_value(self) -> NDArray[np.float64]:
        """Conformal p-value of each, in (0, 1]."""

    @property
    def is_anomaly(self) -> NDArray[np.bool_]:
        """Whether each is flagged."""

    @property
    def errors(self) -> Mapping[int, str]:
        """Positions of the rows that could not be scored, and why."""


class ScoresFile:
    """Receives batches of scored rows and writes one record a row; made by `write_scores`.

    Attributes
    ----------
    n_scored, n_anomalies, n_errors : int
        Rows written so far: with a score, flagged among them, and without a score.
    """

    @property
    def n_guarded(self) -> int:
        """Cells of a CSV file that begin like a formula (= + - @) or an apostrophe, and have an apostrophe put before them."""
        return self._table.n_guarded

    def __init__(
        self, table: "_AbstractTable", ids: Sequence[str] | None, known: Mapping[str, Sequence[Any]], further: Sequence[str] = ()
    ) -> None:
        self._table, self._ids, self._known, self._further = table, ids, known, further
        self.n_scored = self.n_anomalies = self.n_errors = 0

    def append(self, batch: ScoredBatch, columns: Mapping[str, Sequence[Any]] | None = None) -> None:
        """Write the rows of the next batch, scored or not, in the order of the source.

        Parameters
        ----------
        batch : ScoredBatch
        columns : mapping of str to sequence, optional
            For each of the further columns that `write_scores` was told of, one value for each scored row of the batch.

        Raises
        ------
        DataError
            If the batch does not go on where the last one ended.
        OutputError
            If the disk refuses.
        """
        records = self._records(batch)
        expected = range(self.n_scored + self.n_errors, self.n_scored + self.n_errors + len(records))
        if sorted(records) != list(expected):
            raise DataError(f"A batch of scores must go on at row {expected.start} and leave out no row, got rows {sorted(records)[:5]} ….")
        for column in self._further:
            values = iter(() if columns is None else columns[column])
            for row in expected:
                records[row][column] = next(values) if records[row]["error"] is None else None
        self._table.write([records[row] | {column: values[row] for column, values in self._known.items()} for row in expected])
        self.n_scored += len(batch.index)
        self.n_anomalies += int(np.count_nonzero(batch.is_anomaly))
        self.n_errors += len(batch.errors)

    def _records(self, batch: ScoredBatch) -> dict[int, Record]:
        name = "row" if self._ids is None else "path"
        empty = {"anomaly_score": None, "p_value": None, "is_anomaly": None}
        records: dict[int, Record] = {
            row: {name: self._identity(row), **empty, "error": one_line(text)} for row, text in batch.errors.items()
        }
        columns = (batch.index.tolist(), batch.anomaly_score.tolist(), batch.p_value.tolist(), batch.is_anomaly.tolist())
        for row, score, p_value, flagged in zip(*columns, strict=True):
            record = {"anomaly_score": score, "p_value": p_value, "is_anomaly": flagged, "error": None}
            records[row] = {name: self._identity(row), **record}
        return records

    def _identity(self, row: int) -> str | int:
        return row if self._ids is None else one_line(self._ids[row])


@contextmanager
def write_scores(
    path: str | os.PathLike[str],
    *,
    ids: Sequence[str] | None = None,
    labels: Sequence[int] | NDArray[np.int64] | None = None,
    types: Sequence[str] | None = None,
    categories: Sequence[str | None] | None = None,
    further: Sequence[str] = (),
) -> Iterator[ScoresFile]:
    """Write scores to `path` while the block lasts; the file appears, complete, when the block ends well.

    Columns: `path` (the row's identifier) or `row` (its number, where the source has no identifiers), `anomaly_score` (higher = more
    anomalous), `p_value`, `is_anomaly` (true/false), `error` (why a row has no score; the three before it are then null), and, where
    they are given, `label` (0 normal, 1 anomaly), `type` and `category`. What cannot be printed in texts is written as escapes, and in CSV
    a text that begins with = + - @ or an apostrophe has an apostrophe before it, so that no spreadsheet takes it for a formula.

    Parameters
    ----------
    path : path-like
        Its suffix chooses the format: .parquet, .csv or .jsonl.
    ids : sequence of str, optional
        Identifier of every row of the source.
    labels : sequence of int, optional
        What every row is known to be: 0 normal, 1 anomaly.
    types : sequence of str, optional
        Class or defect type of every row.
    categories : sequence of str or None, optional
        Camera, product or shift by which every row was judged; None where all together were.
    further : sequence of str
        Names of columns whose values come with each batch: see `ScoresFile.append`.

    Raises
    ------
    ParameterError
        If the suffix is none of the three.
    OutputError
        If the file cannot be written; nothing is left behind.

    Examples
    --------
    >>> import tempfile, types
    >>> batch = types.SimpleNamespace(index=np.array([0]), anomaly_score=np.array([1.5]), p_value=np.array([0.25]),
    ...                               is_anomaly=np.array([False]), errors={1: "not an image"})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with write_scores(Path(folder) / "scores.csv", ids=["a.png", "b.png"]) as file:
    ...         file.append(batch)
    ...     print((Path(folder) / "scores.csv").read_text())
    path,anomaly_score,p_value,is_anomaly,error
    a.png,1.5,0.25,false,
    b.png,,,,not an image
    """
    make_table = check_suffix(path)
    known: dict[str, Sequence[Any]] = {} if labels is None else {"label": [int(label) for label in labels]}
    if types is not None:
        known["type"] = [one_line(text) for text in types]
    if categories is not None:
        known["category"] = [None if text is None else one_line(text) for text in categories]
    with replacing(path) as handle:
        table = make_table(handle, "row" if ids is None else "path", (*further, *known))
        try:
            yield ScoresFile(table, ids, known, further)
            table.close()
        except BaseException:
            table.abandon()
            raise


def check_suffix(path: str | os.PathLike[str]) -> "Callable[[BinaryIO, str, Sequence[str]], _AbstractTable]":
    """Return what writes the format that the suffix of `path` names.

    Raises
    ------
    ParameterError
        If the suffix is not .parquet, .csv or .jsonl.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        found = f"the suffix {suffix!r}" if suffix else "no suffix"
        raise ParameterError(
            f"The scores file must end in {', '.join(FORMATS)} (the suffix chooses the format), got {os.fspath(path)!r} with {found}."
            f"{did_you_mean(suffix, FORMATS)}"
        )
    return FORMATS[suffix]


class _AbstractTable(ABC):
    """A table in one file format, written in pieces."""

    n_guarded = 0

    @abstractmethod
    def write(self, records: Sequence[Record]) -> None:
        """Add rows."""

    @abstractmethod
    def close(self) -> None:
        """Complete the table; the file handle stays open."""

    @abstractmethod
    def abandon(self) -> None:
        """Let go of the file handle, whose content is thrown away."""


class _CsvTable(_AbstractTable):
    def __init__(self, handle: BinaryIO, identity: str, known: Sequence[str]) -> None:
        self._text = io.TextIOWrapper(handle, encoding="utf-8", newline="", write_through=True)
        self._writer = csv.writer(self._text, lineterminator="\n")
        self._writer.writerow([identity, "anomaly_score", "p_value", "is_anomaly", "error", *known])

    def write(self, records: Sequence[Record]) -> None:
        self._writer.writerows([self._cell(value) for value in record.values()] for record in records)

    def _cell(self, value: object) -> object:
        if isinstance(value, str):
            guarded = csv_text(value)
            self.n_guarded += guarded != value
            return guarded
        return str(value).lower() if isinstance(value, bool) else value

    def close(self) -> None:
        self._text.flush()
        self.abandon()

    def abandon(self) -> None:
        with suppress(OSError):
            self._text.detach()


class _JsonLinesTable(_AbstractTable):
    def __init__(self, handle: BinaryIO, identity: str, known: Sequence[str]) -> None:
        self._handle = handle

    def write(self, records: Sequence[Record]) -> None:
        lines = [json.dumps({name: self._cell(value) for name, value in record.items()}, ensure_ascii=False) for record in records]
        self._handle.write("".join(line + "\n" for line in lines).encode())

    @staticmethod
    def _cell(value: object) -> object:
        # JSON has neither NaN nor infinity.
        return None if isinstance(value, float) and not math.isfinite(value) else value

    def close(self) -> None:
        """Nothing is held back."""

    def abandon(self) -> None:
        """Nothing is held."""


class _ParquetTable(_AbstractTable):
    def __init__(self, handle: BinaryIO, identity: str, known: Sequence[str]) -> None:
        fields = [(identity, pa.int64() if identity == "row" else pa.string()), ("anomaly_score", pa.float64())]
        fields += [("p_value", pa.float64()), ("is_anomaly", pa.bool_()), ("error", pa.string())]
        fields += [(name, _ARROW_TYPES.get(name, pa.string)()) for name in known]
        self._schema = pa.schema(fields)
        self._writer = pq.ParquetWriter(handle, self._schema)
        self._waiting: list[Record] = []

    def write(self, records: Sequence[Record]) -> None:
        self._waiting.extend(records)
        if len(self._waiting) >= _ROWS_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        self._writer.write_table(pa.Table.from_pylist(self._waiting, schema=self._schema))
        self._waiting.clear()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def abandon(self) -> None:
        # Otherwise the writer's destructor would add a footer to a file that is gone, and complain.
        self._writer.is_open = False


FORMATS: dict[str, Callable[[BinaryIO, str, Sequence[str]], _AbstractTable]] = {
    ".parquet": _ParquetTable,
    ".csv": _CsvTable,
    ".jsonl": _JsonLinesTable,
}
"""Suffix of a file of scores, and what writes it."""
