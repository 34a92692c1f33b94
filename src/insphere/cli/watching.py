"""``insphere watch``: files are scored as they arrive."""

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from insphere.cli import console, options

if TYPE_CHECKING:
    from insphere.watching import WatchSummary
    from insphere.watching.journal import Entry

_TELLING = "Who is told of anomalies and drift"


def watch(
    model: options.Model,
    folder: Annotated[Path, typer.Argument(metavar="DIR", show_default=False, help="Folder to watch, with the folders below it.")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="JOURNAL", help="Where the scores go: .csv or .jsonl, or .parquet, a folder of parts."),
    ] = Path("scores.csv"),
    webhook: Annotated[
        list[str] | None,
        typer.Option("--webhook", metavar="URL", show_default=False, rich_help_panel=_TELLING, help="POST each event there as JSON."),
    ] = None,
    command: Annotated[
        list[str] | None,
        typer.Option(
            "--command",
            metavar="CMD",
            show_default=False,
            rich_help_panel=_TELLING,
            help="Run this for each anomaly, without a shell: 'alarm --file {path} --score {score}'. Also {p_value}; with {event}, which is"
            " anomaly or drift, for drift too.",
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Score what is there and end, instead of waiting for more.")] = False,
    poll: Annotated[float, typer.Option("--poll", metavar="SECONDS", help="Time between two looks at the folder.")] = 1.0,
    tolerated_share: Annotated[
        float, typer.Option("--tolerated-share", metavar="SHARE", help="Share of odd images, 0 to 0.5, that is not a drift yet.")
    ] = 0.05,
    require_signature: options.RequireSignature = None,
    fdr: Annotated[
        float | None,
        typer.Option(
            "--fdr",
            metavar="RATE",
            show_default=False,
            rich_help_panel=_TELLING,
            help="Tell of so few images that at most this share of the alarms in a window are false, on average. Default: tell of every"
            " flagged image.",
        ),
    ] = None,
    fdr_window: Annotated[
        int, typer.Option("--fdr-window", metavar="N", rich_help_panel=_TELLING, help="Images of a window for --fdr.")
    ] = 100,
    json: options.Json = False,
) -> None:
    """Score images as they arrive in a folder, each once; tell of anomalies and of drift.

    A file is scored when it is complete: it has stopped growing, or was moved in. Its line in the journal (path, anomaly_score, p_value,
    is_anomaly, error, size, times) is on the disk before anybody is told. Ctrl-C or SIGTERM ends the watch; the same command goes on
    with it, even after kill -9, and scores nothing twice. A file that is written again is scored again.

    An alarm says what it promises: at most the target's share of normal images raises one; with --fdr, at most that share of the alarms
    in a window of images is false, on average, while normal images are independent and like those that were calibrated on.

    Drift: an alarm when the scores no longer look like those of normal images; without change, 1 watch in 100 ever raises it. It says
    what to do.

    For example:
      insphere watch tiles.insphere /data/line3 -o line3.csv --webhook https://example.org/alarms
      insphere watch tiles.insphere inbox -o scores.parquet --once
    """
    from insphere.detectors import catalog
    from insphere.watching import Command, Watcher, WatchOptions, Webhook, open_journal

    receivers = [*map(Webhook, webhook or ()), *map(Command, command or ())]
    chosen = WatchOptions(poll=poll, once=once, tolerated_share=tolerated_share, fdr=fdr, fdr_window=fdr_window)
    detector = catalog.load(model, require_signature=require_signature)
    watcher = Watcher(detector, folder, open_journal(output), receivers=receivers, options=chosen, on_entry=_show)
    with _until_told_to_stop() as stop, _logged():
        if not once:
            console.say(f"Watching {folder}; scores go to {output}. Ctrl-C ends it.")
        summary = watcher.run(stop)
    if json:
        console.write_json({"output": output, **summary.to_json()})
    else:
        console.results().print(console.facts(f"Wrote {output}", _facts(summary)))


def _show(entry: "Entry") -> None:
    if entry.error is not None:
        console.say(f"{entry.scored_at}  error    {entry.path}: {entry.error}")
    elif entry.is_anomaly:
        console.say(f"{entry.scored_at}  anomaly  {entry.path}: score {entry.anomaly_score:.4g}, p-value {entry.p_value:.3g}", style="bold")


def _facts(summary: "WatchSummary") -> Iterator[tuple[str, object]]:
    yield "files", f"{summary.n_files} scored now, {summary.n_before} before"
    yield "anomalies", f"{summary.n_anomalies} of them flagged, {summary.n_errors} without a score"
    if summary.n_untold:
        yield "not told", f"{summary.n_untold} events; the next run tells them"
    if summary.n_unsettled:
        yield "incomplete", f"{summary.n_unsettled} files were still being written"
    for notice in summary.notices:
        yield notice.kind, str(notice)
    drift = summary.drift
    yield "drift", "none found" if not drift.drifted else f"since about row {drift.alarm_row} (scores: {drift.direction})"
    if drift.advice is not None:
        yield "what to do", drift.advice


@contextlib.contextmanager
def _until_told_to_stop() -> Iterator[threading.Event]:
    """Give an event that SIGINT and SIGTERM set, so that a batch that has begun is finished; a second signal ends at once."""
    stop = threading.Event()

    def ask(number: int, _frame: Any) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _ToMessages(logging.Handler):
    """Writes log lines to standard error, as the commands write all else."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        console.warn(record.getMessage())


@contextlib.contextmanager
def _logged() -> Iterator[None]:
    """Show what the watch logs while the block lasts."""
    logger, handler = logging.getLogger("insphere.watch"), _ToMessages()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
