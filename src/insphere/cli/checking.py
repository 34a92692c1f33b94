"""``insphere check``: whether data is fit to learn from."""

from typing import Annotated

import typer

from insphere.cli import console, options
from insphere.cli.settings import source_options

FINDINGS = 3
"""Exit code where the data has findings; 1 and 2 stay what they are in all commands."""


def check(
    source: options.Source,
    test: Annotated[
        str | None,
        typer.Option("--test", metavar="OTHER", show_default=False, help="Rows to measure on: looked through for copies of SOURCE."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count too: exit code 3 from a warning on.")] = False,
    image_size: options.ImageSize = None,
    mode: options.Mode = None,
    columns: options.Columns = None,
    one_hot: options.OneHotColumns = None,
    label_column: options.LabelColumn = None,
    normal_label: options.NormalLabel = None,
    header: options.Header = None,
    channels: options.Channels = None,
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Look through data before a fit: what is broken, doubled, odd or missing, and what to do about it.

    Unreadable files, mixed sizes and kinds, exact and near duplicates (also between training and test rows), images of one colour,
    outliers among the normal rows, too few rows, contradicting labels; of tables constant and doubled columns. Nothing is trained.

    Exit code 0: no errors. 3: errors were found, or with --strict warnings. 1 and 2 as everywhere: failed, wrong usage.

    For example:
      insphere check photos/good
      insphere check photos/good --test photos/new --strict
      insphere check may.csv --label-column state --normal-label ok --json
    """
    from insphere.checking import check_source
    from insphere.data import open_source

    chosen = source_options(locals())
    rows = open_source(source, **chosen)
    sizing = {name: value for name, value in chosen.items() if name not in ("image_size", "mode")}
    other = None if test is None else open_source(test, **(chosen if rows.spec is None else {**sizing, "spec": rows.spec}))
    report = check_source(rows, test=other)
    if json:
        console.write_json(report.to_json())
    else:
        lines = [(finding.level, finding.name, finding.text) for finding in report.findings]
        console.results().print(console.table(f"{report.source}: {report.n_rows} rows", ("level", "check", "outcome"), lines))
    if report.at_least("warning" if strict else "error"):
        raise typer.Exit(FINDINGS)
