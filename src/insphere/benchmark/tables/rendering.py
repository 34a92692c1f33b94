"""A computed table as Markdown, CSV and HTML: three ways to say the same, numbers rounded here and nowhere before."""

import csv
import dataclasses
import html
import io
from collections.abc import Sequence

from insphere.benchmark.tables.cells import Cell, Frame
from insphere.benchmark.tables.measured import distinct

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
td small { display: block; opacity: .8; font-weight: 400; }
td.above { background: #0072b226; } td.below { background: #e69f0033; } td.missing { background: #8883; font-style: italic; }
p { max-width: 75ch; }
"""


@dataclasses.dataclass(frozen=True)
class GridCell:
    """What one cell shows: a text, what it is compared with, and the word that both are judged by ("missing" without a text of worth)."""

    text: str
    compared: str = ""
    kind: str = ""


@dataclasses.dataclass(frozen=True)
class Grid:
    """A table as it is shown.

    Examples
    --------
    >>> print(markdown_of(Grid("Table", "class", ("5-NN",), (("3", (GridCell("98.0", "(95.0, +3.0 ▲)", "above"),)),), ("Note.",))))
    ### Table
    <BLANKLINE>
    | class | 5-NN |
    |---|---|
    | 3 | 98.0 (95.0, +3.0 ▲) |
    <BLANKLINE>
    Note.
    <BLANKLINE>
    """

    title: str
    corner: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[GridCell, ...]], ...]
    notes: tuple[str, ...] = ()


def markdown_of(grid: Grid) -> str:
    """Return a table as Markdown with its title above it and its notes below."""
    lines = [[grid.corner, *grid.columns]]
    lines += [[name, *(f"{cell.text} {cell.compared}".strip() for cell in cells)] for name, cells in grid.rows]
    table = [f"| {' | '.join(_markdown_text(text) for text in line)} |" for line in lines]
    table.insert(1, "|" + "---|" * len(lines[0]))
    return "\n".join([f"### {_markdown_text(grid.title)}", "", *table, "", *(f"{_markdown_text(note)}\n" for note in grid.notes)])


def html_of(grids: Sequence[Grid]) -> str:
    """Return tables as one HTML page that loads nothing from elsewhere; verdicts are signs and words, colours only underline them."""
    title = html.escape(grids[0].title)
    head = f'<meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{"".join(map(_html_section, grids))}</body></html>\n'


def _html_section(grid: Grid) -> str:
    head = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in grid.columns)
    body = "\n".join(f'<tr><th scope="row">{html.escape(name)}</th>{"".join(map(_html_cell, cells))}</tr>' for name, cells in grid.rows)
    notes = "".join(f"<p>{html.escape(note)}</p>\n" for note in grid.notes)
    return (
        f"<h2>{html.escape(grid.title)}</h2>\n<div><table><thead><tr><th>{html.escape(grid.corner)}</th>{head}</tr></thead>\n"
        f"<tbody>\n{body}\n</tbody></table></div>\n{notes}"
    )


def _html_cell(cell: GridCell) -> str:
    below = f'<small title="{html.escape(cell.kind)}">{html.escape(cell.compared)}</small>' if cell.compared else ""
    return f'<td class="{html.escape(cell.kind.replace(" ", "-"))}">{html.escape(cell.text)}{below}</td>'


def grid_of(frame: Frame) -> Grid:
    """Return a computed table as it is shown: classes in rows, methods in columns."""
    rows = []
    for name in frame.rows:
        cells = [frame.cells[name, column.method] for column in frame.columns]
        shown = (
            GridCell(
                value_text(cell), comparison(cell.expected, cell.difference, cell.verdict), "missing" if cell.mean is None else cell.verdict
            )
            for cell in cells
        )
        rows.append((name, tuple(shown)))
    headings = tuple(column.heading for column in frame.columns)
    return Grid(frame.title, "normal class", headings, tuple(rows), frame.notes)


def as_markdown(frame: Frame) -> str:
    """Return a computed table as Markdown."""
    return markdown_of(grid_of(frame))


def as_html(frame: Frame) -> str:
    """Return a computed table as an HTML page."""
    return html_of([grid_of(frame)])


def as_csv(frame: Frame) -> str:
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


def value_text(cell: Cell) -> str:
    """Return what we measured in a cell: the mean, its spread, and how many seeds it lacks.

    Examples
    --------
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


def comparison(expected: float | None, difference: float | None, verdict: str, *, n_digits: int = 1) -> str:
    """Return the published value, the difference to it and the sign of the verdict, in brackets; nothing where none was published.

    `n_digits` are the decimals with which values were published.

    Examples
    --------
    >>> comparison(95.0, -2.04, "within"), comparison(95.0, None, "not comparable"), comparison(None, None, "not comparable")
    ('(95.0, −2.0 ≈)', '(95.0, ?)', '')
    """
    if expected is None:
        return ""
    return f"({expected:.{n_digits}f}, {'' if difference is None else signed_text(difference) + ' '}{SIGNS[verdict]})"


def signed_text(value: float) -> str:
    """Return a difference with one decimal and its sign.

    Examples
    --------
    >>> signed_text(2.04), signed_text(-2.04), signed_text(-0.04)
    ('+2.0', '−2.0', '±0.0')
    """
    text = f"{abs(value):.1f}"
    return f"±{text}" if text == "0.0" else f"{'+' if value > 0 else '−'}{text}"


def _markdown_text(text: str) -> str:
    """Return text that cannot break out of its cell or become markup."""
    escaped = "".join(f"\\{sign}" if sign in "\\|`*_<>" else sign for sign in text)
    return " ".join(escaped.split())
