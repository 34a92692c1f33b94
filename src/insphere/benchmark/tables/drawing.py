"""What all figures of a benchmark share: their material, their look, and how picture and data are written."""

import csv
import dataclasses
import io
import statistics
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from insphere.benchmark.tables.expected import ExpectedFigure
from insphere.benchmark.tables.measured import Measured, provenance
from insphere.errors import InsphereError
from insphere.output_file import replacing

COLORS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#f0e442", "#000000")
"""Okabe and Ito's colours, which people with any colour vision tell apart; hatches and markers differ as well."""

_HATCHES = ("", "///", "...", "xxx", "\\\\\\", "ooo", "---", "+++")
MARKERS = "osD^vPX*"
_DOTS_PER_INCH = 150

LOOK = ("default", {"text.parse_math": False})
"""Style in which figures are drawn: not the user's own, so that they look the same everywhere, and no name is taken for a formula."""


@dataclasses.dataclass(frozen=True)
class Material:
    """What figures are made from.

    Attributes
    ----------
    runs : tuple of Measured
    runs_folder : Path or None
        Folder of the runs' files, for the scores of single images.
    attacks_folder : Path or None
        What `insphere.benchmark.attacks.attacking` wrote.
    data_dir : Path or None
        Folder of the named data sets, for their images.
    """

    runs: tuple[Measured, ...]
    runs_folder: Path | None = None
    attacks_folder: Path | None = None
    data_dir: Path | None = None


class CannotDrawError(InsphereError):
    """The results do not hold what a figure shows."""


def runs_of(figure: ExpectedFigure, material: Material) -> list[Measured]:
    """Return the runs that a figure is about: of its data set, and of its classes and methods where it names any."""
    classes, methods = figure.normal_classes, figure.methods
    return [
        run
        for run in material.runs
        if run.dataset == figure.dataset and (not classes or run.normal_class in classes) and (not methods or run.method in methods)
    ]


def percentages(runs: Iterable[Measured]) -> list[float]:
    """Return the AUROC in percent of the runs that have one."""
    return [100 * run.auroc for run in runs if run.auroc is not None]


def moments(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Return mean and standard deviation, None where there are too few values for it."""
    mean = round(statistics.fmean(values), 4) if values else None
    return mean, round(statistics.stdev(values), 4) if len(values) > 1 else None


def label_of(runs: Sequence[Measured]) -> str:
    """Return what to call the method of the runs."""
    return next((run.label for run in runs if run.label), runs[0].method if runs else "")


def look(number: int) -> Mapping[str, Any]:
    """Return colour, hatch and edges of the bars of the method at this position."""
    return {"color": COLORS[number % 8], "hatch": _HATCHES[number % 8], "edgecolor": "white", "ecolor": "#555555", "error_kw": {"lw": 1}}


def new_picture(figure: ExpectedFigure, runs: Sequence[Measured], *, width: float) -> tuple[Figure, Any]:
    """Return an empty picture with its title above it and what it rests on below."""
    picture = Figure(figsize=(width, 4.8), layout="constrained")
    axes = picture.add_subplot()
    axes.set_title(figure.title, fontsize=11)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    text = textwrap.fill(" ".join(provenance(runs)), int(width * 18))
    picture.supxlabel(text, fontsize=6, x=0.01, ha="left")
    return picture, axes


def make_logarithmic(axis: Any) -> None:
    """Give an axis a logarithmic scale with plain numbers; matplotlib's own are formulas, which are off, see `LOOK`."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def name_places(axes: Any, names: Sequence[str]) -> None:
    """Write names below the bars, turned where they are long."""
    long = sum(map(len, names)) > 60
    turn: dict[str, Any] = {"rotation": 30, "ha": "right"} if long else {}
    axes.set_xticks(range(len(names)), names, fontsize=8, **turn)


def save(picture: Figure, folder: Path, name: str) -> Path:
    """Write a picture as PNG, the same bytes for the same picture, and return the path."""
    path = folder / f"{name}.png"
    # Without the name of the program that wrote it, one picture has the same bytes under every version of it.
    with replacing(path) as handle:
        picture.savefig(handle, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})
    return path


def write_csv(path: Path, header: Sequence[str], records: Iterable[Sequence[Any]]) -> Path:
    """Write records as CSV, None as an empty field, and return the path."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(["" if value is None else value for value in record] for record in records)
    with replacing(path) as handle:
        handle.write(text.getvalue().encode())
    return path
