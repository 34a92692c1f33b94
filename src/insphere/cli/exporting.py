"""``insphere export`` and ``insphere verify``: a model file becomes an ONNX graph, and the graph is compared again elsewhere."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from insphere.cli import console, options
from insphere.cli.settings import source_options

if TYPE_CHECKING:
    from insphere.export import ExportReport, Verification
    from insphere.export.comparing import Comparison


def export(
    model: options.Model,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="GRAPH.onnx", show_default=False, help="File to write; its name ends in .onnx.")
    ],
    rows: Annotated[
        str | None,
        typer.Option(
            "--rows",
            metavar="SOURCE",
            show_default=False,
            help="Rows to compare the graph with the model on, beside made-up ones: folder, .zip, table, … At most 256 are read.",
        ),
    ] = None,
    int8: Annotated[
        bool,
        typer.Option("--int8", help="Write the networks in 8-bit integers, and say what that costs on --rows (with AUROC if labelled)."),
    ] = False,
    vectors: Annotated[
        str,
        typer.Option(
            "--vectors",
            metavar="auto|float32|float64",
            help="Type in which the graph takes rows of features; auto is float32 where rounding changes no answer.",
        ),
    ] = "auto",
    columns: options.Columns = None,
    label_column: options.LabelColumn = None,
    normal_label: options.NormalLabel = None,
    header: options.Header = None,
    channels: options.Channels = None,
    data_dir: options.DataDir = None,
    require_signature: options.RequireSignature = None,
    json: options.Json = False,
) -> None:
    """Write a model as one ONNX graph, from raw rows to decisions, for use without insphere and PyTorch.

    Input: images (uint8, batch × height × width × channels, at the model's size) or x (float32 or float64, batch × features); and
    threshold, which has the model's for a default. Output: anomaly_score, p_value, is_anomaly. Nothing is written unless ONNX Runtime
    gives the model's scores (to 1e-4) and decisions, and flags rows that are not numbers. A parity certificate, GRAPH.onnx.parity.json,
    says what was compared; insphere verify repeats it. docs/examples/score_onnx.py scores images with the graph in twenty lines.

    For example:
      insphere export tiles.insphere -o tiles.onnx
      insphere export tiles.insphere -o tiles-int8.onnx --int8 --rows tiles.zip
    """
    from insphere.detectors import catalog
    from insphere.export import export_onnx

    detector = catalog.load(model, require_signature=require_signature)
    source = None if rows is None else detector.open(rows, **source_options(locals()))
    if not json:
        console.say("Building the graph and comparing it with the model …")
    report = export_onnx(detector, output, rows=source, int8=int8, vectors=vectors, model_file=model)
    if json:
        console.write_json({"model": model, "output": output, **vars(report)})
    else:
        _show(report, detector.name)


def _show(report: "ExportReport", name: str) -> None:
    found = report.comparison
    largest = "not at all" if found.largest_difference == 0 else f"by {found.largest_difference:.1g} at most"
    lines = [
        ("graph", f"{name}, {report.n_bytes / 1e6:.2f} MB, ONNX operator set {report.opset}"),
        ("input", report.input_dtype),
        ("compared", f"{found.n_rows} rows, {found.n_flagged} of them flagged: scores differ {largest}, {_decisions(found)}"),
    ]
    lines.append(("certificate", str(report.certificate)))
    cost = report.quantisation
    if cost is not None:
        areas = "" if cost.auroc is None else f"; AUROC {100 * cost.auroc:.1f} % before, {100 * (cost.auroc_int8 or 0):.1f} % after"
        lines += [
            ("int8 scores", f"differ by {cost.median_difference:.1%} in the median, by {cost.largest_difference:.1%} at most"),
            ("int8 order", f"rank correlation {cost.rank_correlation:.4f} on {cost.n_rows} rows{areas}"),
            ("int8 decisions", f"{cost.n_labels} of {cost.n_rows} differ"),
        ]
    console.results().print(console.facts(f"Wrote {report.path}", lines))


def _decisions(found: "Comparison | Verification") -> str:
    """Return that all decisions are equal, and of how many rounding decides."""
    near = "on the threshold to within the tolerance, where rounding decides"
    if found.n_near_that_differ:
        return f"all decisions are equal but {found.n_near_that_differ} of the {found.n_near} {near}"
    return "all decisions are equal" + (f" ({found.n_near} are {near})" if found.n_near else "")


def verify(
    graph: Annotated[Path, typer.Argument(metavar="GRAPH.onnx", show_default=False, help="A graph that insphere export wrote.")],
    rows: Annotated[
        str | None,
        typer.Option("--rows", metavar="SOURCE", show_default=False, help="More rows to compare on, with --model; at most 256 are read."),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", metavar="MODEL", show_default=False, help="Model file that the graph was made from; checked."),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option("--certificate", metavar="FILE", show_default=False, help="Default: GRAPH.onnx.parity.json, next to the graph."),
    ] = None,
    columns: options.Columns = None,
    label_column: options.LabelColumn = None,
    normal_label: options.NormalLabel = None,
    header: options.Header = None,
    channels: options.Channels = None,
    data_dir: options.DataDir = None,
    require_signature: options.RequireSignature = None,
    json: options.Json = False,
) -> None:
    """Compare an exported graph with its model again, with the ONNX Runtime that is installed here.

    The rows that the export compared, and the model's answers, are in the certificate next to the graph. Exit code 1 where a score
    differs by more than the tolerance, or a decision differs, or where certificate, graph and --model do not belong together.

    For example:
      insphere verify tiles.onnx
      insphere verify tiles.onnx --model tiles.insphere --rows photos/new
    """
    from insphere.detectors import catalog
    from insphere.errors import ParameterError
    from insphere.export import verify as verified
    from insphere.signatures import check_file, required_key

    if (key := required_key(require_signature)) is not None:
        check_file(graph, key)
    if rows is not None and model is None:
        raise ParameterError(
            "`--rows` needs `--model`: the model's answers to these rows are what the graph's are compared with, and a graph does not hold"
            " them. Give `--model` too, or leave `--rows` out: then the graph is compared on the rows of its certificate, whose answers"
            " were kept at the export."
        )
    detector = None if model is None else catalog.load(model, require_signature=require_signature)
    chosen = source_options(locals())
    source = None if detector is None or rows is None else detector.open(rows, **chosen)
    found = verified(graph, detector=detector, rows=source, model_file=model, certificate=certificate)
    if json:
        console.write_json({"graph": graph, **vars(found)})
        return
    lines = [
        ("rows", f"{found.n_rows}: scores differ by {found.largest_difference:.1g} at most, {_decisions(found)}"),
        ("runtime", f"ONNX Runtime {found.runtime} here, {found.exported_with} at the export"),
    ]
    console.results().print(console.facts(f"{graph} answers as its model does", lines))
