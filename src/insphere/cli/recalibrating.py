"""``insphere recalibrate``: another threshold for a model file, openly."""

from pathlib import Path
from typing import Annotated

import typer

from insphere.cli import console, options, presenting
from insphere.cli.settings import source_options
from insphere.errors import ParameterError


def recalibrate(
    model: options.Model,
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[SOURCE]",
            show_default=False,
            help="Normal rows that the model was not fitted on; their scores replace those that the threshold was set on.",
        ),
    ] = None,
    target_fpr: Annotated[
        float | None,
        typer.Option("--target-fpr", metavar="RATE", show_default=False, help="Share of normal rows that may be flagged from now on."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="MODEL", show_default=False, help="File to write. Default: MODEL itself.")
    ] = None,
    columns: options.Columns = None,
    label_column: options.LabelColumn = None,
    normal_label: options.NormalLabel = None,
    groups: options.Groups = None,
    groups_by: options.GroupsBy = None,
    category: options.Category = None,
    category_by: options.CategoryBy = None,
    header: options.Header = None,
    channels: options.Channels = None,
    data_dir: options.DataDir = None,
    require_signature: options.RequireSignature = None,
    json: options.Json = False,
) -> None:
    """Set the threshold of a model again, for another target or on new normal rows; scores stay as they are.

    Rows that the model was fitted on are refused: their scores say nothing of new ones. Of a source with labels only the normal rows
    are used. Of a model with categories (cameras, products, shifts) the scores of those that occur in SOURCE are replaced, or come new;
    the others stay. The model file keeps the history of its decision (insphere info).

    For example:
      insphere recalibrate model.insphere --target-fpr 0.01
      insphere recalibrate model.insphere photos/new-lamp/good -o model-2.insphere
    """
    from insphere.detectors import catalog
    from insphere.output_file import check_writable

    if source is None and target_fpr is None:
        raise ParameterError("`recalibrate` needs SOURCE (new normal rows), --target-fpr, or both.")
    written = model if output is None else output
    check_writable(written)
    detector = catalog.load(model, require_signature=require_signature)
    rows = None if source is None else detector.open(source, split="train", **source_options(locals()))
    detector.recalibrate(rows, target_fpr=target_fpr)
    if rows is not None:
        console.tell(rows)
    detector.save(written)
    description = detector.describe()
    if json:
        console.write_json({"output": written, **description})
    else:
        console.results().print(presenting.model_facts(str(written), description))
        for table in presenting.category_tables(description["decision"]):
            console.results().print(table)
        console.results().print(presenting.decision_history(description["decision"]))
