"""Write a report: score the rows, gather what is to be said, lay it out, write the file."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from insphere.data import AbstractSource
from insphere.decision.scored import ScoredRows
from insphere.detectors.base import AbstractDetector
from insphere.detectors.scoring import Rows
from insphere.errors import DataError, ParameterError
from insphere.output_file import check_writable, replacing
from insphere.report.contents import gather
from insphere.report.judging import judge
from insphere.report.layout import render
from insphere.validation import check_integer
from insphere.visible import one_line

_SMALL, _LARGE = 64, 160  # pixels of the longer side of a picture


@dataclasses.dataclass(frozen=True)
class WrittenReport:
    """What was written.

    Attributes
    ----------
    path : Path
    n_bytes : int
        Size of the file.
    n_rows, n_scored, n_errors, n_anomalies, n_seen : int
        Rows of the source: all, with a score, without one, flagged, given to `fit` too.
    n_images : int
        Rows shown as pictures or by their features; one may be in several galleries.
    level, headline, summary : str
        The verdict: "ok", "warning" or "critical", and its words.
    """

    path: Path
    n_bytes: int
    n_rows: int
    n_scored: int
    n_errors: int
    n_anomalies: int
    n_seen: int
    n_images: int
    level: str
    headline: str
    summary: str


def write_report(
    detector: AbstractDetector,
    source: Rows,
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
    split: str = "test",
    max_images: int = 36,
    thumbnail_size: int | None = None,
    heatmaps: bool = True,
    on_batch: Callable[[ScoredRows], Any] | None = None,
) -> WrittenReport:
    """Score the rows of a source and write a report on them, and on the detector, as one HTML file that needs no network.

    The same detector, source and options give the same bytes. Rows are scored by `AbstractDetector.score_batches`, so scores equal those
    of ``insphere score``.

    Parameters
    ----------
    detector : AbstractDetector
        Fitted.
    source : array, source or path
        What to score: see `insphere.open_source`. Labels add rates, curves and galleries of mistakes.
    path : path-like
        File to write, complete or not at all; its name ends in .html.
    title : str, optional
        Heading; default: the detector's name and the source's.
    split : {"test", "all", "train"}
        Which rows of a source with parts; has no effect on a source object.
    max_images : int
        Rows in each of at most five galleries, 1 to 500.
    thumbnail_size : int, optional
        Longest side of the pictures in pixels, 8 to 256. At 64, an image takes at most about 10 kB in the file, its heat-map as much.
        Default: 64, or 160 for detectors with heat-maps of their own, which are drawn over the photos themselves.
    heatmaps : bool
        Whether to explain the shown rows, where the detector can be explained.
    on_batch : callable, optional
        Called with every batch of scored rows.

    Returns
    -------
    WrittenReport

    Raises
    ------
    CollapseError
        If the detector refuses to score.
    DataError
        If the rows do not fit the detector, or not one of them can be scored.
    OutputError
        If the file cannot be written.
    ParameterError
        If an option breaks its rule.

    Examples
    --------
    >>> import tempfile
    >>> import insphere, numpy as np
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> detector = insphere.KNN(random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     written = write_report(detector, X[:50], Path(folder) / "report.html")
    >>> written.n_scored, written.n_bytes < 200_000
    (50, True)
    """
    check_integer("max_images", max_images, at_least=1, at_most=500)
    size = (_LARGE if detector.has_maps else _SMALL) if thumbnail_size is None else thumbnail_size
    check_integer("thumbnail_size", size, at_least=8, at_most=256)
    if Path(path).suffix.lower() not in (".html", ".htm"):
        raise ParameterError(f"A report is an HTML file, so its name must end in .html, got {os.fspath(path)!r}.")
    check_writable(path)
    # Of rows that are opened already, the caller has chosen the part.
    opened = detector.open(source, split="all" if isinstance(source, AbstractSource) else split)
    if not len(opened):
        raise DataError(f"A report needs at least one row, but {opened.name} has none in its {split!r} part.")
    rows = judge(detector, opened, on_batch)
    contents = gather(detector, rows, n_each=max_images, thumbnail_size=size, heatmaps=heatmaps)
    html = render(contents | {"title": title or f"{detector.name} on {one_line(opened.name)}"})
    verdict = contents["verdict"]
    with replacing(path) as handle:
        handle.write(html)
    return WrittenReport(
        path=Path(path),
        n_bytes=len(html),
        n_rows=len(opened),
        n_scored=len(rows),
        n_errors=len(rows.errors),
        n_anomalies=int(rows.is_anomaly.sum()),
        n_seen=rows.n_seen,
        n_images=sum(len(tiles) for _, tiles in contents["galleries"]),
        level=verdict.level,
        headline=verdict.headline,
        summary=verdict.summary,
    )
