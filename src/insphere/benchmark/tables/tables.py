"""Tables of results beside published values: normal classes in rows, methods in columns, every cell accounted for.

A table is computed once, as a `Frame`; Markdown, CSV and HTML (`insphere.benchmark.tables.rendering`) say the same of it.
"""

import math
import os
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from insphere.benchmark.run.run import PlannedRun
from insphere.benchmark.tables.cells import MEAN, Cell, Column, Frame
from insphere.benchmark.tables.expected import Expected, ExpectedTable
from insphere.benchmark.tables.measured import Measured, is_control, measured_runs, provenance
from insphere.benchmark.tables.rendering import as_csv, as_html, as_markdown
from insphere.output_file import make_folder, replacing

TOLERANCE = 2.5
"""Points of AUROC by which our mean may differ from a published one and still count as the same: retraining one method with nothing but
another seed has been seen to move its mean by 2.3 points on hard image classes."""

_NOT_IN_FILE_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


def judge(mean: float | None, expected: float | None, *, deviation: float | None = None, n_seeds: int = 1) -> str:
    """Return what a difference to a published value means, in a word.

    Parameters
    ----------
    mean, expected : float or None
        Ours and the published one, in percent.
    deviation : float, optional
        Standard deviation over seeds, in points.
    n_seeds : int
        Seeds that `mean` averages over.

    Returns
    -------
    str
        "within": they differ by at most `TOLERANCE` points. "above", "below": ours is higher or lower by more. "not comparable": either is
        missing, or the standard error of our mean exceeds `TOLERANCE`, so that no difference would say anything.

    Examples
    --------
    >>> judge(95.0, 95.9), judge(92.0, 95.9), judge(None, 95.9), judge(92.0, 95.9, deviation=9.0, n_seeds=4)
    ('within', 'below', 'not comparable', 'not comparable')
    """
    if mean is None or expected is None:
        return "not comparable"
    if deviation is not None and deviation / math.sqrt(n_seeds) > TOLERANCE:
        return "not comparable"
    difference = round(mean - expected, 6)  # the edge itself belongs to "within", whatever the last bits of the two are
    return "within" if abs(difference) <= TOLERANCE else "above" if difference > 0 else "below"


def make_frames(results: pa.Table, expected: Expected | None = None, planned: Iterable[PlannedRun] | None = None) -> list[Frame]:
    """Compute one table for every data set.

    Parameters
    ----------
    results : pyarrow.Table
        Compact table of results, see `insphere.benchmark.tables.measured.measured_runs`.
    expected : Expected, optional
        Published values. Its tables of attacked images are left to `insphere.benchmark.attacks.table`.
    planned : iterable of runs, optional
        All that were to be run: they say which rows and columns there are and how many seeds a cell should have. Without them, the rows
        and columns are those of the published table and the results, and a method should have the same seeds in every class.

    Raises
    ------
    DataError
        If the table of results cannot be used.

    Examples
    --------
    >>> columns = {"dataset": ["digits"] * 2, "normal_class": ["3"] * 2, "method": ["knn"] * 2, "seed": [0, 1], "auroc": [0.97, 0.99]}
    >>> (frame,) = make_frames(pa.table(columns))
    >>> frame.rows, frame.cells["mean", "knn"].mean
    (('3', 'mean'), 98.0)
    """
    runs, expected = measured_runs(results), expected or Expected("")
    plan = None if planned is None else list(planned)
    named = [table.dataset for table in expected.tables if not table.attacked] if plan is None else [run.dataset for run in plan]
    frames = []
    for dataset in dict.fromkeys([*named, *(run.dataset for run in runs)]):
        published = expected.table_of(dataset) or ExpectedTable(dataset, dataset, dataset, (), {}, {})
        own = [run for run in runs if run.dataset == dataset]
        frames.append(_frame(own, published, None if plan is None else [run for run in plan if run.dataset == dataset], expected.source))
    return frames


def write_tables(
    results: pa.Table,
    out: str | os.PathLike[str],
    *,
    expected: Expected | None = None,
    planned: Iterable[PlannedRun] | None = None,
) -> list[Path]:
    """Write every table as Markdown, CSV and HTML to the folder `out`, and return the files.

    Parameters
    ----------
    results, expected, planned
        As `make_frames`.
    out : path
        Folder, made if missing.

    Raises
    ------
    DataError
        If the table of results cannot be used.
    OutputError
        If a file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> columns = {"dataset": ["digits"], "normal_class": ["3"], "method": ["knn"], "seed": [0], "auroc": [0.97]}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [path.name for path in write_tables(pa.table(columns), folder)]
    ['digits.md', 'digits.csv', 'digits.html']
    """
    folder = make_folder(out)
    return [path for frame in make_frames(results, expected, planned) for path in write_frame(frame, folder)]


def write_frame(frame: Frame, folder: Path) -> list[Path]:
    """Write one table in its three forms to an existing folder, and return the files."""
    renderings: dict[str, Callable[[Frame], str]] = {"md": as_markdown, "csv": as_csv, "html": as_html}
    paths = []
    for suffix, render in renderings.items():
        path = folder / f"{_NOT_IN_FILE_NAMES.sub('-', frame.name)}.{suffix}"
        with replacing(path) as handle:
            handle.write(render(frame).encode())
        paths.append(path)
    return paths


def _frame(runs: Sequence[Measured], published: ExpectedTable, planned: Sequence[PlannedRun] | None, source: str) -> Frame:
    wanted = list(planned or ())
    classes = _in_order(wanted, runs, "normal_class", published.rows if planned is None else ())
    methods = _in_order(wanted, runs, "method", published.methods if planned is None else (), first=published.methods)
    columns = [_column(method, [run for run in runs if run.method == method], wanted, published) for method in methods]
    columns.sort(key=lambda column: column.control)
    cells: dict[tuple[str, str], Cell] = {}
    for column in columns:
        own = [run for run in runs if run.method == column.method]
        seeds = _planned_seeds(column.method, own, planned, classes)
        for name in classes:
            in_class = tuple(run for run in own if run.normal_class == name)
            cells[name, column.method] = _cell(in_class, len(seeds[name]), published.value(name, column.method))
        cells[MEAN, column.method] = _mean_cell({name: cells[name, column.method] for name in classes})
    notes = (*_reading_notes(bool(published.rows), source), *_gaps(columns, classes, published), *provenance(runs))
    return Frame(published.name, published.title, published.dataset, tuple(columns), (*classes, MEAN), cells, notes)


def _in_order(
    planned: Sequence[PlannedRun], runs: Sequence[Measured], field: str, published: Iterable[str], first: Sequence[str] = ()
) -> list[str]:
    """Return all names of a kind: published, planned, then any that only the results have; those in `first` before the others."""
    names = [*published, *(getattr(run, field) for run in planned), *(getattr(run, field) for run in runs)]
    unique = list(dict.fromkeys(names))
    return [name for name in first if name in unique] + [name for name in unique if name not in first]


def _column(method: str, runs: Sequence[Measured], planned: Sequence[PlannedRun], published: ExpectedTable) -> Column:
    own = [run for run in planned if run.method == method]
    labels = [published.labels.get(method), *(run.label for run in runs), *(getattr(run, "label", "") for run in own)]
    control = is_control(runs) or any(getattr(run, "control", False) for run in own)
    return Column(method, next((label for label in labels if label), method), control)


def _planned_seeds(
    method: str, runs: Sequence[Measured], planned: Sequence[PlannedRun] | None, classes: Sequence[str]
) -> dict[str, set[int]]:
    """Return the seeds that each class should have and those it has beside."""
    found = {name: {run.seed for run in runs if run.normal_class == name} for name in classes}
    if planned is None:
        everywhere = set().union(*found.values())
        return dict.fromkeys(classes, everywhere)
    return {name: found[name] | {run.seed for run in planned if (run.method, run.normal_class) == (method, name)} for name in classes}


def _cell(runs: tuple[Measured, ...], n_planned: int, expected: float | None) -> Cell:
    values = [100 * run.auroc for run in runs if run.auroc is not None]
    mean = statistics.fmean(values) if values else None
    deviation = statistics.stdev(values) if len(values) > 1 else None
    verdict = judge(mean, expected, deviation=deviation, n_seeds=max(1, len(values)))
    return Cell(len(values), len(runs) - len(values), n_planned, mean, deviation, expected, verdict, runs=runs)


def _mean_cell(cells: Mapping[str, Cell]) -> Cell:
    """Return the mean over the classes; its spread is that of the seeds' own means, over the seeds that every class has."""
    runs = tuple(run for cell in cells.values() for run in cell.runs)
    by_seed: dict[int, list[float]] = {}
    for run in runs:
        if run.auroc is not None:
            by_seed.setdefault(run.seed, []).append(100 * run.auroc)
    whole = [statistics.fmean(values) for values in by_seed.values() if len(values) == len(cells)]
    means = [cell.mean for cell in cells.values() if cell.mean is not None]
    published = [cell.expected for cell in cells.values() if cell.expected is not None]
    n_missing = len(cells) - len(means)
    mean = statistics.fmean(means) if means and not n_missing else None
    # A mean over other classes than ours would compare unlike things.
    expected = statistics.fmean(published) if published and len(published) == len(cells) else None
    deviation = statistics.stdev(whole) if len(whole) > 1 else None
    verdict = judge(mean, expected, deviation=deviation, n_seeds=max(1, len(whole)))
    n_failed = sum(cell.n_failed for cell in cells.values())
    n_planned = max((cell.n_planned for cell in cells.values()), default=0)
    return Cell(len(whole), n_failed, n_planned, mean, deviation, expected, verdict, n_missing, runs)


def _reading_notes(compared: bool, source: str) -> list[str]:
    numbers = "AUROC in percent: mean ± standard deviation over seeds; in the last row, over seeds, of the mean over the classes."
    if not compared:
        return [numbers]
    return [
        numbers,
        f"In brackets: the published value ({source}), our difference to it in points, and the verdict: ≈ within {TOLERANCE:g} points,"
        f" ▲ above, ▼ below, ? not comparable (no value of ours, or its standard error exceeds {TOLERANCE:g} points).",
    ]


def _gaps(columns: Sequence[Column], classes: Sequence[str], published: ExpectedTable) -> list[str]:
    """Name what was published and is not in the table, because it was not planned."""
    shown = {column.method for column in columns}
    methods = [published.labels[method] for method in published.methods if method not in shown]
    rows = [name for name in published.rows if name not in classes]
    listed = [f"{kind} {', '.join(names)}" for kind, names in (("methods", methods), ("classes", rows)) if names]
    return [f"Published, but not in this plan: {'; '.join(listed)}."] if listed else []
