"""``insphere score`` and ``insphere evaluate``: a model file meets rows."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from insphere.cli import console, options, presenting
from insphere.cli.bulk_scoring import is_bulk, score_bulk
from insphere.cli.settings import source_options
from insphere.errors import DataError, ParameterError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from insphere.data.sources import AbstractSource
    from insphere.decision.discoveries import Discoveries
    from insphere.decision.scored import ScoredRows
    from insphere.detectors.base import AbstractDetector
    from insphere.explain.map_files import MapFiles
    from insphere.localising import LocalisedRows
    from insphere.metrics import CategoryRates, Evaluation
    from insphere.runtime import GraphModel
    from insphere.scores_file import ScoresFile

_OF_FDR = ("adjusted_p_value", "is_discovery")
_OF_DRAW = ("row_id", "drawn", "verdict")
_BULK = "Many images (SCORES is a folder)"


def score(
    model: options.Scorer,
    source: options.Source,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="SCORES",
            show_default=False,
            help="File to write: .parquet, .csv or .jsonl; or, for many images, a folder of Parquet parts (scores/, s3://bucket/scores).",
        ),
    ],
    split: Annotated[str, typer.Option("--split", metavar="all|train|test", help="Which rows of a source that has parts.")] = "all",
    maps: Annotated[
        Path | None,
        typer.Option(
            "--maps",
            metavar="DIR",
            show_default=False,
            rich_help_panel="Images",
            help="Folder for the heat-map of each image (16-bit PNG) and the heat-map over the image; for detectors that have maps.",
        ),
    ] = None,
    fdr: Annotated[
        float | None,
        typer.Option(
            "--fdr",
            metavar="RATE",
            show_default=False,
            help="Also call anomalies so that at most this share of those called in the batch are false alarms, on average"
            " (Benjamini–Hochberg); adds the columns adjusted_p_value and is_discovery.",
        ),
    ] = None,
    draw: Annotated[
        float | None,
        typer.Option(
            "--draw",
            metavar="SHARE",
            show_default=False,
            help="Draw this share of the rows, whatever they score, for people to look at; adds the columns row_id, drawn and verdict, to"
            " be filled in for insphere feedback.",
        ),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            "--engine",
            metavar="local|daft|ray",
            show_default=False,
            rich_help_panel=_BULK,
            help="Who computes: processes of this machine (default), or Daft or Ray, here or on their cluster. SCORES is a folder then.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            metavar="N",
            show_default=False,
            rich_help_panel=_BULK,
            help="Processes, one thread each. Default: one a core; 0: none but this.",
        ),
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="MODEL",
            show_default=False,
            rich_help_panel=_BULK,
            help="One more model for the same images; may be repeated. The columns of each end in _NAME then.",
        ),
    ] = None,
    columns: options.Columns = None,
    label_column: options.LabelColumn = None,
    normal_label: options.NormalLabel = None,
    category: options.Category = None,
    category_by: options.CategoryBy = None,
    header: options.Header = None,
    channels: options.Channels = None,
    data_dir: options.DataDir = None,
    require_signature: options.RequireSignature = None,
    json: options.Json = False,
) -> None:
    """Score new rows: one line per row, in the order of the source.

    Columns: path (or row, a number, for tables and arrays), anomaly_score (higher = more anomalous), p_value (share of normal rows that
    would score as high), is_anomaly (true or false), error (why a row has no score; unreadable rows do not stop the others). Of a model
    with categories (cameras, products, shifts) also category: each row is judged by its own one, a row without one by all together, which
    is counted; a row of one that the model does not have is an error.

    For example:
      insphere score model.insphere photos/new -o scores.csv
      insphere score model.insphere 'line3/*.png' -o scores.parquet --json
      insphere score parts.insphere shift.csv -o shift-scores.csv --fdr 0.1
      insphere score model.onnx photos/new -o scores.csv
      insphere score photo.insphere photos/new -o scores.csv --maps maps

    Many images, here or in an object store, go into a folder of Parquet parts. Stopped or killed, the same command goes on where it was:
    nothing is scored twice, and new images are added.
      insphere score model.insphere 'line3/**/*.jpg' -o scores/
      insphere score a.insphere 's3://bucket/**/*.jpg' -o s3://bucket-2/scores --model b.insphere --engine ray
    """
    if is_bulk(output, engine):
        _refuse_for_parts(locals())
        score_bulk([model, *(also or ())], source, output, engine or "local", workers, maps, require_signature, as_json=json)
        return
    if workers is not None or also:
        raise ParameterError("`--workers` and `--model` are for a folder of parts; name one with -o (scores/).")
    from insphere.runtime import load_any
    from insphere.scores_file import check_suffix, write_scores

    check_suffix(output)
    detector = load_any(model, require_signature=require_signature)
    rows = detector.open(source, split=split, **source_options(locals()))
    drawn = None if maps is None else map_files(detector, maps, rows)
    n_pooled: list[int] = []
    fitted: Any = detector  # what a graph lacks is refused here
    decision = getattr(fitted, "decision_", None)
    if decision is None and (fdr is not None or draw is not None):
        raise ParameterError("`--fdr` and `--draw` need the model file, whose held-out scores and key a graph does not show.")
    categories = None if decision is None or decision.categories is None else rows.categories or [None] * len(rows)
    kept: list[ScoredRows] = []
    found = None
    drawing = _drawing(fitted, draw)
    further = (*(() if fdr is None else _OF_FDR), *(() if draw is None else _OF_DRAW))
    with write_scores(output, ids=rows.ids, categories=categories, further=further) as table:

        def take(batch: "ScoredRows") -> None:
            n_pooled.append(batch.n_pooled)
            if drawn is not None:
                drawn.append(batch)
            if fdr is None:
                table.append(batch, drawing(batch))
            else:
                kept.append(dataclasses.replace(batch, maps=None))

        scored(detector, rows, on_batch=take, maps=drawn is not None)
        if fdr is not None:
            found = write_discoveries(table, fitted, kept, fdr, drawing)
    _tell_of_scores(table, rows, output, found)
    tell_of_pooled(sum(n_pooled), len(rows))
    result = {
        "output": output,
        "source": source,
        "n_rows": len(rows),
        "n_scored": table.n_scored,
        "n_errors": table.n_errors,
        "n_anomalies": table.n_anomalies,
        "n_pooled": sum(n_pooled),
        "fdr": None if found is None else {"rate": fdr, "n_discoveries": found.n_discoveries, "n_least": found.n_least},
        "maps": None if drawn is None else finished(drawn),
        "decision": detector.describe()["decision"],
        "notices": console.noted(rows),
    }
    if json:
        console.write_json(result)
    else:
        console.results().print(presenting.score_facts(result))
    if not table.n_scored:
        raise typer.Exit(1)


def _refuse_for_parts(given: dict[str, Any]) -> None:
    """Raise `ParameterError` for options of `score` that apply to one file of scores, and not to a folder of parts."""
    named = source_options({name: value for name, value in given.items() if name != "output"})
    named |= {name: given[name] for name in ("fdr", "draw") if given[name] is not None}
    if named or given["split"] != "all":
        raise ParameterError(f"{', '.join(named) or 'split'}: not for parts, which are written of folders and patterns of images.")


def _tell_of_scores(table: "ScoresFile", rows: "AbstractSource", output: str, found: "Discoveries | None") -> None:
    """Say what is to be said of scores that are written: of the source, the discoveries, the rows without a score, guarded cells."""
    console.tell(rows)
    for note in () if found is None else found.notes:
        console.warn(note)
    if table.n_errors:
        console.warn(f"{table.n_errors} of {len(rows)} rows could not be scored; the column error of {output} says why.")
    if table.n_guarded:
        console.note(
            f"{table.n_guarded} cells of {output} begin like a formula and have an apostrophe (') put before them, so that no spreadsheet"
            " computes them; .parquet and .jsonl have them as they are."
        )


def evaluate(
    model: options.Scorer,
    source: options.Source,
    columns: options.Columns = None,
    label_column: options.LabelColumn = None,
    normal_label: options.NormalLabel = None,
    category: options.Category = None,
    category_by: options.CategoryBy = None,
    header: options.Header = None,
    channels: options.Channels = None,
    data_dir: options.DataDir = None,
    require_signature: options.RequireSignature = None,
    json: options.Json = False,
) -> None:
    """Measure a model on labelled rows: how well scores separate, and how the threshold does.

    Labels come from the folders (test/good beside test/scratch, or good beside scratch), a label column, or the named data set.
    Every figure has its 95 % interval. With --json all figures are in 0..1, as value, low and high. Where the detector has heat-maps
    and the images have masks (ground_truth/scratch/7_mask.png beside test/scratch/7.png), also how well the places are found.

    For example:
      insphere evaluate tiles.insphere tiles.zip
      insphere evaluate m.insphere may.csv --label-column state --normal-label ok
      insphere evaluate eight.insphere mnist:8 --json
    """
    from insphere.decision.scored import seen_text
    from insphere.localising import localiser_for
    from insphere.runtime import load_any

    detector = load_any(model, require_signature=require_signature)
    rows = detector.open(source, split="test", **source_options(locals()))
    check_labelled(rows)
    localiser = localiser_for(rows)
    n_seen: list[int] = []
    tells_seen: list[bool] = []  # not of an exported graph, which keeps no fingerprints of the rows that were given to fit
    n_pooled: list[int] = []

    def take(batch: "ScoredRows") -> None:
        n_seen.append(batch.n_seen)
        tells_seen.append(batch.seen is not None)
        n_pooled.append(batch.n_pooled)
        if localiser is not None and detector.has_maps:
            localiser.add(batch)

    scores, flagged = scored(detector, rows, on_batch=take, maps=localiser is not None)
    evaluation, known = measure(rows, scores, flagged)
    by_category = _by_category(detector, rows, flagged, known)
    places = localiser.result() if localiser is not None and detector.has_maps else None
    n_errors = len(rows) - len(known)
    console.tell(rows)
    if any(n_seen):
        console.warn(seen_text(sum(n_seen), len(rows)))
    if n_errors:
        console.warn(f"{n_errors} of {len(rows)} rows could not be scored and are left out; insphere score lists them with the reason.")
    tell_of_pooled(sum(n_pooled), len(rows))
    tell_of_places(detector, places, has_masks=localiser is not None)
    decision = detector.describe()["decision"]
    if json:
        counts = {"n_rows": len(rows), "n_errors": n_errors, "n_seen": sum(n_seen) if all(tells_seen) else None}
        facts = {"model": model, "source": source, **counts, "decision": decision, "notices": console.noted(rows)}
        localisation = None if places is None else places.to_json()
        console.write_json(
            {**facts, **evaluation.to_json(), "localisation": localisation, "by_category": [entry.to_json() for entry in by_category]}
        )
    else:
        for part in presenting.evaluation_tables(source, evaluation, decision):
            console.results().print(part)
        for part in presenting.category_rates(by_category):
            console.results().print(part)
        for part in () if places is None else presenting.localisation_tables(places.figures):
            console.results().print(part)


def map_files(detector: "AbstractDetector | GraphModel", folder: Path, rows: "AbstractSource") -> "MapFiles":
    """Return what writes the maps of these rows into a folder.

    Raises
    ------
    ParameterError
        If the detector has no maps.
    OutputError
        If the folder cannot be made.
    """
    from insphere.explain.map_files import MapFiles

    if not detector.has_maps:
        raise ParameterError(
            f"`--maps` needs a detector with heat-maps, but {detector.name} gives one score a row; fit one that has them, or use"
            " insphere explain, which explains any detector."
        )
    return MapFiles(folder, rows)


def finished(drawn: "MapFiles") -> dict[str, Any]:
    """Complete a folder of maps, tell what is missing in it, and return its facts."""
    drawn.finish()
    n_cut_off = sum(row["n_cut_off"] > 0 for row in drawn.rows)
    if drawn.errors:
        name, text = next(iter(drawn.errors.items()))
        console.warn(f"{len(drawn.errors)} heat-maps could not be laid over their pictures; the first, {name}: {text}")
    return {"folder": drawn.folder, "n_maps": len(drawn.rows), "n_overlays": len(drawn.rows) - len(drawn.errors), "n_cut_off": n_cut_off}


def _drawing(detector: "AbstractDetector", share: float | None) -> "Callable[[ScoredRows], dict[str, list[Any]]]":
    """Return what gives the columns of a draw of this share of the rows for each batch; none where nothing is drawn."""
    if share is None:
        return lambda batch: {}
    from insphere.decision.verdicts import are_drawn, row_id
    from insphere.validation import check_number

    check_number("draw", share, above=0, at_most=1)

    def columns(batch: "ScoredRows") -> dict[str, list[Any]]:
        import numpy as np

        hashes = np.empty(0, np.uint64) if batch.hashes is None else batch.hashes
        drawn = are_drawn(hashes, detector.draw_key, share)
        seen = np.zeros(len(hashes), np.bool_) if batch.seen is None else batch.seen
        # Rows that were given to fit say nothing of new ones: they have no name to give a verdict on.
        names = [None if known else row_id(value) for value, known in zip(hashes.tolist(), seen.tolist(), strict=True)]
        return {"row_id": names, "drawn": (drawn & ~seen).tolist(), "verdict": [None] * len(hashes)}

    return columns


def write_discoveries(
    table: "ScoresFile",
    detector: "AbstractDetector",
    batches: "Sequence[ScoredRows]",
    fdr: float,
    more: "Callable[[ScoredRows], dict[str, list[Any]]]",
) -> "Discoveries":
    """Write batches with what the false-discovery rate makes of all their rows together; return it."""
    import numpy as np

    from insphere.decision.discoveries import discover

    found = discover(detector.decision_, np.concatenate([batch.p_value for batch in batches]), fdr)
    start = 0
    for batch in batches:
        own = slice(start, start + len(batch.index))
        start = own.stop
        columns = (found.adjusted_p_value[own].tolist(), found.is_discovery[own].tolist())
        table.append(batch, dict(zip(_OF_FDR, columns, strict=True)) | more(batch))
    return found


def tell_of_pooled(n_pooled: int, n_rows: int) -> None:
    """Say how many rows were judged by all categories together, because theirs is not known."""
    if n_pooled:
        from insphere.decision.categories import pooled_text

        console.warn(pooled_text(n_pooled, n_rows))


def _by_category(
    detector: "AbstractDetector | GraphModel", rows: "AbstractSource", flagged: "NDArray[np.bool_]", known: "NDArray[np.int64]"
) -> "Sequence[CategoryRates]":
    """Return the rates of each category of labelled rows; nothing where the detector has none."""
    from insphere.metrics import rates_by_category

    decision = getattr(detector, "decision_", None)
    if decision is None or decision.categories is None or rows.categories is None or rows.labels is None:
        return ()
    return rates_by_category(rows.labels[known], flagged[known], [rows.categories[row] for row in known.tolist()])


def tell_of_places(detector: "AbstractDetector | GraphModel", places: "LocalisedRows | None", *, has_masks: bool) -> None:
    """Say which masks are not compared with heat-maps, and why."""
    if has_masks and places is None:
        console.say(f"note: there are masks, but {detector.name} gives no heat-maps to compare them with.")
    for text in () if places is None else places.left_out():
        console.warn(text)


def scored(
    detector: "AbstractDetector | GraphModel",
    rows: "AbstractSource",
    *,
    on_batch: "Callable[[ScoredRows], Any] | None" = None,
    maps: bool = False,
) -> "tuple[NDArray[np.float64], NDArray[np.bool_]]":
    """Return the score (NaN for unreadable rows) and the decision of every row, with progress on standard error.

    With `maps`, batches come with the heat-maps of a detector that has them.
    """
    import numpy as np

    from insphere.cli.progress import RowProgress

    scores, flagged = np.full(len(rows), np.nan), np.zeros(len(rows), dtype=bool)
    with RowProgress(f"scoring {rows.name}", len(rows)) as progress:
        for batch in detector.score_batches(rows, maps=maps):
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
