"""Reports of runs: one JSON file each, and the compact table that figures in documents are made from."""

import csv
import dataclasses
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from insphere.benchmark.run.run import Run
from insphere.errors import DataError
from insphere.output_file import replacing

FORMAT_VERSION = 1

REPORT_SUFFIX, SCORES_SUFFIX = ".json", ".scores.parquet"

_ENVIRONMENT = ("commit", "versions", "device", "machine", "n_threads", "concurrency", "together")

SCHEMA = pa.schema(
    [("run", pa.string()), ("dataset", pa.string()), ("normal_class", pa.string()), ("method", pa.string()), ("label", pa.string())]
    + [("control", pa.bool_()), ("seed", pa.int64()), ("status", pa.string()), ("error", pa.string())]
    + [(name, pa.float64()) for name in ("auroc", "auroc_low", "auroc_high", "average_precision", "fpr_at_95_tpr", "false_alarm_rate")]
    + [("fit_seconds", pa.float64()), ("score_seconds", pa.float64()), ("n_train", pa.int64()), ("n_test", pa.int64())]
    + [("n_parameters", pa.int64()), ("health", pa.string()), ("commit", pa.string()), ("machine", pa.string()), ("device", pa.string())]
    + [(name, pa.int64()) for name in ("n_threads", "concurrency", "together")]
    + [("versions", pa.string()), ("detector", pa.string())]
    + [("parameters", pa.string()), ("source", pa.string()), ("created", pa.string())]
)
"""Columns of the compact table, one row a run: rates and areas in [0, 1], times in seconds; what a failed run lacks is null."""


@dataclasses.dataclass(frozen=True)
class Report:
    """What one run gave.

    Attributes
    ----------
    run : Run
    status : {"ok", "failed"}
    error : str, optional
        Why it failed.
    metrics : mapping
        `Evaluation.to_json`: figures in [0, 1] as ``{"value", "low", "high"}``; empty of a failed run.
    seconds : mapping
        Of ``load``, ``fit`` and ``score``, as far as the run came.
    n_train, n_test : int, optional
        Rows that training was given, held-out ones included, and rows that were scored.
    radius, threshold : float, optional
        The radius of the training scores, and what decided.
    decision : str, optional
        "conformal" or "radius".
    health : mapping
        `HealthReport.to_json`; empty of a run that failed before.
    n_parameters : int, optional
        Numbers that the networks hold; None without networks.
    environment : mapping
        ``commit``, ``versions`` (of packages), ``device``, ``machine``, ``n_threads`` (of this run), ``concurrency`` (jobs at a
        time), ``together`` (runs that were fitted in one call and share its time).
    created : str
        When it ended, ISO 8601.
    n_errors : int
        Test rows that could not be read.
    """

    run: Run
    status: str
    error: str | None
    metrics: Mapping[str, Any]
    seconds: Mapping[str, float]
    n_train: int | None
    n_test: int | None
    radius: float | None
    threshold: float | None
    decision: str | None
    health: Mapping[str, Any]
    n_parameters: int | None
    environment: Mapping[str, Any]
    created: str
    n_errors: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON-able dict, the run's fields below ``run``."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {"format_version": FORMAT_VERSION, **fields, "run": {"id": self.run.id, **self.run.to_json()}}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Report":
        """Return the report that `to_json` described.

        Raises
        ------
        DataError
            If it is of another format version, or fields are missing or unknown.
        """
        version = record.get("format_version") if isinstance(record, Mapping) else None
        if version != FORMAT_VERSION:
            raise DataError(
                f"This is not a benchmark report of format version {FORMAT_VERSION}, which this insphere reads: it says {version!r}."
            )
        fields = {name: value for name, value in record.items() if name != "format_version"}
        try:
            run = Run.from_json({name: value for name, value in fields.pop("run").items() if name != "id"})
            return cls(run=run, **fields)
        except (AttributeError, KeyError, TypeError) as error:
            raise DataError(f"This is not a benchmark report: {error}.") from error


def report_path(folder: str | os.PathLike[str], run: Run) -> Path:
    """Return where the report of a run is, or will be; the run is done if and only if the file exists."""
    return Path(folder) / (run.id + REPORT_SUFFIX)


def scores_path(folder: str | os.PathLike[str], run: Run) -> Path:
    """Return where the scores of a run's test rows are, or will be."""
    return Path(folder) / (run.id + SCORES_SUFFIX)


def write_report(folder: str | os.PathLike[str], report: Report) -> Path:
    """Write a report, all or nothing, and return its path.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    path = report_path(folder, report.run)
    with replacing(path) as handle:
        handle.write((json.dumps(report.to_json(), indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode())
    return path


def read_report(path: str | os.PathLike[str]) -> Report:
    """Return the report in a JSON file.

    Raises
    ------
    DataError
        If it cannot be read or is not a report.
    """
    try:
        return Report.from_json(json.loads(Path(path).read_text(encoding="utf-8")))
    except OSError as error:
        raise DataError(f"Cannot read the report {path}: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:  # DataError is a ValueError, and so is JSON's
        raise DataError(f"{path}: {error} Delete the file to have its run done again.") from error


def read_reports(path: str | os.PathLike[str]) -> list[Report]:
    """Return all reports in a folder of JSON files, or in a compact table (.parquet, .csv), sorted by run.

    A compact table has no intervals but those of the AUROC, and of health the level only; what it lacks is missing in the reports too.

    Raises
    ------
    DataError
        If there is no such folder or file, or something in it is not a report.
    """
    path = Path(path)
    if path.is_dir():
        return sorted((read_report(file) for file in path.glob("*" + REPORT_SUFFIX)), key=_order)
    return [_from_row(row) for row in read_table(path).to_pylist()]


def to_table(reports: Iterable[Report]) -> pa.Table:
    """Return the compact table of reports, columns as in `SCHEMA`, one row a run."""
    return pa.Table.from_pylist([_row(report) for report in reports], schema=SCHEMA)


def write_table(path: str | os.PathLike[str], table: pa.Table) -> None:
    """Write a compact table as .parquet or .csv, by suffix, all or nothing.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    with replacing(path) as handle:
        if Path(path).suffix == ".parquet":
            pq.write_table(table, handle)
        else:
            text = io.StringIO(newline="")
            writer = csv.DictWriter(text, table.column_names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(table.to_pylist())
            handle.write(text.getvalue().encode())


def read_table(path: str | os.PathLike[str]) -> pa.Table:
    """Return the compact table in a .parquet or .csv file.

    Raises
    ------
    DataError
        If it cannot be read, or columns are missing.
    """
    path = Path(path)
    try:
        rows = pq.read_table(path).to_pylist() if path.suffix == ".parquet" else _csv_rows(path)
        return pa.Table.from_pylist(rows, schema=SCHEMA)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise DataError(
            f"Cannot read the benchmark results {path}: {error}. Give a folder of reports, or results.parquet or .csv."
        ) from error


def _csv_rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [{field.name: _parse(row[field.name], field.type) for field in SCHEMA} for row in csv.DictReader(file)]


def _parse(text: str, kind: pa.DataType) -> Any:
    if text == "":
        return None
    if pa.types.is_boolean(kind):
        return text == "True"
    return int(text) if pa.types.is_integer(kind) else float(text) if pa.types.is_floating(kind) else text


def _order(report: Report) -> tuple[Any, ...]:
    run = report.run
    return run.dataset, run.normal_class, run.method, run.seed, run.id


def _row(report: Report) -> dict[str, Any]:
    run, environment, metrics = report.run, report.environment, report.metrics
    auroc = metrics.get("auroc", {})
    return {
        **{name: getattr(run, name) for name in ("dataset", "normal_class", "method", "control", "seed", "detector")},
        **{name: getattr(report, name) for name in ("status", "error", "n_train", "n_test", "n_parameters", "created")},
        **{name: metrics.get(name, {}).get("value") for name in ("auroc", "average_precision", "fpr_at_95_tpr", "false_alarm_rate")},
        **{name: environment.get(name) for name in _ENVIRONMENT},
        "run": run.id,
        "label": run.label or None,  # CSV knows no empty text
        "auroc_low": auroc.get("low"),
        "auroc_high": auroc.get("high"),
        "fit_seconds": report.seconds.get("fit"),
        "score_seconds": report.seconds.get("score"),
        "health": report.health.get("level"),
        "versions": versions_text(environment.get("versions", {})),
        "parameters": json.dumps(run.parameters, sort_keys=True),
        "source": json.dumps(run.source, sort_keys=True),
    }


def versions_text(versions: Mapping[str, str]) -> str:
    """Return versions as tables have them.

    Examples
    --------
    >>> versions_text({"torch": "2.13.0", "python": "3.12.1"})
    'torch 2.13.0, python 3.12.1'
    """
    return ", ".join(f"{name} {number}" for name, number in versions.items())


def _from_row(row: Mapping[str, Any]) -> Report:
    names = ("dataset", "normal_class", "method", "detector", "seed", "label", "control")
    values: dict[str, Any] = {name: "" if row[name] is None else row[name] for name in names}
    run = Run(**values, parameters=json.loads(row["parameters"]), source=json.loads(row["source"]))
    metrics: dict[str, Any] = {name: {"value": row[name]} for name in ("average_precision", "fpr_at_95_tpr", "false_alarm_rate")}
    metrics["auroc"] = {"value": row["auroc"], "low": row["auroc_low"], "high": row["auroc_high"]}
    seconds = {name: row[f"{name}_seconds"] for name in ("fit", "score") if row[f"{name}_seconds"] is not None}
    environment = {name: row[name] for name in _ENVIRONMENT if name != "versions"}
    return Report(
        run=run,
        metrics=metrics if row["status"] == "ok" else {},
        seconds=seconds,
        health={} if row["health"] is None else {"level": row["health"]},
        environment=environment | {"versions": _versions(row["versions"] or "")},
        radius=None,
        threshold=None,
        decision=None,
        **{name: row[name] for name in ("status", "error", "n_train", "n_test", "n_parameters", "created")},
    )


def _versions(text: str) -> dict[str, str]:
    pairs: Sequence[tuple[str, str, str]] = [part.partition(" ") for part in text.split(", ") if part]
    return {name: number for name, _, number in pairs}
