"""``insphere explain``: why rows score as they do, as pictures and numbers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from insphere.cli import console, options
from insphere.cli.settings import source_options
from insphere.errors import ParameterError

if TYPE_CHECKING:
    from insphere.data.sources import AbstractSource
    from insphere.detectors.base import AbstractDetector

_METHODS = "auto|map|difference|reconstruction|reconstruction-smooth|neighbours|integrated-gradients|gradient-difference|occlusion"


def explain(
    model: options.Model,
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE...", show_default=False, help="Images, or whatever else insphere score takes: folders, tables."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", show_default=False, help="Folder to write into; made where it is missing.")
    ],
    normals: Annotated[
        str | None,
        typer.Option(
            "--normals",
            metavar="SOURCE",
            show_default=False,
            help="Normal examples, best those the model was fitted on: shows the nearest ones and makes better heat-maps.",
        ),
    ] = None,
    method: Annotated[str, typer.Option("--method", metavar=_METHODS, help="How to explain; auto was measured best.")] = "auto",
    most: Annotated[int, typer.Option("--most", metavar="N", help="Explain the N rows that score highest, of all given.")] = 50,
    columns: options.Columns = None,
    label_column: options.LabelColumn = None,
    normal_label: options.NormalLabel = None,
    header: options.Header = None,
    channels: options.Channels = None,
    data_dir: options.DataDir = None,
    require_signature: options.RequireSignature = None,
    json: options.Json = False,
) -> None:
    """Show why rows score as they do: where in the image, beside which normal examples, by which features.

    Writes for each row a panel (image, reconstruction, difference, heat-map, nearest normal examples; for tables the contributions of
    the features) and for images the heat-map over the image; and all numbers as explanations.json and explanations.csv.

    For example:
      insphere explain model.insphere photos/new/7.png -o why
      insphere explain model.insphere photos/new --normals photos/good --most 20 -o why
      insphere explain model.insphere may.csv --method occlusion -o why
    """
    from insphere.detectors import catalog
    from insphere.explain import ExplainOptions
    from insphere.explain import explain as explained
    from insphere.explain.files import write_explanations
    from insphere.output_file import make_folder

    ExplainOptions(method=method)
    if most < 1:
        raise ParameterError(f"`--most` must be at least 1, got {most}.")
    detector = catalog.load(model, require_signature=require_signature)
    chosen = source_options(locals())
    examples = None if normals is None else detector.open(normals, split="train", **chosen)
    make_folder(output)
    sources = [detector.open(image, **chosen) for image in images]
    explanations = [explained(detector, source, normals=examples, method=method) for source in _highest(detector, sources, most)]
    files = write_explanations(output, explanations)
    errors = {name: text for explanation in explanations for name, text in explanation.errors.items()}
    n_rows = sum(len(explanation) for explanation in explanations)
    result = {"output": output, "method": explanations[0].method, "n_rows": n_rows, "errors": errors, "files": [f.name for f in files]}
    if json:
        console.write_json(result)
    else:
        rows: list[tuple[str, object]] = [("explained", f"{n_rows} rows by the method {explanations[0].method}")]
        rows += [("pictures", output / "*-panel.png"), ("numbers", output / "explanations.json")]
        console.results().print(console.facts(str(output), rows))


def _highest(detector: "AbstractDetector", sources: "list[AbstractSource]", most: int) -> "list[AbstractSource]":
    """Return sources of the `most` rows of all that score highest, highest first within each; a warning names rows that have no score."""
    import numpy as np

    from insphere.cli.scoring import scored

    scores = [scored(detector, source)[0] for source in sources]
    unreadable = [(source.name, row) for source, own in zip(sources, scores, strict=True) for row in np.flatnonzero(np.isnan(own))]
    if unreadable:
        name, row = unreadable[0]
        console.warn(f"{len(unreadable)} rows could not be read and are left out (first: row {row} of {name}); insphere score says why.")
    known = np.sort(np.concatenate([own[~np.isnan(own)] for own in scores]))[::-1]
    if not len(known):
        # Explaining then says, of the first source, why nothing could be read.
        return sources[:1]
    if most < len(known):
        console.say(f"The {most} of {len(known)} rows that score highest are explained; --most N takes others.")
    least = known[min(most, len(known)) - 1]
    chosen = []
    for source, own in zip(sources, scores, strict=True):
        order = np.argsort(-own, kind="stable")
        order = order[: np.count_nonzero(own >= least)]
        if len(order):
            chosen.append(source.take(order))
    return chosen
