"""Reports of attacks: one JSON file a run, and the compact table that documents are made from."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from insphere.errors import DataError

FORMAT_VERSION = 1
"""Version of the reports that are written and read here."""


def read_attack_reports(folder: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return all reports in a folder, sorted by their file names.

    Raises
    ------
    DataError
        If one cannot be read or is of another format version.
    """
    return [read_attack_report(path) for path in sorted(Path(folder).glob("*.json"))]


def read_attack_report(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the report in a JSON file.

    Raises
    ------
    DataError
        If it cannot be read or is of another format version.
    """
    try:
        report = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"Cannot read the report {path}: {error}. Delete it to have its run done again.") from error
    if not isinstance(report, dict) or report.get("format_version") != FORMAT_VERSION or "attacks" not in report:
        raise DataError(f"{path} is not a report of an attack of format version {FORMAT_VERSION}.")
    return report


_COLUMNS = (
    ("dataset", pa.string()), ("normal_class", pa.string()), ("method", pa.string()), ("label", pa.string()), ("control", pa.bool_()),
    ("seed", pa.int64()), ("attack", pa.string()), ("epsilon", pa.int64()), ("n_clean", pa.int64()), ("n_attacked", pa.int64()),
    ("n_draws", pa.int64()), ("auroc", pa.float64()), ("auroc_deviation", pa.float64()), ("auroc_low", pa.float64()),
    ("auroc_high", pa.float64()), ("fooled", pa.float64()), ("flagged", pa.float64()), ("false_alarm_rate", pa.float64()),
    ("classifier_accuracy", pa.float64()), ("fit_seconds", pa.float64()), ("health", pa.string()), ("error", pa.string()),
    ("commit", pa.string()), ("machine", pa.string()), ("device", pa.string()), ("versions", pa.string()),
)  # fmt: skip

SCHEMA = pa.schema(list(_COLUMNS))
"""Columns of the compact table: one row for every run, attack and epsilon; rates and areas in [0, 1]. A failed run has one row."""


def to_attack_table(reports: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Return the compact table of reports, columns as in `SCHEMA`."""
    rows = []
    for report in reports:
        environment = report["environment"]
        shared = {
            **report["run"],
            **environment,
            **{name: report[name] for name in ("n_clean", "n_attacked", "n_draws", "health", "error")},
        }
        shared |= {"classifier_accuracy": report["classifier_accuracy"], "false_alarm_rate": report["false_alarm_rate"]}
        shared |= {"fit_seconds": report["seconds"].get("fit")}
        rows += [{**shared, **attack} for attack in report["attacks"] or [{}]]
    return pa.Table.from_pylist([{name: row.get(name) for name in SCHEMA.names} for row in rows], schema=SCHEMA)
