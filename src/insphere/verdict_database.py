"""Rows that wait for a person's look, and what was said of them, in one SQLite file: a service writes it, ``insphere feedback`` reads it.

Every change is one transaction, so that a process killed at any moment leaves a whole file. Drawn rows stay for good, for the check of the
draw; of the others a bounded number waits.
"""

import contextlib
import datetime
import math
import os
import sqlite3
from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

from insphere.decision.verdicts import MAX_VERDICTS, Verdict
from insphere.errors import DataError, InsphereError, ParameterError
from insphere.validation import check_number

SUFFIXES = (".sqlite", ".sqlite3", ".db")
"""How the name of such a file ends."""

DEFAULT_SHARE = 0.02
"""Share of the rows that is drawn where none is asked for."""

MOST_UNANSWERED = 500
"""Rows of one model that were not drawn and wait for a verdict; beyond it the oldest of them are removed."""

MOST_KEPT = MAX_VERDICTS - MOST_UNANSWERED
"""Drawn or answered rows of one model; where it has them, no more are drawn and none is added, so that it never has too many verdicts."""

_CONTENTS_KEPT = 100  # of answered rows, the latest, for whoever takes an answer back
_PATIENCE = 2.0  # seconds to wait for another process
_APPLICATION = 0x1A5F8E7E  # says, in SQLite's own field for it, that the file is of this kind
_FORMAT = 1
_TABLES = (
    "CREATE TABLE draw (share REAL NOT NULL)",
    "CREATE TABLE rows (number INTEGER PRIMARY KEY AUTOINCREMENT, draw_key TEXT NOT NULL, fit_key TEXT NOT NULL, model TEXT NOT NULL,"
    " version TEXT NOT NULL, row_id TEXT NOT NULL, drawn INTEGER NOT NULL, category TEXT, anomaly_score REAL NOT NULL,"
    " p_value REAL NOT NULL, is_anomaly INTEGER NOT NULL, name TEXT, scored_at TEXT NOT NULL, verdict TEXT, at TEXT, content BLOB,"
    " UNIQUE (draw_key, fit_key, row_id))",
    "CREATE INDEX by_state ON rows (draw_key, fit_key, drawn, verdict)",
)
_OF = "draw_key = ? AND fit_key = ?"
_SHOWN = "row_id, drawn, category, anomaly_score, p_value, is_anomaly, name, scored_at, content"


class Origin(NamedTuple):
    """Whose rows: the key by which a model draws, and the fit that gave the scores; see `AbstractDetector.draw_key` and `fit_key`."""

    draw_key: str
    fit_key: str


class KeptRow(NamedTuple):
    """A scored row as it waits for a look.

    `content` is what a picture of it is made from, None once it is gone; `scored_at` is UTC.
    """

    row_id: str
    drawn: bool
    category: str | None
    anomaly_score: float
    p_value: float
    is_anomaly: bool
    name: str | None
    scored_at: str
    content: bytes | None


class KeptRows(NamedTuple):
    """Rows of one request: whose they are, under which name and version the model is served, and the rows in the order scored."""

    origin: Origin
    model: str
    version: str
    rows: Sequence[KeptRow]


class Queue(NamedTuple):
    """What waits for a look.

    `rows` are the next ones, drawn ones first in the order scored, then those whose p-value is nearest the target; `n_drawn` and
    `n_others` count all that have no verdict; `is_full` says that no more rows are kept.
    """

    rows: list[KeptRow]
    n_drawn: int
    n_others: int
    is_full: bool


class Noted(NamedTuple):
    """What became of a verdict.

    Attributes
    ----------
    problem : str, optional
        Why it is not noted.
    replaced : str, optional
        The other verdict on the row that it took the place of.
    """

    problem: str | None = None
    replaced: str | None = None


class VerdictDatabase:
    """The rows of several models that wait for a look, and the verdicts on them, in one file.

    Parameters
    ----------
    path : path-like
        Made if it is not there.
    share : float, optional
        Share of all rows that is drawn, in (0, 1]. Default: the file's own, or `DEFAULT_SHARE` for a new file.

    Raises
    ------
    ParameterError
        If the file was begun with another share: rows drawn by two shares could no longer be told from rows that people chose.
    DataError
        If the file cannot be written, or is none of this kind.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     VerdictDatabase(f"{folder}/line.sqlite", 0.1)
    ...     VerdictDatabase(f"{folder}/line.sqlite").share
    VerdictDatabase(share=0.1)
    0.1
    """

    def __init__(self, path: str | os.PathLike[str], share: float | None = None) -> None:
        self.path = Path(path)
        self.share = DEFAULT_SHARE if share is None else check_number("draw", share, above=0, at_most=1)
        if not self.path.parent.is_dir():
            raise DataError(f"The folder of {self.path} does not exist; make it, or name another file for --feedback.")
        with self._opened() as file:
            known = _share(file)
        if share is not None and known != self.share:
            raise ParameterError(
                f"{self.path} was begun with --draw {known:g}, got {self.share:g}: a changed share would break the check of the draw. Leave"
                " --draw out, or begin a new file."
            )
        self.share = known

    def __repr__(self) -> str:
        return f"{type(self).__name__}(share={self.share})"

    def add(self, batches: Sequence[KeptRows]) -> set[Origin]:
        """Keep rows, each once; return the models of which no more rows are kept, because they have `MOST_KEPT`.

        Raises
        ------
        DataError
            If the file cannot be written; then none is kept.
        """
        with self._opened(writes=True) as file:
            return {batch.origin for batch in batches if self._add(file, batch)}

    def _add(self, file: sqlite3.Connection, batch: KeptRows) -> bool:
        if _share(file) != self.share:
            raise DataError(f"{self.path} was replaced by a file with another share of drawn rows; put the old one back.")
        room = MOST_KEPT - _n_kept(file, batch.origin)
        drawn = [row for row in batch.rows if row.drawn][:room] if room > 0 else []
        others = [row for row in batch.rows if not row.drawn] if room > 0 else []
        values = [(*batch.origin, batch.model, batch.version, *row) for row in (*drawn, *others)]
        marks = ", ".join("?" * (4 + len(KeptRow._fields)))
        file.executemany(f"INSERT OR IGNORE INTO rows (draw_key, fit_key, model, version, {_SHOWN}) VALUES ({marks})", values)
        waits = f"{_OF} AND drawn = 0 AND verdict IS NULL"
        newest = f"SELECT number FROM rows WHERE {waits} ORDER BY number DESC LIMIT {MOST_UNANSWERED}"
        file.execute(f"DELETE FROM rows WHERE {waits} AND number NOT IN ({newest})", batch.origin * 2)
        return room <= len(drawn)

    def answer(self, origin: Origin, said: Sequence[tuple[str, str | None]], used: Set[str] = frozenset()) -> list[Noted]:
        """Note what was said of rows, in order; return for each what became of it.

        Parameters
        ----------
        origin : Origin
        said : sequence of (str, str or None)
            Row id, and one of `insphere.decision.verdicts.VERDICTS`, or None to take back what was said.
        used : set of str
            Rows whose verdicts are in the calibration already, and stay.

        Raises
        ------
        DataError
            If the file cannot be written; then nothing is noted.
        """
        with self._opened(writes=True) as file:
            noted = [self._answer(file, origin, row, word, used) for row, word in said]
            answered = f"{_OF} AND verdict IS NOT NULL"
            latest = f"SELECT number FROM rows WHERE {answered} ORDER BY at DESC, number DESC LIMIT {_CONTENTS_KEPT}"
            file.execute(
                f"UPDATE rows SET content = NULL WHERE {answered} AND content IS NOT NULL AND number NOT IN ({latest})", origin * 2
            )
            return noted

    def _answer(self, file: sqlite3.Connection, origin: Origin, row: str, word: str | None, used: Set[str]) -> Noted:
        asked = f"SELECT anomaly_score, is_anomaly, drawn, verdict FROM rows WHERE {_OF} AND row_id = ?"
        found = file.execute(asked, (*origin, row)).fetchone()
        if found is None:
            return Noted("No row of this id waits for a verdict, or has one; GET the feedback of the model lists those that do.")
        score, is_anomaly, drawn, before = found
        if row in used and word != before:
            return Noted("The verdict on this row is in the calibration already, and stays as it is.")
        if word is not None:
            try:
                Verdict(row, word, score, is_anomaly, drawn)
            except DataError as error:
                return Noted(str(error))
        at = None if word is None else _now()
        file.execute(f"UPDATE rows SET verdict = ?, at = ? WHERE {_OF} AND row_id = ?", (word, at, *origin, row))
        return Noted(replaced=None if word == before else before)

    def records(self, origin: Origin) -> list[dict[str, Any]]:
        """Return the rows of a model in the order scored, with the columns of a table of verdicts (`insphere.verdict_files`).

        Raises
        ------
        DataError
            If the file cannot be read.
        """
        columns = ("row_id", "drawn", "verdict", "anomaly_score", "is_anomaly", "category", "at")
        with self._opened() as file:
            asked = file.execute(f"SELECT {', '.join(columns)} FROM rows WHERE {_OF} ORDER BY number", origin)
            return [dict(zip(columns, record, strict=True)) for record in asked]

    def models(self) -> list[str]:
        """Return the names and versions under which the models were served whose rows are here."""
        with self._opened() as file:
            return [f"{name}@{version}" for name, version in file.execute("SELECT DISTINCT model, version FROM rows ORDER BY 1, 2")]

    def queue(self, origin: Origin, limit: int, target: float) -> Queue:
        """Return what waits for a look, at most `limit` rows of it.

        Parameters
        ----------
        origin : Origin
        limit : int
        target : float
            Share of normal rows that is flagged: a p-value near it is an uncertain decision.

        Raises
        ------
        DataError
            If the file cannot be read.
        """
        with self._opened() as file:
            waits = f"FROM rows WHERE {_OF} AND drawn = ? AND verdict IS NULL"
            (n_drawn,) = file.execute(f"SELECT COUNT(*) {waits}", (*origin, 1)).fetchone()
            first = file.execute(f"SELECT number {waits} ORDER BY number LIMIT ?", (*origin, 1, limit))
            numbers = [number for (number,) in first]
            others = file.execute(f"SELECT number, p_value {waits}", (*origin, 0)).fetchall()
            others.sort(key=lambda entry: (abs(math.log(max(entry[1], 1e-300) / target)), entry[0]))
            numbers += [number for number, _ in others[: limit - len(numbers)]]
            asked = (file.execute(f"SELECT {_SHOWN} FROM rows WHERE number = ?", (number,)).fetchone() for number in numbers)
            rows = [KeptRow._make(row)._replace(drawn=bool(row[1]), is_anomaly=bool(row[5])) for row in asked]
            return Queue(rows, n_drawn, len(others), _n_kept(file, origin) >= MOST_KEPT)

    @contextlib.contextmanager
    def _opened(self, *, writes: bool = False) -> Iterator[sqlite3.Connection]:
        """Give the open file within one transaction, which counts as a whole or, where anything fails, not at all.

        Opened for every transaction, so that a file that was moved, removed or mended meanwhile is noticed. Who only reads needs no right
        to write.
        """
        try:
            is_new = not self.path.exists() or not self.path.stat().st_size
            with contextlib.closing(sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None)) as file:
                file.execute("BEGIN IMMEDIATE" if writes or is_new else "BEGIN")
                self._prepare(file)
                yield file
                file.execute("COMMIT")
        except InsphereError:
            raise
        # A damaged file may hold values of any type in any place.
        except (sqlite3.Error, OSError, TypeError, ValueError) as error:
            raise DataError(
                f"The file of verdicts {self.path} cannot be read or written: {error}. Mend it, make room for it, or begin a new one."
            ) from error

    def _prepare(self, file: sqlite3.Connection) -> None:
        """Make the tables of a new file; refuse a file of another kind."""
        (application,), (version,) = (file.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version"))
        (n_tables,) = file.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        if not n_tables:
            for statement in _TABLES:
                file.execute(statement)
            file.execute("INSERT INTO draw VALUES (?)", (self.share,))
            file.execute(f"PRAGMA application_id = {_APPLICATION}")
            file.execute(f"PRAGMA user_version = {_FORMAT}")
        elif application != _APPLICATION:
            raise DataError(f"{self.path} is a database of another program; name another file.")
        elif version != _FORMAT:
            raise DataError(f"{self.path} has format {version}, but this version reads {_FORMAT}; read it with the version that wrote it.")


def read_records(path: Path, origin: Origin) -> list[dict[str, Any]]:
    """Return the rows of a model that are in a file of verdicts, in the order scored.

    Raises
    ------
    DataError
        If there is no such file, or it has no row that this model scored.
    """
    if not path.is_file():
        raise DataError(f"{path} cannot be read: there is no such file; name the one of `insphere serve --feedback`.")
    database = VerdictDatabase(path)
    found = database.records(origin)
    if not found:
        others = ", ".join(database.models()) or "no model at all"
        raise DataError(f"{path} has no row that this fit of the model has scored; it has rows of {others}. Name the model that is served.")
    return found


def _share(file: sqlite3.Connection) -> float:
    (share,) = file.execute("SELECT share FROM draw").fetchone()
    return float(share)


def _n_kept(file: sqlite3.Connection, origin: Origin) -> int:
    (n_drawn,) = file.execute(f"SELECT COUNT(*) FROM rows WHERE {_OF} AND drawn = 1", origin).fetchone()
    (n_others,) = file.execute(f"SELECT COUNT(*) FROM rows WHERE {_OF} AND drawn = 0 AND verdict IS NOT NULL", origin).fetchone()
    return int(n_drawn) + int(n_others)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
