"""A map of the codes in two dimensions, with the sphere as a circle."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere.detectors.base import AbstractDetector
from insphere.report.axes import Axis
from insphere.report.judging import JudgedRows
from insphere.seeding import generator

Array = NDArray[np.float64]

MAX_POINTS = 2000
"""Rows that the map shows at most, drawn without regard to their scores."""

RING = 0.5
"""Radius at which the detector's threshold is drawn; the map's edge is at 1."""


@dataclasses.dataclass(frozen=True)
class SphereMap:
    """Where the codes lie around the centre of the sphere.

    Attributes
    ----------
    around : dict of str to str
        Path of the points of each group. A point's distance from the middle says its score, so the circle is exact: what is outside is
        flagged. Its direction is that of its code, along the first two principal components.
    components : dict of str to str
        The same points at their first two principal components.
    centre : tuple of two floats
        Where the centre of the sphere is among the `components`, in a square of 1000.
    units_per_score : float or None
        Radius, in the same square, of the sphere of a score of 1; None where a score is not a distance to the centre.
    explained : tuple of two floats
        Share of the codes' spread along each of the two, in [0, 1].
    radius : Radius
        Scores to distances from the middle in `around`.
    n_shown : int
        Points on the map.
    """

    around: dict[str, str]
    components: dict[str, str]
    centre: tuple[float, float]
    units_per_score: float | None
    explained: tuple[float, float]
    radius: "Radius"
    n_shown: int


@dataclasses.dataclass(frozen=True)
class Radius:
    """Distance from the middle for a score: straight up to the detector's threshold at `RING`, and beyond as the score axis goes.

    Examples
    --------
    >>> Radius(0.0, 2.0, Axis(2.0, 6.0)).of(np.array([0.0, 1.0, 2.0, 4.0, 6.0]))
    array([0.  , 0.25, 0.5 , 0.75, 1.  ])
    """

    low: float
    threshold: float
    beyond: Axis

    def of(self, scores: Array) -> Array:
        """Return the distance of each score, in [0, 1]."""
        inside = np.clip((scores - self.low) / (self.threshold - self.low), 0, 1)
        return np.asarray(np.where(scores <= self.threshold, RING * inside, RING + (1 - RING) * self.beyond.place(scores)))


def sphere_map(detector: AbstractDetector, rows: JudgedRows, axis: Axis) -> SphereMap | None:
    """Return the map, or None for a detector without codes."""
    find_codes: Any = getattr(detector, "codes", None)
    if find_codes is None:
        return None
    chosen = np.arange(len(rows))
    if len(chosen) > MAX_POINTS:
        chosen = np.sort(generator(0, "map of a report").choice(len(rows), MAX_POINTS, replace=False))
    codes = find_codes(rows.source.take(rows.index[chosen]))
    known = np.isfinite(codes).all(axis=1) & np.isfinite(rows.anomaly_score[chosen])
    if not known.any():
        return None
    chosen, offsets = chosen[known], _offsets(detector, codes[known])
    places, explained = principal_components(offsets)
    radius = _radius(detector, rows.anomaly_score, axis)
    angle, distance = np.arctan2(places[:, 1], places[:, 0]), radius.of(rows.anomaly_score[chosen])
    around = np.column_stack([np.cos(angle), np.sin(angle)]) * distance[:, None]
    middle, half_width = _view(places)
    components = np.clip((places - middle) / half_width, -0.98, 0.98)
    groups = {name: mask[chosen] for name, mask in rows.groups.items()}
    return SphereMap(
        around={name: _points(around[mask] * 0.97) for name, mask in groups.items()},
        components={name: _points(components[mask]) for name, mask in groups.items()},
        centre=(round(500 - 500 * float(middle[0]) / half_width, 1), round(500 + 500 * float(middle[1]) / half_width, 1)),
        units_per_score=round(500 / half_width, 4) if _is_distance(detector) else None,
        explained=explained,
        radius=radius,
        n_shown=len(chosen),
    )


def principal_components(offsets: Array) -> tuple[Array, tuple[float, float]]:
    """Return the first two principal components of offsets from the centre, shape (n, 2), and the share of the spread along each.

    The sign of a component is that of its largest loading, so that the same codes always give the same map.
    """
    _, spread, directions = np.linalg.svd(offsets, full_matrices=False)
    total = float((spread**2).sum()) or 1.0
    shares = [float(value**2) / total for value in spread[:2]]
    directions = directions[:2] * np.sign(directions[np.arange(len(directions[:2])), np.abs(directions[:2]).argmax(axis=1)])[:, None]
    places = np.zeros((len(offsets), 2))
    places[:, : len(directions)] = offsets @ directions.T
    return places, (shares[0], shares[1] if len(shares) > 1 else 0.0)


def _offsets(detector: AbstractDetector, codes: Array) -> Array:
    """Return the codes as seen from the centre, in the sphere's own metric where it has one."""
    sphere: Any = getattr(detector, "sphere_", None)
    if sphere is None:
        return np.asarray(codes - codes.mean(axis=0))
    whitening = getattr(sphere, "whitening", None)
    offsets: Array = codes - sphere.center
    return offsets if whitening is None else np.asarray(offsets @ whitening.T)


def _is_distance(detector: AbstractDetector) -> bool:
    return getattr(getattr(detector, "sphere_", None), "kind", "") in ("euclidean", "mahalanobis")


def _view(places: Array) -> tuple[Array, float]:
    """Return middle and half width of the square that holds the centre and all but the farthest points, which are drawn at its edge."""
    low, high = np.quantile(places, [0.01, 0.99], axis=0)
    low, high = np.minimum(low, 0), np.maximum(high, 0)
    return (low + high) / 2, 0.55 * float((high - low).max()) or 1.0


def _radius(detector: AbstractDetector, scores: Array, axis: Axis) -> Radius:
    threshold = float(detector.threshold_)
    low = 0.0 if axis.low > 0 else min(axis.low, threshold)
    high = max(axis.high, threshold)
    width = max(abs(threshold), 1.0) * 1e-9
    beyond = Axis(threshold, max(high, threshold + width), logarithmic=axis.logarithmic and threshold > 0)
    return Radius(min(low, threshold - width), threshold, beyond)


def _points(places: Array) -> str:
    """Return a path of dots (lines of no length with round ends) for places in [-1, 1]², y upwards, in a square of 1000."""
    across, down = np.rint(500 + 500 * places[:, 0]).astype(int), np.rint(500 - 500 * places[:, 1]).astype(int)
    return "".join(f"M{x} {y}h0" for x, y in zip(across.tolist(), down.tolist(), strict=True))
