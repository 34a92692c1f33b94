"""A computed table as Markdown, CSV and HTML: three ways to say the same, numbers rounded here and nowhere before."""

import csv
import html
import io
from typing import TYPE_CHECKING

from insphere.benchmark.measured import distinct

if TYPE_CHECKING:
    from insphere.benchmark.tables import Cell, Frame

SIGNS = {"within": "≈", "above": "▲", "below": "▼", "not comparable": "?"}
"""Sign of each verdict."""

CSV_COLUMNS = (
    "table", "dataset", "normal_class", "method", "label", "control", "n_seeds", "n_failed", "n_planned", "auroc_mean",
    "auroc_deviation", "published", "difference", "verdict", "commit", "versions", "machine",
)  # fmt: skip
"""Columns of the CSV form: one line for every cell; AUROC in percent, differences in points; empty where there is none."""

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem; max-width: 100rem; }
div { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .6rem; border-bottom: 1px solid #8886; text-align: right; vertical-align: top; white-space: nowrap; }
th:first-child { text-align: left; }
tbody tr:last-child > * { border-top: 2px solid; font-weight: 600; }
td small { display: block; opacity: .8; font-weight: 400; }
td.above { background: #0072b226; } td.below { background: #e69f0033; } td.missing { background: #8883; font-style: italic; }
p { max-width: 75ch; }
"""


def as_markdown(frame: "Frame") -> str:
    """Return the table as Markdown with its title above it and its notes below.

    Examples
    --------
    >>> from insphere.benchmark.tables import Cell, Column, Frame
    >>> cells = {("3", "knn"): Cell(2, 0, 2, 98.0, 1.0, 95.0, "above")}
    >>> print(as_markdown(Frame("t", "Table", "digits", (Column("knn", "5-NN"),), ("3",), cells, ("Note.",))))
    ### Table
    <BLANKLINE>
    | normal class | 5-NN |
    |---|---|
    | 3 | 98.0 ± 1.0 (95.0, +3.0 ▲) |
    <BLANKLINE>
    Note.
    <BLANKLINE>
    """
    lines = [["normal class", *(column.heading for column in frame.columns)]]
    for row in frame.rows:
        cells = (frame.cells[row, column.method] for column in frame.columns)
        lines.append([row, *(" ".join(filter(None, (value_text(cell), _compared(cell)))) for cell in cells)])
    table = [f"| {' | '.join(_markdown_text(text) for text in line)} |" for line in lines]
    table.insert(1, "|" + "---|" * len(lines[0]))
    return "\n".join([f"### {frame.title}", "", *table, "", *(f"{_markdown_text(note)}\n" for note in frame.notes)])


def as_csv(frame: "Frame") -> str:
    """Return the table as CSV, one line for every cell with all that is known of it, see `CSV_COLUMNS`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in frame.rows:
        for column in frame.columns:
            cell = frame.cells[row, column.method]
            numbers = ["" if value is None else f"{value:.4f}" for value in (cell.mean, cell.deviation, cell.expected, cell.difference)]
            places = [distinct(getattr(run, name) for run in cell.runs) for name in ("commit", "versions", "machine")]
            counts = [str(column.control).lower(), cell.n_seeds, cell.n_failed, cell.n_planned]
            writer.writerow([frame.name, frame.dataset, row, column.method, column.label, *counts, *numbers, cell.verdict, *places])
    return text.getvalue()


def as_html(frame: "Frame") -> str:
    """Return the table as one HTML page that loads nothing from elsewhere; verdicts are signs and words, colours only underline them."""
    head = "".join(f'<th scope="col">{html.escape(column.heading)}</th>' for column in frame.columns)
    body = []
    for row in frame.rows:
        cells = "".join(_html_cell(frame.cells[row, column.method]) for column in frame.columns)
        body.append(f'<tr><th scope="row">{html.escape(row)}</th>{cells}</tr>')
    notes = "".join(f"<p>{html.escape(note)}</p>\n" for note in frame.notes)
    title = html.escape(frame.title)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style></head>\n'
        f"<body><h1>{title}</h1>\n<div><table><thead><tr><th>normal class</th>{head}</tr></thead>\n<tbody>\n"
        + "\n".join(body)
        + f"\n</tbody></table></div>\n{notes}</body></html>\n"
    )


def value_text(cell: "Cell") -> str:
    """Return what we measured in a cell: the mean, its spread, and how many seeds it lacks.

    Examples
    --------
    >>> from insphere.benchmark.tables import Cell
    >>> value_text(Cell(1, 0, 3, 98.04, None, None, "not comparable")), value_text(Cell(0, 1, 3, None, None, None, "not comparable"))
    ('98.0 [1 of 3 seeds]', 'missing [0 of 3 seeds, 1 failed]')
    """
    if cell.n_missing_classes:
        return f"missing [{cell.n_missing_classes} classes without a value]"
    counts = f"{cell.n_seeds} of {cell.n_planned} seeds" + (f", {cell.n_failed} failed" if cell.n_failed else "")
    if cell.mean is None:
        return f"missing [{counts}]" if cell.n_planned else "missing [not run]"
    spread = "" if cell.deviation is None else f" ± {cell.deviation:.1f}"
    return f"{cell.mean:.1f}{spread}" + (f" [{counts}]" if cell.n_seeds < cell.n_planned else "")


def _compared(cell: "Cell") -> str:
    """Return the published value, the difference to it and the sign of the verdict, in brackets; nothing where none was published."""
    if cell.expected is None:
        return ""
    if cell.difference is None:
        return f"({cell.expected:.1f}, {SIGNS[cell.verdict]})"
    return f"({cell.expected:.1f}, {_signed(cell.difference)} {SIGNS[cell.verdict]})"


def _signed(value: float) -> str:
    text = f"{abs(value):.1f}"
    return f"±{text}" if text == "0.0" else f"{'+' if value > 0 else '−'}{text}"


def _html_cell(cell: "Cell") -> str:
    kind = "missing" if cell.mean is None else cell.verdict.replace(" ", "-")
    compared = _compared(cell)
    below = f'<small title="{html.escape(cell.verdict)}">{html.escape(compared)}</small>' if compared else ""
    return f'<td class="{kind}">{html.escape(value_text(cell))}{below}</td>'


def _markdown_text(text: str) -> str:
    """Return text that cannot break out of its cell or become markup."""
    escaped = "".join(f"\\{sign}" if sign in "\\|`*_<>" else sign for sign in text)
    return " ".join(escaped.split())
