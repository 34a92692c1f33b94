"""How far a training or a scoring has come: a bar on a terminal, a few lines elsewhere. All on standard error."""

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from insphere.cli import console
from insphere.training.history import EpochRecord

if TYPE_CHECKING:
    from insphere.benchmark.run.results import Report
    from insphere.benchmark.run.runner import Progress as RunProgress
    from insphere.scoring import BulkProgress

_LINES_IN_A_LOG = 5
_SECONDS_BETWEEN_LINES = 60.0  # at most, where nobody sees a bar and work goes on


class TrainingProgress:
    """Shows each finished epoch with its loss terms and the time left; `update` goes to ``fit(on_epoch=…)``, `count` to ``fit(on_rows=…)``.

    Attributes
    ----------
    last : EpochRecord or None
        The last finished epoch.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._console = console.messages()
        # The loss terms come last: on a narrow terminal they are cut off, and the time left is not.
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.fields[detail]}"))
        self._bar = Progress(*columns, console=self._console, transient=True) if self._console.is_terminal else None
        self.last: EpochRecord | None = None
        self._n_done = 0
        self._started = self._told = time.monotonic()

    def __enter__(self) -> Self:
        """Start the clock and the bar."""
        self._started = self._told = time.monotonic()
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task(self._title, total=None, detail="reading the rows")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()

    def update(self, record: EpochRecord) -> None:
        """Show one finished epoch."""
        self.last = record
        self._n_done += 1
        left = f"{console.duration(self._seconds_left(record))} left"
        detail = f"{record.epoch}/{record.n_epochs} · {left} · {_terms(record)}"
        if self._bar is not None:
            self._bar.update(self._task, completed=record.epoch, total=record.n_epochs, detail=detail)
        elif self._is_due(record):
            self._told = time.monotonic()
            console.say(f"{self._title}: epoch {detail}")

    def count(self, n_done: int, n_rows: int) -> None:
        """Show how many rows have been looked at, where there are no epochs."""
        passed = time.monotonic() - self._started
        detail = f"{n_done}/{n_rows} rows · {console.duration(passed / n_done * (n_rows - n_done))} left"
        if self._bar is not None:
            self._bar.update(self._task, completed=n_done, total=n_rows, detail=detail)
        elif time.monotonic() - self._told >= _SECONDS_BETWEEN_LINES:
            self._told = time.monotonic()
            console.say(f"{self._title}: {detail}")

    def _is_due(self, record: EpochRecord) -> bool:
        """Return whether a log gets a line: at each fifth of the epochs, and when it has had none for a while."""
        fifth = record.epoch * _LINES_IN_A_LOG // record.n_epochs != (record.epoch - 1) * _LINES_IN_A_LOG // record.n_epochs
        return fifth or time.monotonic() - self._told >= _SECONDS_BETWEEN_LINES

    def _seconds_left(self, record: EpochRecord) -> float:
        # Epochs of an interrupted run that this one goes on from took no time here, so they do not count.
        return (time.monotonic() - self._started) / self._n_done * (record.n_epochs - record.epoch)


class RowProgress:
    """Shows how many rows are scored; where standard error is not a terminal, a line now and then if it takes long."""

    def __init__(self, title: str, n_rows: int) -> None:
        self._console = console.messages()
        self._title, self._n_rows, self._n_done, self._told = title, n_rows, 0, time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total} rows"))
        self._bar = Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal)
        self._task = self._bar.add_task(title, total=n_rows)

    def __enter__(self) -> Self:
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Take the bar away."""
        self._bar.stop()

    def advance(self, n_rows: int) -> None:
        """Count rows that are done."""
        self._bar.advance(self._task, n_rows)
        self._n_done += n_rows
        if not self._console.is_terminal and time.monotonic() - self._told >= _SECONDS_BETWEEN_LINES:
            self._told = time.monotonic()
            console.say(f"{self._title}: {self._n_done} of {self._n_rows} rows")


class BulkRowProgress:
    """Shows how many images are scored, how many a second, and the time left; `update` goes to ``score_in_bulk(on_progress=…)``."""

    def __init__(self, title: str) -> None:
        self._title, self._console = title, console.messages()
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.fields[detail]}"))
        self._bar = Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal)
        self._task = self._bar.add_task(title, total=None, detail="listing, loading the model")
        self._told = time.monotonic()

    def __enter__(self) -> Self:
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Take the bar away."""
        self._bar.stop()

    def update(self, progress: "BulkProgress") -> None:
        """Show how far the run has come."""
        left = "" if progress.seconds_left is None else f" · {console.duration(progress.seconds_left)} left"
        errors = f" · {progress.n_errors} errors" if progress.n_errors else ""
        detail = f"{progress.n_done}/{progress.n_to_do} images · {progress.rows_per_second:.1f}/s{left}{errors}"
        self._bar.update(self._task, completed=progress.n_done, total=progress.n_to_do, detail=detail)
        if not self._console.is_terminal and time.monotonic() - self._told >= _SECONDS_BETWEEN_LINES:
            self._told = time.monotonic()
            console.say(f"{self._title}: {detail}")


class BenchmarkProgress:
    """Shows each finished run and the time left of all; `update` goes to ``benchmark(on_report=…)``.

    Parameters
    ----------
    n_runs, n_done : int
        Runs that are wanted, and those among them that are done already.
    """

    def __init__(self, n_runs: int, n_done: int) -> None:
        self._console = console.messages()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.completed}/{task.total} {task.fields[detail]}"),
        )
        self._bar = Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal)
        self._task = self._bar.add_task("runs", total=n_runs, completed=n_done, detail="")

    def __enter__(self) -> Self:
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Take the bar away."""
        self._bar.stop()

    def update(self, progress: "RunProgress") -> None:
        """Write a line about the run that was finished last."""
        left = "" if progress.seconds_left is None else f" · {console.duration(progress.seconds_left)} left"
        # On the bar's own console, which writes above it.
        self._console.print(Text(f"{progress.n_done}/{progress.n_runs} {_outcome(progress.report)}{left}"))
        self._bar.update(self._task, completed=progress.n_done, detail=left)


def _outcome(report: "Report") -> str:
    run = report.run
    name = f"{run.dataset} {run.normal_class} · {run.method} · seed {run.seed}"
    if report.status == "failed":
        return f"{name}: failed: {report.error}"
    auroc = report.metrics["auroc"]["value"]
    figure = "without AUROC" if auroc is None else f"AUROC {100 * auroc:.1f} %"
    return f"{name}: {figure} · {console.duration(sum(report.seconds.values()))}"


def _terms(record: EpochRecord) -> str:
    """Return the loss terms as text, the one minimised first."""
    ordered = sorted(record.terms.items(), key=lambda term: term[0] != "loss")
    return " ".join(f"{name} {value:.4g}" for name, value in ordered)
