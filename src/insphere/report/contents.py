"""What a report says: everything that the template lays out, gathered from the detector and the rows it judged."""

import dataclasses
from collections import Counter
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere.decision.decision import use_of_rows
from insphere.detectors.base import AbstractDetector
from insphere.detectors.fitting import as_rows
from insphere.explain.maps import CALM, STRIKING
from insphere.report.axes import Axis, score_axis
from insphere.report.charts import curves, histogram, training_curves
from insphere.report.explaining import Reasons, find_reasons, map_pictures
from insphere.report.features import FeatureScale, standing_out
from insphere.report.judging import MAX_TYPES, JudgedRows
from insphere.report.operating import OperatingPoints, operating_points
from insphere.report.pictures import Gallery, Tile, choose_galleries, data_uri, make_tile, to_pixels
from insphere.report.sphere_map import RING, SphereMap, sphere_map
from insphere.report.verdict import reach_verdict
from insphere.visible import one_line

MAX_ERRORS = 200
"""Unreadable rows that a report lists; it says how many more there are."""

_REFERENCE_ROWS = 2000
_COARSE = 32  # pixels: smaller images are shown pixel by pixel, larger ones smoothly


def gather(detector: AbstractDetector, rows: JudgedRows, *, n_each: int, thumbnail_size: int, heatmaps: bool) -> dict[str, Any]:
    """Return all that the template lays out, by the names that it uses."""
    galleries = choose_galleries(rows, detector.threshold_, n_each)
    tiles, reasons = _tiles(detector, rows, galleries, thumbnail_size, heatmaps=heatmaps)
    return {
        "verdict": reach_verdict(detector, rows),
        "rows": rows,
        "evaluation": rows.evaluation,
        "galleries": [(gallery, tiles[gallery.name]) for gallery in galleries],
        "reasons": reasons,
        "colours": {"calm": CALM, "striking": STRIKING},
        **_charts(detector, rows),
        **_facts(detector, rows),
    }


def _charts(detector: AbstractDetector, rows: JudgedRows) -> dict[str, Any]:
    held_out = detector.conformal_.scores
    points = operating_points(detector, rows)
    axis = score_axis(rows.anomaly_score, held_out, np.array([detector.threshold_]))
    around = sphere_map(detector, rows, axis)
    return {
        "now": _now(points, rows),
        "axis": axis,
        "histogram": histogram(rows, held_out, axis),
        "threshold_place": round(float(axis.place(detector.threshold_)), 5),
        "curves": curves(rows),
        "map": around,
        "ring": RING,
        "training": training_curves(getattr(detector, "history_", [])),
        "data": _page_data(points, rows, axis, around),
    }


def _facts(detector: AbstractDetector, rows: JudgedRows) -> dict[str, Any]:
    source, description = rows.source, detector.describe()
    listed = sorted(rows.errors.items())[:MAX_ERRORS]
    per_type = {} if rows.evaluation is None else rows.evaluation.per_type
    return {
        "source": {
            "name": one_line(source.name),
            "shape": "×".join(map(str, source.row_shape)),
            "is_image": source.is_image,
            "is_coarse": max(source.row_shape) <= _COARSE,
        },
        "types": {name: per_type[name] for name in rows.anomaly_types},
        "counts": _counts(rows),
        "errors": [(rows.name_at(position), text) for position, text in listed],
        "description": description,
        "settings": _flat(description["parameters"]),
        "use_of_rows": use_of_rows(description["data"]),
        "version": version("insphere"),
    }


def _tiles(
    detector: AbstractDetector, rows: JudgedRows, galleries: list[Gallery], size: int, *, heatmaps: bool
) -> tuple[dict[str, list[Tile]], Reasons]:
    """Return the tiles of each gallery, by its name; each row is read and explained once, whatever galleries it is in."""
    wanted = np.unique(np.concatenate([gallery.rows for gallery in galleries]))
    chosen = rows.source.take(rows.index[wanted])
    if heatmaps and detector.has_maps and chosen.is_image:
        pairs = map_pictures(detector, chosen, size).items()
        content = {int(wanted[at]): {"picture": data_uri(own, size), "heatmap": data_uri(drawn, size)} for at, (own, drawn) in pairs}
        return _in_galleries(rows, galleries, content), Reasons(are_maps=True)
    loaded = chosen.load()
    X = as_rows(loaded.X)
    pixels = to_pixels(X, from_files=rows.source.spec is not None) if rows.source.is_image else None
    reasons = find_reasons(detector, X, pixels) if heatmaps and len(X) else Reasons(missing="Heat-maps were not asked for.")
    shown = _features(detector, rows, X, reasons) if pixels is None else _pictures(pixels, reasons, size)
    return _in_galleries(rows, galleries, dict(zip(wanted[loaded.index].tolist(), shown, strict=True))), reasons


def _in_galleries(rows: JudgedRows, galleries: list[Gallery], content: dict[int, dict[str, Any]]) -> dict[str, list[Tile]]:
    # A file that has gone since it was scored has no picture; its row is left out of the galleries.
    return {gallery.name: [make_tile(rows, row, content[row]) for row in gallery.rows.tolist() if row in content] for gallery in galleries}


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
    counts = Counter(rows.types)
    flagged = Counter(name for name, is_flagged in zip(rows.types, rows.is_anomaly.tolist(), strict=True) if is_flagged)
    return [(name, n, flagged[name]) for name, n in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))[:MAX_TYPES]]


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
    return {
        "thresholds": points.thresholds.tolist(),
        "places": [round(place, 5) for place in axis.place(points.thresholds).tolist()],
        "radii": None if around is None else [round(radius, 4) for radius in around.radius.of(points.thresholds).tolist()],
        "unitsPerScore": None if around is None else around.units_per_score,
        "flagged": {name: counts.tolist() for name, counts in points.flagged.items()},
        "sizes": {name: int(mask.sum()) for name, mask in rows.groups.items()},
        "types": [
            {"flagged": counts.tolist(), "size": int(rows.anomaly_types[name].sum())} for name, counts in points.flagged_types.items()
        ],
        "expected": expected,
        "chosen": points.chosen,
    }
