"""Charts as SVG paths in a square of 1000 by 1000, made here so that they are there even where no script runs."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from insphere.report.axes import Axis
from insphere.report.judging import JudgedRows
from insphere.training.history import EpochRecord

Array = NDArray[np.float64]

SIDE = 1000
_MAX_VERTICES = 400
_MAX_EPOCHS = 400


@dataclasses.dataclass(frozen=True)
class Histogram:
    """How the scores are spread.

    Attributes
    ----------
    up, down : str
        Path of the bars above the base line (normal rows, or all) and below it (anomalies; empty without labels).
    held_out : str
        Outline of what the rows held out at fit time lead to expect of the rows above the line.
    highest_up, highest_down : int
        Rows in the tallest bar of each; each side has its own scale.
    base : int
        Height of the base line.
    """

    up: str
    down: str
    held_out: str
    highest_up: int
    highest_down: int
    base: int


def histogram(rows: JudgedRows, held_out: Array, axis: Axis) -> Histogram:
    """Return the histogram of the scores, on both sides of a line where labels tell the rows apart."""
    groups = {name: axis.place(rows.anomaly_score[mask & ~np.isnan(rows.anomaly_score)]) for name, mask in rows.groups.items()}
    upper, lower = groups.get("normal", groups.get("all", np.empty(0))), groups.get("anomaly")
    edges = np.linspace(0, 1, int(np.clip(2 * math.sqrt(len(rows)), 16, 64)) + 1)
    up, down = (np.histogram(places, edges)[0] for places in (upper, np.empty(0) if lower is None else lower))
    expected = np.histogram(axis.place(held_out), edges)[0] * (len(upper) / max(len(held_out), 1))
    base = SIDE if lower is None else SIDE // 2
    highest_up, highest_down = max(int(up.max()), math.ceil(expected.max())), int(down.max())
    return Histogram(
        up=_bars(edges, up / max(highest_up, 1) * base, base, -1),
        down=_bars(edges, down / max(highest_down, 1) * (SIDE - base), base, 1),
        held_out=_outline(edges, base - expected / max(highest_up, 1) * base, base) if len(held_out) else "",
        highest_up=highest_up,
        highest_down=highest_down,
        base=base,
    )


def _bars(edges: Array, heights: Array, base: int, direction: int) -> str:
    left, right = edges[:-1] * SIDE + 1.2, edges[1:] * SIDE - 1.2
    return "".join(
        f"M{start:.1f} {base}V{base + direction * height:.1f}H{stop:.1f}V{base}Z"
        for start, stop, height in zip(left, right, heights, strict=True)
        if height > 0
    )


def _outline(edges: Array, tops: Array, base: int) -> str:
    steps = "".join(f"V{top:.1f}H{stop * SIDE:.1f}" for top, stop in zip(tops, edges[1:], strict=True))
    return f"M0 {base}{steps}V{base}"


@dataclasses.dataclass(frozen=True)
class Curve:
    """ROC and precision-recall curve of one set of anomalies against all normal rows, as paths."""

    name: str
    roc: str
    precision_recall: str


def curves(rows: JudgedRows) -> list[Curve]:
    """Return the curves of all anomalies, named "", and those of each type; none unless both labels occur."""
    if rows.labels is None or not 0 < rows.labels.sum() < len(rows):
        return []
    normal = np.sort(rows.anomaly_score[rows.labels == 0])
    sets = {"": rows.labels == 1} | rows.anomaly_types
    return [_curve(name, normal, np.sort(rows.anomaly_score[mask])) for name, mask in sets.items()]


def _curve(name: str, normal: Array, anomaly: Array) -> Curve:
    thresholds = np.unique(np.concatenate([normal, anomaly]))[::-1]
    false_alarms = len(normal) - np.searchsorted(normal, thresholds, side="left")
    found = len(anomaly) - np.searchsorted(anomaly, thresholds, side="left")
    precision, recall = found / (found + false_alarms), found / len(anomaly)
    x, y = np.append(0.0, false_alarms / len(normal)), np.append(0.0, recall)
    # Precision holds up to the recall that it is reached at: steps, as average precision sums them.
    steps_x, steps_y = np.repeat(np.append(0.0, recall), 2)[1:-1], np.repeat(precision, 2)
    return Curve(name, line(x, y), line(steps_x, steps_y))


def line(x: Array, y: Array) -> str:
    """Return the path through points in the unit square, y upwards, with as many corners as the eye can tell.

    Examples
    --------
    >>> line(np.array([0.0, 0.5, 1.0]), np.array([0.0, 1.0, 1.0]))
    'M0 1000L500 0L1000 0'
    """
    across, down = np.rint(x * SIDE).astype(int), np.rint((1 - y) * SIDE).astype(int)
    moved = np.append(True, (np.diff(across) != 0) | (np.diff(down) != 0))
    across, down = across[moved], down[moved]
    # A corner on a straight line through its neighbours says nothing.
    (before_x, after_x), (before_y, after_y) = ((values[1:-1] - values[:-2], values[2:] - values[1:-1]) for values in (across, down))
    corner = np.concatenate([[True], before_x * after_y != before_y * after_x, [True]])[: len(across)]
    if corner.sum() > _MAX_VERTICES:
        kept = np.flatnonzero(corner)[np.linspace(0, corner.sum() - 1, _MAX_VERTICES).round().astype(int)]
    else:
        kept = np.flatnonzero(corner)
    return "M" + "L".join(f"{across[place]} {down[place]}" for place in kept)


@dataclasses.dataclass(frozen=True)
class TermCurve:
    """How one term of the loss went over the epochs."""

    name: str
    path: str
    first: float
    last: float
    low: float
    high: float
    n_epochs: int


def training_curves(history: Sequence[EpochRecord]) -> dict[str, list[TermCurve]]:
    """Return the curves of each stage of the training, the loss first, the validation loss after the terms."""
    stages: dict[str, list[EpochRecord]] = {}
    for record in history:
        stages.setdefault(record.stage, []).append(record)
    return {stage: list(_stage_curves(records)) for stage, records in stages.items()}


def _stage_curves(records: Sequence[EpochRecord]) -> Iterable[TermCurve]:
    series: dict[str, list[float]] = {}
    for record in records:
        terms: Mapping[str, float | None] = {**record.terms, "validation loss": record.validation_loss}
        for name, value in terms.items():
            if value is not None:
                series.setdefault(name, []).append(value)
    for name in sorted(series, key=lambda name: (name == "validation loss", name != "loss")):
        yield _term_curve(name, np.array(series[name], dtype=np.float64))


def _term_curve(name: str, values: Array) -> TermCurve:
    shown = values[np.linspace(0, len(values) - 1, min(len(values), _MAX_EPOCHS)).round().astype(int)]
    low, high = float(np.nanmin(shown)), float(np.nanmax(shown))
    heights = (shown - low) / (high - low) if high > low else np.full(len(shown), 0.5)
    path = line(np.linspace(0, 1, max(len(shown), 2)), heights if len(shown) > 1 else np.repeat(heights, 2))
    return TermCurve(name, path, float(values[0]), float(values[-1]), low, high, len(values))
