"""``insphere report``: one HTML file about a model and the rows that it judges."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from insphere.cli import console, options, presenting
from insphere.cli.settings import source_options


def report(
    model: options.Model,
    source: options.Source,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="REPORT", show_default=False, help="HTML file to write.")],
    title: Annotated[
        str | None, typer.Option("--title", metavar="TEXT", show_default=False, help="Heading. Default: detector and source.")
    ] = None,
    split: Annotated[
        str, typer.Option("--split", metavar="test|all|train", help="Which rows; all of a source that does not keep its parts apart.")
    ] = "test",
    max_images: Annotated[int, typer.Option("--max-images", metavar="N", help="Rows in each of the galleries, 500 at most.")] = 36,
    thumbnail_size: Annotated[
        int | None,
        typer.Option(
            "--thumbnail-size",
            metavar="PIXELS",
            show_default=False,
            help="Longest side of the pictures, 256 at most; larger ones make a larger file. Default: 64; of photos with maps 160.",
        ),
    ] = None,
    heatmaps: Annotated[bool, typer.Option("--heatmaps/--no-heatmaps", help="Show on each image what makes it anomalous.")] = True,
    columns: options.Columns = None,
    label_column: options.LabelColumn = None,
    normal_label: options.NormalLabel = None,
    header: options.Header = None,
    channels: options.Channels = None,
    data_dir: options.DataDir = None,
    require_signature: options.RequireSignature = None,
    json: options.Json = False,
) -> None:
    """Write a report on a model and new rows: one HTML file for any browser, which needs no network.

    A verdict, the score histogram with a threshold to move, galleries (most anomalous, nearest to the threshold, most normal) with
    heat-maps, a map of the codes, the health of the model, data and settings. With labels (test/good beside test/scratch, a label
    column, a named data set) also rates of errors with intervals, ROC and precision-recall curves, and the mistakes.

    For example:
      insphere report model.insphere photos/new -o report.html
      insphere report tiles.insphere tiles.zip -o tiles.html --title 'Line 3, May'
      insphere report m.insphere may.csv -o may.html --label-column state --normal-label ok
    """
    from insphere.cli.progress import RowProgress
    from insphere.decision.scored import seen_text
    from insphere.detectors import catalog
    from insphere.report import write_report

    detector = catalog.load(model, require_signature=require_signature)
    rows = detector.open(source, split=split, **source_options(locals()))
    with RowProgress(f"scoring {rows.name}", len(rows)) as progress:
        written = write_report(
            detector,
            rows,
            output,
            title=title,
            max_images=max_images,
            thumbnail_size=thumbnail_size,
            heatmaps=heatmaps,
            on_batch=lambda batch: progress.advance(len(batch.index) + len(batch.errors)),
        )
    console.tell(rows)
    if written.n_errors:
        console.warn(f"{written.n_errors} of {written.n_rows} rows could not be scored; the report lists them with the reason.")
    if written.n_seen:
        console.warn(seen_text(written.n_seen, written.n_rows))
    if json:
        facts = dataclasses.asdict(written)
        console.write_json({"output": facts.pop("path"), "source": source, "notices": console.noted(rows), **facts})
    else:
        console.results().print(presenting.report_facts(written))
