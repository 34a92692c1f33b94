"""``insphere audit``: whether anybody's detector does what a detector must."""

from pathlib import Path
from typing import Annotated

import typer

from insphere.cli import console, options
from insphere.cli.checking import FINDINGS
from insphere.cli.settings import parse_assignments, source_options


def audit(
    subject: Annotated[
        str,
        typer.Argument(
            metavar="ESTIMATOR",
            show_default=False,
            help="module:Class with fit (PyOD, scikit-learn, your own in this folder), module:function that makes one or scores rows,"
            " a name from insphere detectors, a model file, or an ONNX graph.",
        ),
    ],
    source: options.Source,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", show_default=False, help="Parameter of the estimator; may be given several times."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", show_default=False, help="Write the report: .html (needs insphere[report]) or .md."),
    ] = None,
    repeats: Annotated[int, typer.Option("--repeats", metavar="N", help="Fits with other seeds, and other halves of the normal rows.")] = 5,
    max_rows: Annotated[
        int, typer.Option("--max-rows", metavar="N", help="Rows of each kind (to fit on, normal, anomalies) at most; drawn where more.")
    ] = 1000,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Seed of all that is drawn.")] = 0,
    stated_fpr: Annotated[
        float | None,
        typer.Option(
            "--stated-fpr",
            metavar="RATE",
            show_default=False,
            help="Share of normal rows that it is said to flag. Default: its target_fpr, contamination or nu.",
        ),
    ] = None,
    higher: Annotated[
        str, typer.Option("--higher", metavar="auto|anomalous|normal", help="What a higher score means; auto goes by the library.")
    ] = "auto",
    images: Annotated[
        bool | None,
        typer.Option(
            "--images/--rows",
            show_default=False,
            help="Hand images on as they are, or each as a row of numbers. Default: rows, but to insphere's own and to graphs of images.",
        ),
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
    require_signature: options.RequireSignature = None,
    json: options.Json = False,
) -> None:
    """Check anybody's detector for what makes its scores worth something.

    Does training change it; are scores constant, or dependent on chance, batch or order; does scoring learn from test rows; do copies
    agree; is it better than itself untrained and than 5-NN; are new normal rows flagged as often as it states. It is fitted on the normal
    rows of SOURCE, several times; labels are used for the comparisons alone. Code that you name is imported and run.

    Exit code 0: no defects. 3: defects were found, or with --strict warnings. 1 and 2 as everywhere: failed, wrong usage.

    For example:
      insphere audit pyod.models.knn:KNN digits:3
      insphere audit sklearn.ensemble:IsolationForest may.csv --label-column state --normal-label ok -o audit.html
      insphere audit my_module:MyDetector photos --set n_layers=3 --strict --json
      insphere audit model.onnx photos --stated-fpr 0.05
    """
    from insphere.audit import audit as run_audit
    from insphere.output_file import check_writable
    from insphere.report.document import check_format

    if output is not None:
        check_format(output)
        check_writable(output)
    report = run_audit(
        subject,
        source,
        parameters=parse_assignments(settings or []),
        repeats=repeats,
        max_rows=max_rows,
        seed=seed,
        stated_fpr=stated_fpr,
        higher=higher,
        images=images,
        require_signature=require_signature,
        on_step=None if json else lambda step: console.say(f"{step} …"),
        **source_options(locals()),
    )
    for notice in report.facts.get("left out", ()):
        console.note(notice)
    if output is not None:
        report.document().write(output)
    if json:
        console.write_json({"output": output, **report.to_json()})
    else:
        from insphere.audit.findings import told

        lines = [(finding.name, finding.level, finding.text) for finding in report.findings]
        console.results().print(
            console.table(f"{report.subject} on {report.source}: {report.summary}", ("check", "level", "outcome"), lines)
        )
        console.results().print(console.facts("", [(name, told(value)) for name, value in report.facts.items()]))
    if report.at_least("warning" if strict else "error"):
        raise typer.Exit(FINDINGS)
