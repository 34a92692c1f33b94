"""Figures from the compact table of results, each beside its data as CSV; what cannot be drawn is skipped with its reason."""

import dataclasses
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow as pa
from matplotlib import style

from insphere.benchmark.tables.charts import draw_bars, draw_sweep, draw_times
from insphere.benchmark.tables.drawing import LOOK, CannotDrawError, Material
from insphere.benchmark.tables.expected import Expected, ExpectedFigure
from insphere.benchmark.tables.galleries import draw_attack_gallery, draw_gallery
from insphere.benchmark.tables.measured import Measured, measured_runs
from insphere.output_file import make_folder

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Drawn:
    """What became of one figure.

    Attributes
    ----------
    name : str
    paths : tuple of Path
        Files written, pictures and data; none if it was skipped.
    reason : str
        Why it was skipped; empty if it was drawn.
    """

    name: str
    paths: tuple[Path, ...] = ()
    reason: str = ""


def write_figures(
    results: pa.Table,
    out: str | os.PathLike[str],
    *,
    expected: Expected | None = None,
    runs_folder: str | os.PathLike[str] | None = None,
    attacks_folder: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
) -> list[Drawn]:
    """Draw every figure that the results allow into the folder `out`, as PNG with its data as CSV.

    Parameters
    ----------
    results : pyarrow.Table
        Compact table of results, see `insphere.benchmark.tables.measured.measured_runs`.
    out : path
        Folder, made if missing.
    expected : Expected, optional
        Says which figures there are. Of data sets that it has no figure of, the times and the AUROC of all methods are drawn.
    runs_folder : path, optional
        Folder of the runs' files; galleries need it.
    attacks_folder : path, optional
        What the benchmark of attacks wrote; galleries of attacked images need it.
    data_dir : path, optional
        As `insphere.data.load_dataset`.

    Returns
    -------
    list of Drawn
        One for every figure; each skipped one is logged as a warning with its reason.

    Raises
    ------
    DataError
        If the table of results cannot be used.
    OutputError
        If a file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> columns = {"dataset": ["digits"], "normal_class": ["3"], "method": ["knn"], "seed": [0], "auroc": [0.97]}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [(drawn.name, drawn.reason) for drawn in write_figures(pa.table(columns), folder)]
    [('times-digits', 'no run on digits has its times'), ('bars-digits', '')]
    """
    folder = make_folder(out)
    places = (None if place is None else Path(place) for place in (runs_folder, attacks_folder, data_dir))
    material = Material(tuple(measured_runs(results)), *places)
    return [_draw(figure, material, folder) for figure in _wanted(material.runs, expected or Expected(""))]


def _wanted(runs: Iterable[Measured], expected: Expected) -> list[ExpectedFigure]:
    shown = {figure.dataset for figure in expected.figures}
    others = [dataset for dataset in dict.fromkeys(run.dataset for run in runs) if dataset not in shown]
    plain = (("times", "seconds to fit and to score"), ("bars", "AUROC of every method"))
    extra = [ExpectedFigure(f"{kind}-{dataset}", f"{dataset}: {title}", kind, dataset) for dataset in others for kind, title in plain]
    return [*expected.figures, *extra]


def _draw(figure: ExpectedFigure, material: Material, folder: Path) -> Drawn:
    draw: dict[str, Callable[[ExpectedFigure, Material, Path], list[Path]]] = {
        "times": draw_times,
        "bars": draw_bars,
        "sweep": draw_sweep,
        "gallery": draw_gallery,
        "attack-gallery": draw_attack_gallery,
    }
    try:
        with style.context(LOOK):
            return Drawn(figure.name, tuple(draw[figure.kind](figure, material, folder)))
    except CannotDrawError as error:
        _log.warning("Figure %s was skipped: %s.", figure.name, error)
        return Drawn(figure.name, reason=str(error))
