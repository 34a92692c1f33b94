"""The HTML file: everything gathered, laid out by a template, with styles, script and pictures inside."""

import base64
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere.detectors.base import AbstractDetector, Rows, ScoredRows, as_rows
from insphere.errors import DataError, MissingDependencyError
from insphere.output_file import check_writable, replacing
from insphere.report.axes import Axis, score_axis
from insphere.report.charts import curves, histogram, training_curves
from insphere.report.explaining import Reasons, find_reasons
from insphere.report.features import FeatureScale, standing_out
from insphere.report.judging import JudgedRows, judge
from insphere.report.operating import OperatingPoints, operating_points
from insphere.report.pictures import Gallery, Tile, choose_galleries, data_uri, make_tile, to_pixels
from insphere.report.sphere_map import RING, SphereMap, sphere_map
from insphere.report.verdict import Verdict, interval, percent, reach_verdict
from insphere.validation import check_integer

MAX_ERRORS = 200
"""Unreadable rows that a report lists; it says how many more there are."""

MAX_TYPES = 40
"""Types of anomalies that a report has a line for, the most frequent ones."""

_REFERENCE_ROWS = 2000


@dataclasses.dataclass(frozen=True)
class WrittenReport:
    """What was written.

    Attributes
    ----------
    path : Path
    n_bytes : int
        Size of the file.
    n_rows, n_scored, n_errors, n_anomalies : int
        Rows of the source: all, with a score, without one, flagged.
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
    thumbnail_size: int = 64,
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
        File to write, complete or not at all.
    title : str, optional
        Heading; default: the detector's name and the source's.
    split : {"test", "all", "train"}
        Which rows of a source with parts; has no effect on a source object.
    max_images : int
        Rows in each of at most five galleries, 1 to 500. An image takes at most about 10 kB in the file, its heat-map as much.
    thumbnail_size : int
        Longest side of the pictures in pixels, 8 to 256.
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
    >>> import tempfile, insphere
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> detector = insphere.KNN().fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     written = write_report(detector, X[:50], Path(folder) / "report.html")
    >>> written.n_scored, written.n_bytes < 200_000
    (50, True)
    """
    check_integer("max_images", max_images, at_least=1, at_most=500)
    check_integer("thumbnail_size", thumbnail_size, at_least=8, at_most=256)
    check_writable(path)
    opened = detector.open(source, split=split)
    if not len(opened):
        raise DataError(f"A report needs at least one row, but {opened.name} has none in its {split!r} part.")
    rows = judge(detector, opened, on_batch)
    galleries = choose_galleries(rows, detector.threshold_, max_images)
    tiles, reasons = _tiles(detector, rows, galleries, thumbnail_size, heatmaps=heatmaps)
    verdict = reach_verdict(detector, rows)
    html = render(_context(detector, rows, galleries, tiles, reasons, verdict, title))
    with replacing(path) as handle:
        handle.write(html)
    return WrittenReport(
        path=Path(path),
        n_bytes=len(html),
        n_rows=len(opened),
        n_scored=len(rows),
        n_errors=len(rows.errors),
        n_anomalies=int(rows.is_anomaly.sum()),
        n_images=sum(len(entry) for entry in tiles.values()),
        level=verdict.level,
        headline=verdict.headline,
        summary=verdict.summary,
    )


def _tiles(
    detector: AbstractDetector, rows: JudgedRows, galleries: list[Gallery], size: int, *, heatmaps: bool
) -> tuple[dict[str, list[Tile]], Reasons]:
    """Return the tiles of each gallery, by its name; each row is read and explained once, whatever galleries it is in."""
    wanted = np.unique(np.concatenate([gallery.rows for gallery in galleries]))
    loaded = rows.source.take(rows.index[wanted]).load()
    X = as_rows(loaded.X)
    pixels = to_pixels(X, from_files=rows.source.spec is not None) if rows.source.is_image else None
    reasons = find_reasons(detector, X, pixels) if heatmaps and len(X) else Reasons(missing="Heat-maps were not asked for.")
    shown = _features(detector, rows, X, reasons) if pixels is None else _pictures(pixels, reasons, size)
    # A file that has gone since it was scored has no picture; its row is left out of the galleries.
    content = dict(zip(wanted[loaded.index].tolist(), shown, strict=True))
    tiles = {
        gallery.name: [make_tile(rows, row, content[row]) for row in gallery.rows.tolist() if row in content] for gallery in galleries
    }
    return tiles, reasons


def _pictures(pixels: NDArray[np.uint8], reasons: Reasons, size: int) -> list[dict[str, Any]]:
    heat = [""] * len(pixels) if reasons.overlays is None else [data_uri(overlay, size) for overlay in reasons.overlays]
    return [{"picture": data_uri(image, size), "heatmap": uri} for image, uri in zip(pixels, heat, strict=True)]


def _features(detector: AbstractDetector, rows: JudgedRows, X: NDArray[Any], reasons: Reasons) -> list[dict[str, Any]]:
    # The reference is what the detector takes for normal: half of the rows, those with the lowest scores.
    order = np.argsort(rows.anomaly_score, kind="stable")[: max(1, len(rows) // 2)]
    reference = rows.source.take(rows.index[order[:: max(1, len(order) // _REFERENCE_ROWS)]]).load().X
    scale = FeatureScale.of(reference if len(reference) else X)
    found = standing_out(X, scale, rows.source.feature_names or detector.feature_names_, reasons.contributions)
    return [{"features": parts} for parts in found]


def _context(
    detector: AbstractDetector,
    rows: JudgedRows,
    galleries: list[Gallery],
    tiles: dict[str, list[Tile]],
    reasons: Reasons,
    verdict: Verdict,
    title: str | None,
) -> dict[str, Any]:
    """Return all that the template lays out."""
    points = operating_points(detector, rows)
    axis = score_axis(rows.anomaly_score, detector.conformal_.scores, np.array([detector.threshold_]))
    around = sphere_map(detector, rows, axis)
    description = detector.describe()
    return {
        "title": title or f"{detector.name} on {rows.source.name}",
        "verdict": verdict,
        "rows": rows,
        "source": {"name": rows.source.name, "shape": "×".join(map(str, rows.source.row_shape)), "is_image": rows.source.is_image},
        "evaluation": rows.evaluation,
        "types": _types(rows),
        "points": points,
        "now": _now(points, rows),
        "axis": axis,
        "histogram": histogram(rows, detector.conformal_.scores, axis),
        "threshold_place": float(axis.place(detector.threshold_)),
        "curves": _drawn_curves(rows),
        "galleries": [(gallery, tiles[gallery.name]) for gallery in galleries],
        "reasons": reasons,
        "map": around,
        "ring": RING,
        "training": training_curves(getattr(detector, "history_", [])),
        "errors": [(rows.name_at(position), text) for position, text in sorted(rows.errors.items())[:MAX_ERRORS]],
        "counts": _counts(rows),
        "description": description,
        "settings": _flat(description["parameters"]),
        "version": version("insphere"),
        "data": _page_data(points, rows, axis, around),
    }


def _types(rows: JudgedRows) -> dict[str, Any]:
    """Return the figures of the most frequent types of anomalies, in order of their names."""
    if rows.evaluation is None or not rows.anomaly_types:
        return {}
    per_type = rows.evaluation.per_type
    kept = sorted(per_type, key=lambda name: (-per_type[name].n, name))[:MAX_TYPES]
    return {name: per_type[name] for name in sorted(kept)}


def _drawn_curves(rows: JudgedRows) -> list[Any]:
    kept = {"", *_types(rows)}
    return [curve for curve in curves(rows) if curve.name in kept]


def _now(points: OperatingPoints, rows: JudgedRows) -> dict[str, Any]:
    """Return the state of the page before anyone moves the slider."""
    return {
        "flagged": {name: int(counts[points.chosen]) for name, counts in points.flagged.items()},
        "size": {name: int(mask.sum()) for name, mask in rows.groups.items()},
        "expected": points.expected[points.chosen] if points.expected else None,
        "threshold": float(points.thresholds[points.chosen]),
    }


def _counts(rows: JudgedRows) -> list[tuple[str, int, int]]:
    """Return name, rows and flagged rows of each class of the source, the most frequent first."""
    if rows.types is None:
        return []
    types = np.array(rows.types, dtype=object)
    counts = [(name, int((types == name).sum()), int(rows.is_anomaly[types == name].sum())) for name in sorted(set(rows.types))]
    return sorted(counts, key=lambda entry: -entry[1])[:MAX_TYPES]


def _flat(parameters: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return nested parameters as lines of dotted names and texts."""
    lines: list[tuple[str, str]] = []
    for name, value in parameters.items():
        if isinstance(value, dict) and value:
            lines += _flat(value, f"{prefix}{name}.")
        else:
            lines.append((prefix + name, "default" if value is None else str(value)))
    return lines


def _page_data(points: OperatingPoints, rows: JudgedRows, axis: Axis, around: SphereMap | None) -> dict[str, Any]:
    """Return what the script looks up: no count is made in the page."""
    expected = [[round(number, 6) for number in dataclasses.astuple(estimate)] for estimate in points.expected]
    shown = _types(rows)
    return {
        "thresholds": points.thresholds.tolist(),
        "places": [round(place, 5) for place in axis.place(points.thresholds).tolist()],
        "radii": None if around is None else [round(radius, 4) for radius in around.radius.of(points.thresholds).tolist()],
        "flagged": {name: counts.tolist() for name, counts in points.flagged.items()},
        "sizes": {name: int(mask.sum()) for name, mask in rows.groups.items()},
        "types": [{"flagged": counts.tolist(), "size": shown[name].n} for name, counts in points.flagged_types.items() if name in shown],
        "expected": expected,
        "chosen": points.chosen,
    }


def render(context: dict[str, Any]) -> bytes:
    """Return the page as UTF-8, with a content security policy that admits its own styles and script and nothing else.

    Raises
    ------
    MissingDependencyError
        If Jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, StrictUndefined
        from markupsafe import Markup
    except ImportError as error:
        raise MissingDependencyError("A report needs Jinja2, which is not installed: pip install 'insphere[report]'.") from error
    style, script, template = (_part(name) for name in ("page.css", "page.js", "page.html.jinja"))
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"percent": percent, "interval": interval, "number": _number}
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
    )
    inside = {"style": Markup(style), "script": Markup(script), "policy": policy, "json": Markup(_json(context["data"]))}
    html: str = environment.from_string(template).render(**(context | inside))
    return html.encode("utf-8", "backslashreplace")


def _part(name: str) -> str:
    return (files("insphere.report") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"


def _json(data: Any) -> str:
    # Inside a script element only "<" could end it or begin a comment.
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _number(value: float) -> str:
    return f"{value:.4g}"
