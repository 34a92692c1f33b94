"""Verdicts in a table of scores: what ``insphere score --draw`` wrote, with the column verdict filled in, or the database of a service."""

import csv
import datetime
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from insphere.decision.verdicts import Verdict, answered_in_order, check_draw
from insphere.errors import DataError
from insphere.verdict_database import SUFFIXES, Origin, read_records

_NEEDED = ("row_id", "drawn", "verdict", "anomaly_score", "is_anomaly")
_YES, _NO = ("true", "1"), ("false", "0")


def read_verdicts(path: str | os.PathLike[str], key: str, fit_key: str = "") -> tuple[list[Verdict], int]:
    """Return the verdicts of a table, and how many drawn rows have none yet or come after one that has none.

    Parameters
    ----------
    path : path-like
        .csv, .jsonl or .parquet, with the columns row_id, drawn, verdict, anomaly_score, is_anomaly and, if there are any, category; or
        the .sqlite file of ``insphere serve --feedback``.
    key : str
        The model's: see `insphere.decision.verdicts.draw_number`.
    fit_key : str
        The model's, for a .sqlite file, which may hold the rows of several models: see `AbstractDetector.fit_key`.

    Raises
    ------
    DataError
        If it cannot be read, lacks a column, has no verdict, has a word that is not a verdict, or its draw was changed.
    """
    is_database = Path(path).suffix.lower() in SUFFIXES
    records = read_records(Path(path), Origin(key, fit_key)) if is_database else _records(Path(path))
    verdicts, n_waiting = verdicts_in(records, key, os.fspath(path))
    if not verdicts:
        remedy = "answer rows on the page /feedback of the service" if is_database else "fill in the column verdict"
        raise DataError(f"No row of {os.fspath(path)} has a verdict; {remedy}.")
    return verdicts, n_waiting


def verdicts_in(records: Sequence[Mapping[str, Any]], key: str, source: str) -> tuple[list[Verdict], int]:
    """Return the verdicts of records, and how many drawn rows have none yet or come after one that has none.

    Parameters
    ----------
    records : sequence of mappings
        In the order scored, with the columns that `read_verdicts` names.
    key : str
        See `read_verdicts`.
    source : str
        What they are from, for errors.

    Raises
    ------
    DataError
        If one has a word that is no verdict, or the draw was changed.
    """
    records = [record for record in records if record.get("row_id")]
    names = [str(record["row_id"]) for record in records]
    said = [_flag(record, "drawn", source) for record in records]
    check_draw(list(zip(names, said, strict=True)), key)
    words = [str(record.get("verdict") or "").strip().lower() or None for record in records]
    counts = answered_in_order(list(zip(said, words, strict=True)))
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    verdicts, n_waiting = [], 0
    for record, name, drawn, word, counted in zip(records, names, said, words, counts, strict=True):
        n_waiting += drawn and not counted
        if word is None:
            continue
        category = record.get("category")
        try:
            score = float(record["anomaly_score"])
        except (TypeError, ValueError) as error:
            raise DataError(f"Row {name} of {source} has a verdict and no score; leave its verdict empty.") from error
        flagged = _flag(record, "is_anomaly", source)
        of = None if category in (None, "") else str(category)
        verdicts.append(Verdict(name, word, score, flagged, counted, category=of, at=str(record.get("at") or now)))
    return verdicts, n_waiting


def _records(path: Path) -> Sequence[Mapping[str, Any]]:
    try:
        if path.suffix.lower() == ".parquet":
            import pyarrow.parquet as pq

            found: Sequence[Mapping[str, Any]] = pq.read_table(path).to_pylist()
        elif path.suffix.lower() == ".jsonl":
            found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        elif path.suffix.lower() == ".csv":
            with path.open(newline="", encoding="utf-8-sig") as file:
                found = list(csv.DictReader(file))
        else:
            raise DataError(
                f"{path} must end in .csv, .jsonl or .parquet, as the files that `insphere score --draw` writes, or in .sqlite, as the one"
                " of `insphere serve --feedback`."
            )
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    # Damaged files make readers raise anything.
    except Exception as error:
        raise DataError(f"{path} cannot be read as a table of scores: {error}.") from error
    if not found or not all(isinstance(record, Mapping) for record in found):
        raise DataError(f"{path} has no rows.")
    missing = [column for column in _NEEDED if column not in found[0]]
    if missing:
        raise DataError(f"{path} has no column {missing[0]!r}; write the scores with `insphere score --draw SHARE`, then fill in verdict.")
    return found


def _flag(record: Mapping[str, Any], column: str, source: str) -> bool:
    text = str(record.get(column)).strip().lower()
    if text not in (*_YES, *_NO):
        raise DataError(f"The column {column} of {source} must be true or false, got {text[:40]!r}.")
    return text in _YES
