"""Detection of attacked images as a table: methods in rows, strengths of the attack in columns, every AUROC with its interval."""

import csv
import dataclasses
import io
import math
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from insphere.benchmark.attacks.settings import ATTACKS
from insphere.benchmark.tables.cells import Column
from insphere.benchmark.tables.expected import Expected, ExpectedTable
from insphere.benchmark.tables.measured import distinct
from insphere.benchmark.tables.rendering import Grid, GridCell, comparison, html_of, markdown_of
from insphere.errors import DataError
from insphere.estimate import NORMAL_QUANTILE
from insphere.output_file import make_folder, replacing

TITLES = {
    "classifier": "one step against the classifier",
    "evasion": "white box: one step against classifier and detector together",
    "false-alarm": "white box: one step that raises the detector's own score",
}
"""What each attack is called above its part of the table."""

CSV_COLUMNS = (
    "table", "attack", "epsilon", "method", "label", "control", "n_seeds", "n_failed", "auroc", "auroc_low", "auroc_high", "fooled",
    "flagged", "published", "difference", "verdict",
)  # fmt: skip
"""Columns of the CSV form, one line for every attack, strength and method; percentages and points; empty where there is none."""


@dataclasses.dataclass(frozen=True)
class AttackCell:
    """What one method makes of one attack of one strength; all in percent.

    Attributes
    ----------
    n_seeds, n_failed : int
        Seeds of the detector that gave a value, and that failed.
    auroc : float or None
        Mean over seeds and drawn test sets; None where there is none.
    low, high : float or None
        What 95 % of single test sets of single seeds are expected to give: 1.96 standard deviations around the mean, the variance being
        that over draws plus that over seeds.
    fooled, flagged : float or None
        Attacked images that the classifier gets wrong, and that the detector flags.
    expected : float or None
        Published value.
    verdict : str
        "within" if the interval holds the published value, "above" or "below" if ours is higher or lower, else "not comparable".

    Examples
    --------
    >>> AttackCell(1, 0, 80.0, 70.0, 90.0, 50.0, 40.0, 83.5, "within").difference
    -3.5
    """

    n_seeds: int
    n_failed: int
    auroc: float | None
    low: float | None
    high: float | None
    fooled: float | None
    flagged: float | None
    expected: float | None
    verdict: str

    @property
    def difference(self) -> float | None:
        """Our mean minus the published value, in points; None where either is missing."""
        return None if self.auroc is None or self.expected is None else self.auroc - self.expected


@dataclasses.dataclass(frozen=True)
class AttackFrame:
    """A table of attacks, computed.

    Attributes
    ----------
    name, title : str
    columns : tuple of Column
        The methods.
    epsilons : tuple of int
        Strengths in pixel levels.
    cells : Mapping[tuple[str, int, str], AttackCell]
        By attack, strength and method; attacks that nobody can make of a method have no cell.
    failed : Mapping[str, str]
        Methods without any result, and why.
    notes : tuple of str
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    epsilons: tuple[int, ...]
    cells: Mapping[tuple[str, int, str], AttackCell]
    failed: Mapping[str, str]
    notes: tuple[str, ...]


def make_attack_frames(results: pa.Table, expected: Expected | None = None) -> list[AttackFrame]:
    """Compute one table for every attacked class.

    Parameters
    ----------
    results : pyarrow.Table
        Compact table of attacks, see `insphere.benchmark.attacks.reports.to_attack_table`.
    expected : Expected, optional
        Published values; the table of the data set with `attacked`.

    Raises
    ------
    DataError
        If columns are missing.
    """
    needed = {"dataset", "normal_class", "method", "label", "seed", "attack", "epsilon", "auroc", "auroc_deviation", "error"}
    missing = sorted(needed - set(results.column_names))
    if missing:
        raise DataError(f"The table of attacks lacks {', '.join(missing)}; give the compact table that the benchmark of attacks writes.")
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in results.to_pylist():
        groups.setdefault((str(row["dataset"]), str(row["normal_class"])), []).append(row)
    return [_frame(*name, rows, expected) for name, rows in groups.items()]


def write_attack_tables(results: pa.Table, out: str | os.PathLike[str], *, expected: Expected | None = None) -> list[Path]:
    """Write every table of attacks as Markdown, CSV and HTML to the folder `out`, and return the files.

    Raises
    ------
    DataError
        If columns are missing.
    OutputError
        If a file cannot be written.
    """
    folder, paths = make_folder(out), []
    for frame in make_attack_frames(results, expected):
        grids = grids_of(frame)
        texts = {"md": "\n".join(map(markdown_of, grids)), "csv": as_csv(frame), "html": html_of(grids)}
        for suffix, text in texts.items():
            path = folder / f"{frame.name}.{suffix}"
            with replacing(path) as handle:
                handle.write(text.encode())
            paths.append(path)
    return paths


def grids_of(frame: AttackFrame) -> list[Grid]:
    """Return a computed table as it is shown: one part for every attack."""
    grids = []
    for attack in ATTACKS:
        methods = [column for column in frame.columns if any((attack, level, column.method) in frame.cells for level in frame.epsilons)]
        rows = tuple((column.heading, tuple(_shown(frame, attack, level, column.method) for level in frame.epsilons)) for column in methods)
        if rows:
            levels = tuple(f"epsilon {level}/255" for level in frame.epsilons)
            notes = frame.notes if attack == ATTACKS[0] else (_fooled_note(frame, attack),)
            grids.append(Grid(f"{frame.title}: {TITLES[attack]}", "method", levels, rows, notes))
    return grids


def as_csv(frame: AttackFrame) -> str:
    """Return the table as CSV, one line for every cell, see `CSV_COLUMNS`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    columns = {column.method: column for column in frame.columns}
    for (attack, level, method), cell in frame.cells.items():
        numbers = (cell.auroc, cell.low, cell.high, cell.fooled, cell.flagged, cell.expected, cell.difference)
        texts = ["" if number is None else f"{number:.4f}" for number in numbers]
        column = columns[method]
        place = [frame.name, attack, level, method, column.label, str(column.control).lower(), cell.n_seeds, cell.n_failed]
        writer.writerow([*place, *texts, cell.verdict])
    return text.getvalue()


def _frame(dataset: str, normal_class: str, rows: Sequence[Mapping[str, Any]], expected: Expected | None) -> AttackFrame:
    name = f"attacks-{dataset}-{normal_class}"
    published = None if expected is None else expected.table_of(dataset, attacked=True)
    if published is None or normal_class not in published.rows:
        published = ExpectedTable(name, f"{dataset}, class {normal_class}, attacked", dataset, (), {}, {}, attacked=True)
    found = list(dict.fromkeys(str(row["method"]) for row in rows))
    methods = [*published.methods, *(method for method in found if method not in published.methods)]
    by_method = {method: [row for row in rows if row["method"] == method] for method in methods}
    columns = [_column(method, own, published) for method, own in by_method.items()]
    columns.sort(key=lambda column: column.control)
    epsilons = tuple(sorted({int(row["epsilon"]) for row in rows if row["epsilon"] is not None}))
    cells = {}
    for attack in ATTACKS:
        for method, own in by_method.items():
            n_failed = sum(row["auroc"] is None for row in own)
            value = published.value(normal_class, method) if attack == ATTACKS[0] else None
            for level in epsilons:
                here = [row for row in own if (row["attack"], row["epsilon"]) == (attack, level) and row["auroc"] is not None]
                if here or attack == ATTACKS[0]:
                    cells[attack, level, method] = _cell(here, n_failed, value)
    failed = {method: _failure(own) for method, own in by_method.items() if not any(row["auroc"] is not None for row in own)}
    notes = _notes(rows, failed, expected.source if expected is not None and published.rows else "")
    return AttackFrame(published.name, published.title, tuple(columns), epsilons, cells, failed, notes)


def _column(method: str, rows: Sequence[Mapping[str, Any]], published: ExpectedTable) -> Column:
    labels = [published.labels.get(method), *(row["label"] for row in rows)]
    return Column(method, next((label for label in labels if label), method), any(row.get("control") for row in rows))


def _failure(rows: Sequence[Mapping[str, Any]]) -> str:
    return distinct(row["error"] or "" for row in rows) or "not run"


def _cell(rows: Sequence[Mapping[str, Any]], n_failed: int, expected: float | None) -> AttackCell:
    if not rows:
        return AttackCell(0, n_failed, None, None, None, None, None, expected, "not comparable")
    means = [100 * float(row["auroc"]) for row in rows]
    mean = statistics.fmean(means)
    over_draws = statistics.fmean((100 * float(row["auroc_deviation"])) ** 2 for row in rows)
    over_seeds = statistics.variance(means) if len(means) > 1 else 0.0
    half = NORMAL_QUANTILE * math.sqrt(over_draws + over_seeds)
    low, high = max(0.0, mean - half), min(100.0, mean + half)
    fooled, flagged = (_share(rows, name) for name in ("fooled", "flagged"))
    return AttackCell(len(rows), n_failed, mean, low, high, fooled, flagged, expected, _judge(low, high, expected))


def _judge(low: float, high: float, expected: float | None) -> str:
    if expected is None:
        return "not comparable"
    return "within" if low <= expected <= high else "above" if low > expected else "below"


def _share(rows: Sequence[Mapping[str, Any]], name: str) -> float | None:
    shares = [100 * float(row[name]) for row in rows if row.get(name) is not None]
    return statistics.fmean(shares) if shares else None


def _shown(frame: AttackFrame, attack: str, level: int, method: str) -> GridCell:
    cell = frame.cells.get((attack, level, method))
    if cell is None or cell.auroc is None:
        reason = "failed" if cell is not None and cell.n_failed else "not run"
        compared = "" if cell is None else comparison(cell.expected, None, cell.verdict, n_digits=2)
        return GridCell(f"missing [{reason}]", compared, "missing")
    lacking = f" [{cell.n_failed} failed]" if cell.n_failed else ""
    compared = comparison(cell.expected, cell.difference, cell.verdict, n_digits=2)
    return GridCell(f"{cell.auroc:.1f} [{cell.low:.1f}, {cell.high:.1f}]{lacking}", compared, cell.verdict)


def _fooled_note(frame: AttackFrame, attack: str) -> str:
    """Return how often the classifier still errs, over the methods."""
    parts = []
    for level in frame.epsilons:
        shares = [cell.fooled for key, cell in frame.cells.items() if key[:2] == (attack, level) and cell.fooled is not None]
        if shares:
            parts.append(f"{level}/255 {statistics.fmean(shares):.0f} %")
    return f"Attacked images that the classifier gets wrong, mean over the methods: {', '.join(parts)}."


def _notes(rows: Sequence[Mapping[str, Any]], failed: Mapping[str, str], source: str) -> tuple[str, ...]:
    def values(name: str) -> str:
        return distinct(str(row[name]) for row in rows if row.get(name) not in (None, "")) or "unknown"

    def percent(row: Mapping[str, Any], name: str) -> str:
        return "" if row.get(name) is None else f"{100 * float(row[name]):.1f}"

    accuracy = distinct(percent(row, "classifier_accuracy") for row in rows) or "unknown"
    shares = {int(row["epsilon"]): percent(row, "fooled") for row in rows if row["attack"] == ATTACKS[0] and row["epsilon"] is not None}
    fooled = ", ".join(f"{level}/255 {share} %" for level, share in sorted(shares.items()))
    seeds = sorted({int(row["seed"]) for row in rows})
    notes = [
        "AUROC in percent, mean over seeds and drawn test sets, and the interval that 95 % of single test sets of single seeds are expected"
        f" in. A test set: {values('n_clean')} clean images and {values('n_attacked')} attacked ones; {values('n_draws')} are drawn.",
        f"The attacked classifier gets {accuracy} % of all test images right; under attack it errs on: {fooled or 'unknown'}.",
        f"Seeds of the detectors: {', '.join(map(str, seeds))}. Commit: {values('commit')}. Versions: {values('versions')}."
        f" Machine: {values('machine')}.",
    ]
    if source:
        notes.insert(
            1,
            f"In brackets: the published value ({source}), our difference to it in points, and whether our interval holds it: ≈ yes, ▲ ours"
            " is higher, ▼ lower, ? not comparable. The publication states neither the attacked network nor epsilon.",
        )
    notes += [f"No result of {method}: {reason}." for method, reason in failed.items() if reason != "not run"]
    return tuple(notes)
