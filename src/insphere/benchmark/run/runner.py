"""The runner: what is not done yet is done, and written as soon as it is; stopped at any point, it goes on from there."""

import dataclasses
import fnmatch
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from insphere.benchmark.run.engines import AbstractEngine, Job
from insphere.benchmark.run.execution import Workplace
from insphere.benchmark.run.results import REPORT_SUFFIX, SCORES_SUFFIX, Report, read_report, report_path, to_table, write_table
from insphere.benchmark.run.run import Run
from insphere.errors import InsphereError, ParameterError, did_you_mean
from insphere.output_file import check_writable, locked, make_folder

RUNS, RESULTS = "runs", ("results.parquet", "results.csv")


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a benchmark has come.

    Attributes
    ----------
    n_done, n_runs : int
        Runs with a report, and all that are wanted.
    seconds_left : float, optional
        Estimate for the rest; None while there is nothing to estimate from.
    report : Report
        Of the run that was finished last.
    """

    n_done: int
    n_runs: int
    seconds_left: float | None
    report: Report


class Pace:
    """Estimates the time that runs will take from that of finished ones: of the same method on the same data set if there are any."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, ...], list[float]] = {}

    def observe(self, report: Report) -> None:
        """Take note of a finished run."""
        total = sum(report.seconds.values())
        for key in self._keys(report.run):
            self._seconds.setdefault(key, []).append(total)

    def left(self, runs: Sequence[Run], concurrency: int) -> float | None:
        """Return the seconds that the runs will take together; None before the first report."""
        if not self._seconds:
            return None
        return sum(self._expected(run) for run in runs) / max(1, min(concurrency, len(runs)))

    def _expected(self, run: Run) -> float:
        known = next(self._seconds[key] for key in self._keys(run) if key in self._seconds)
        return sum(known) / len(known)

    @staticmethod
    def _keys(run: Run) -> tuple[tuple[str, ...], ...]:
        return (run.dataset, run.method), (run.method,), ()


def select(runs: Sequence[Run], patterns: Sequence[str]) -> list[Run]:
    """Return the runs that one of the patterns names, or all if there is no pattern.

    Parameters
    ----------
    runs : sequence of Run
    patterns : sequence of str
        Each has one or more parts with slashes between; each part is the name of a data set, normal class or method of the run, with
        ``*`` and ``?`` for any characters and any one: ``mnist``, ``mnist/8``, ``deep-svdd*/cifar10``.

    Raises
    ------
    ParameterError
        If a pattern names no run.

    Examples
    --------
    >>> runs = [Run("digits", name, method, "knn", {}, 0) for name in "38" for method in ("knn", "knn-20")]
    >>> [(run.normal_class, run.method) for run in select(runs, ["3/knn", "8/*-20"])]
    [('3', 'knn'), ('8', 'knn-20')]
    """
    if not patterns:
        return list(runs)
    for pattern in patterns:
        if not any(_matches(run, pattern) for run in runs):
            names = dict.fromkeys(name for run in runs for name in _names(run))
            raise ParameterError(f"`only` {pattern!r} names no run; there are {', '.join(names)}.{did_you_mean(pattern, names)}")
    return [run for run in runs if any(_matches(run, pattern) for pattern in patterns)]


def _names(run: Run) -> tuple[str, str, str]:
    return run.dataset, run.normal_class, run.method


def _matches(run: Run, pattern: str) -> bool:
    return all(any(fnmatch.fnmatchcase(name, part) for name in _names(run)) for part in pattern.split("/"))


def finished(runs: Sequence[Run], output: str | os.PathLike[str]) -> list[Report]:
    """Return the reports of those runs that have one, in the order of the runs.

    Raises
    ------
    DataError
        If a report is damaged.
    """
    paths = (report_path(Path(output) / RUNS, run) for run in runs)
    return [read_report(path) for path in paths if path.exists()]


def benchmark(
    runs: Sequence[Run],
    output: str | os.PathLike[str],
    engine: AbstractEngine,
    place: Workplace,
    *,
    retry_failed: bool = False,
    together: bool = False,
    on_report: Callable[[Progress], None] | None = None,
) -> list[Report]:
    """Do the runs that have no report yet and return the reports of all.

    Parameters
    ----------
    runs : sequence of Run
        As `Plan.runs` returns them; done in this order.
    output : path
        Folder, made if needed; reports and scores go to its folder ``runs``.
    engine : AbstractEngine
        What computes them.
    place : Workplace
        Data, threads, commit.
    retry_failed : bool
        Whether runs with a report of status "failed" are done again.
    together : bool
        Whether runs that differ in their seeds only are one job, fitted by `insphere.fit_many`. Stopped within it, all of them are done
        again.
    on_report : callable, optional
        Called after each report was written.

    Raises
    ------
    BenchmarkBusyError
        If another process is at work in the same folder.
    DataError
        If an existing report is damaged.
    OutputError
        If the disk refuses.
    """
    folder = make_folder(Path(output) / RUNS)
    check_writable(folder / "probe")
    with _alone_in(folder.parent):
        _clear(folder)
        pace, reports = Pace(), {report.run.id: report for report in finished(runs, output)}
        if retry_failed:
            reports = {name: report for name, report in reports.items() if report.status == "ok"}
        for report in reports.values():
            pace.observe(report)
        waiting = {run.id: run for run in runs if run.id not in reports}
        with closing(engine.finish(jobs_of(list(waiting.values()), together=together), place)) as results:
            for result in results:
                result.write(folder)
                report = result.report
                del waiting[report.run.id]
                reports[report.run.id] = report
                pace.observe(report)
                if on_report is not None:
                    left = pace.left(list(waiting.values()), place.concurrency)
                    on_report(Progress(len(reports), len(reports) + len(waiting), left, report))
    return [reports[run.id] for run in runs]


def jobs_of(runs: Sequence[Run], *, together: bool) -> list[Job]:
    """Return the runs as jobs: each alone, or those that differ in their seeds only as one, in the place of the first of them.

    Examples
    --------
    >>> runs = [Run("digits", name, "knn", "knn", {}, seed) for seed in range(2) for name in "38"]
    >>> [[f"{run.normal_class} {run.seed}" for run in job] for job in jobs_of(runs, together=True)]
    [['3 0', '3 1'], ['8 0', '8 1']]
    """
    groups: dict[object, list[Run]] = {}
    for run in runs:
        alike = json.dumps(dataclasses.replace(run, seed=0).to_json(), sort_keys=True) if together else run.id
        groups.setdefault(alike, []).append(run)
    return [tuple(group) for group in groups.values()]


def write_results(runs: Sequence[Run], output: str | os.PathLike[str]) -> list[Path]:
    """Write the compact table of those runs that are done, as results.parquet and results.csv, and return the paths.

    Raises
    ------
    DataError
        If a report is damaged.
    OutputError
        If the disk refuses.
    """
    table = to_table(finished(runs, output))
    paths = [make_folder(output) / name for name in RESULTS]
    for path in paths:
        write_table(path, table)
    return paths


class BenchmarkBusyError(InsphereError, RuntimeError):
    """Another process is at work in the same output folder."""


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep a second runner out, which would do the same runs; the operating system lifts the lock when this process ends, however."""
    busy = BenchmarkBusyError(f"Another benchmark is at work in {folder}. Wait for it, end it, or choose another output folder with -o.")
    with locked(folder / ".lock", busy):
        yield


def _clear(folder: Path) -> None:
    """Remove what a killed runner left: half-written files, and scores whose report was not written any more."""
    for path in folder.iterdir():
        half = path.name.startswith(".insphere-") and path.name.endswith(".partial")
        widowed = path.name.endswith(SCORES_SUFFIX) and not path.with_name(path.name.removesuffix(SCORES_SUFFIX) + REPORT_SUFFIX).exists()
        if half or widowed:
            with suppress(FileNotFoundError):
                path.unlink()
