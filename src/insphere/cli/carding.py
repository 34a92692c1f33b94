"""``insphere card``: a model card in Markdown or HTML."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from insphere.cli import console, options
from insphere.cli.settings import source_options


def card(
    model: options.Model,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            show_default=False,
            help="File to write: .md, or .html (needs insphere[report]); may be given twice. Default: Markdown on standard output.",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="SOURCE", show_default=False, help="Labelled rows that were not given to fit: figures on them."),
    ] = None,
    purpose: Annotated[
        str | None, typer.Option("--purpose", metavar="TEXT", show_default=False, help="What the model is meant for.")
    ] = None,
    not_for: Annotated[str | None, typer.Option("--not-for", metavar="TEXT", show_default=False, help="What it is not meant for.")] = None,
    owner: Annotated[str | None, typer.Option("--owner", metavar="TEXT", show_default=False, help="Who answers for it.")] = None,
    oversight: Annotated[
        str | None, typer.Option("--oversight", metavar="TEXT", show_default=False, help="What people do with a flagged row.")
    ] = None,
    standards: Annotated[
        str | None, typer.Option("--standards", metavar="TEXT", show_default=False, help="Norms that were applied.")
    ] = None,
    split: Annotated[
        str, typer.Option("--split", metavar="test|all|train", help="Which rows of --data, where it keeps parts apart.")
    ] = "test",
    columns: options.Columns = None,
    label_column: options.LabelColumn = None,
    normal_label: options.NormalLabel = None,
    header: options.Header = None,
    channels: options.Channels = None,
    data_dir: options.DataDir = None,
    require_signature: options.RequireSignature = None,
) -> None:
    """Write a model card: purpose, data with hashes, settings, what is promised and what is not, figures, health, changes, versions.

    The headings are those that a technical file asks for; what only people know (purpose, owner, oversight, standards) is taken from the
    options, and said to be not stated where it is missing.

    For example:
      insphere card model.insphere -o card.md
      insphere card model.insphere --data photos -o card.html --purpose 'Scratches on tiles of line 3' --owner 'Quality, plant 2'
    """
    from insphere.detectors import catalog
    from insphere.output_file import check_writable
    from insphere.report.card import CardTexts, model_card
    from insphere.report.document import check_format

    for path in output or ():
        check_format(path)
        check_writable(path)
    texts = CardTexts(purpose, not_for, owner, oversight, standards)
    detector = catalog.load(model, require_signature=require_signature)
    rows = None if data is None else detector.open(data, split=split, **source_options(locals()))
    document = model_card(detector, path=model, source=rows, texts=texts)
    if rows is not None:
        console.tell(rows)
    for path in output or ():
        document.write(path)
    if output:
        console.results().print(console.facts(document.title, [("written", path) for path in output]))
    else:
        sys.stdout.write(document.to_markdown())
