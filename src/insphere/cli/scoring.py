"""``insphere score`` and ``insphere evaluate``: a model file meets rows."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from insphere.cli import console, options, presenting
from insphere.cli.settings import source_options
from insphere.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from insphere.data.sources import AbstractSource
    from insphere.decision.scored import ScoredRows
    from insphere.detectors.base import AbstractDetector
    from insphere.metrics import Evaluation


def score(
    model: options.Model,
    source: options.Source,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="SCORES", show_default=False, help="File to write: .parquet, .csv or .jsonl.")
    ],
    split: Annotated[str, typer.Option("--split", metavar="all|train|test", help="Which rows of a source that has parts.")] = "all",
    columns: options.Columns = None,
    label_column: options.LabelColumn = None,
    normal_label: options.NormalLabel = None,
    header: options.Header = None,
    channels: options.Channels = None,
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Score new rows: one line per row, in the order of the source.

    Columns: path (or row, a number, for tables and arrays), anomaly_score (higher = more anomalous), p_value (share of normal rows that
    would score as high), is_anomaly (true or false), error (why a row has no score; unreadable rows do not stop the others).

    For example:
      insphere score model.insphere photos/new -o scores.csv
      insphere score model.insphere 'line3/*.png' -o scores.parquet --json
    """
    from insphere.detectors import catalog
    from insphere.scores_file import check_suffix, write_scores

    check_suffix(output)
    detector = catalog.load(model)
    rows = detector.open(source, split=split, **source_options(locals()))
    with write_scores(output, ids=rows.ids) as table:
        scored(detector, rows, on_batch=table.append)
    console.tell(rows)
    if table.n_errors:
        console.warn(f"{table.n_errors} of {len(rows)} rows could not be scored; the column error of {output} says why.")
    result = {
        "output": output,
        "source": source,
        "n_rows": len(rows),
        "n_scored": table.n_scored,
        "n_errors": table.n_errors,
        "n_anomalies": table.n_anomalies,
        "decision": detector.describe()["decision"],
        "notices": console.noted(rows),
    }
    if json:
        console.write_json(result)
    else:
        console.results().print(presenting.score_facts(result))
    if not table.n_scored:
        raise typer.Exit(1)


def evaluate(
    model: options.Model,
    source: options.Source,
    columns: options.Columns = None,
    label_column: options.LabelColumn = None,
    normal_label: options.NormalLabel = None,
    header: options.Header = None,
    channels: options.Channels = None,
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Measure a model on labelled rows: how well scores separate, and how the threshold does.

    Labels come from the folders (test/good beside test/scratch, or good beside scratch), a label column, or the named data set.
    Every figure has its 95 % interval. With --json all figures are in 0..1, as value, low and high.

    For example:
      insphere evaluate tiles.insphere tiles.zip
      insphere evaluate m.insphere may.csv --label-column state --normal-label ok
      insphere evaluate eight.insphere mnist:8 --json
    """
    from insphere.decision.scored import seen_text
    from insphere.detectors import catalog

    detector = catalog.load(model)
    rows = detector.open(source, split="test", **source_options(locals()))
    check_labelled(rows)
    n_seen: list[int] = []
    evaluation, known = measure(rows, *scored(detector, rows, on_batch=lambda batch: n_seen.append(batch.n_seen)))
    n_errors = len(rows) - len(known)
    console.tell(rows)
    if any(n_seen):
        console.warn(seen_text(sum(n_seen), len(rows)))
    if n_errors:
        console.warn(f"{n_errors} of {len(rows)} rows could not be scored and are left out; insphere score lists them with the reason.")
    decision = detector.describe()["decision"]
    if json:
        counts = {"n_rows": len(rows), "n_errors": n_errors, "n_seen": sum(n_seen)}
        console.write_json(
            {"model": model, "source": source, **counts, "decision": decision, "notices": console.noted(rows), **evaluation.to_json()}
        )
    else:
        for part in presenting.evaluation_tables(source, evaluation, decision):
            console.results().print(part)


def scored(
    detector: "AbstractDetector", rows: "AbstractSource", *, on_batch: "Callable[[ScoredRows], Any] | None" = None
) -> "tuple[NDArray[np.float64], NDArray[np.bool_]]":
    """Return the score (NaN for unreadable rows) and the decision of every row, with progress on standard error."""
    import numpy as np

    from insphere.cli.progress import RowProgress

    scores, flagged = np.full(len(rows), np.nan), np.zeros(len(rows), dtype=bool)
    with RowProgress(f"scoring {rows.name}", len(rows)) as progress:
        for batch in detector.score_batches(rows):
            scores[batch.index], flagged[batch.index] = batch.anomaly_score, batch.is_anomaly
            if on_batch is not None:
                on_batch(batch)
            progress.advance(len(batch.index) + len(batch.errors))
    return scores, flagged


def check_labelled(rows: "AbstractSource") -> None:
    """Raise `DataError` if nothing says which rows are anomalies."""
    if rows.labels is None:
        raise DataError(
            f"Nothing in {rows.name} says which rows are anomalies, so there is nothing to compare the scores with. Give folders"
            " (test/good beside test/<defect>, or good beside <defect>), --label-column for a table, or use insphere score."
        )


def measure(rows: "AbstractSource", scores: "NDArray[np.float64]", flagged: "NDArray[np.bool_]") -> "tuple[Evaluation, NDArray[np.int64]]":
    """Return the figures for labelled rows, and the positions of the rows with a score, which alone count."""
    import numpy as np

    from insphere import metrics

    check_labelled(rows)
    known = np.flatnonzero(~np.isnan(scores))
    facts = rows.facts.take(known)
    labels = np.asarray(facts.labels, dtype=np.int64)
    return metrics.evaluate(labels, scores[known], flagged[known], facts.types), known
