"""All thresholds that the slider of a report can stop at, and what each would have flagged: counted here, only looked up in the page."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from insphere.detectors.base import AbstractDetector
from insphere.estimate import Estimate
from insphere.report.judging import JudgedRows

MAX_STOPS = 1200
"""About how many stops the slider has at most; beyond it thresholds are chosen evenly by rank."""

RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2)
"""False-alarm rates whose thresholds are always among the stops, where enough rows were held out for them."""

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class OperatingPoints:
    """Thresholds and their consequences; a row is flagged where its score is above the threshold.

    Attributes
    ----------
    thresholds : ndarray of float64, shape (k,)
        Finite, increasing; the first flags every row, the last none (of finite score).
    flagged : dict of str to ndarray of int64, shape (k,)
        Flagged rows of each group of `JudgedRows.groups`.
    flagged_types : dict of str to ndarray of int64, shape (k,)
        Flagged rows of each type of anomaly.
    expected : tuple of Estimate, length k
        False-alarm rate to expect on new normal rows, from the rows held out at fit time; empty where none were.
    chosen : int
        Which of them is the detector's own threshold.
    """

    thresholds: Array
    flagged: dict[str, NDArray[np.int64]]
    flagged_types: dict[str, NDArray[np.int64]]
    expected: tuple[Estimate, ...]
    chosen: int


def operating_points(detector: AbstractDetector, rows: JudgedRows) -> OperatingPoints:
    """Return the stops of the slider for these rows; exact counts at each, however many rows there are."""
    scores = rows.anomaly_score
    thresholds = _thresholds(detector, rows)
    return OperatingPoints(
        thresholds=thresholds,
        flagged={name: count_above(scores[mask], thresholds) for name, mask in rows.groups.items()},
        flagged_types={name: count_above(scores[mask], thresholds) for name, mask in rows.anomaly_types.items()},
        expected=_expected(detector, thresholds),
        chosen=int(np.searchsorted(thresholds, detector.threshold_)),
    )


def count_above(scores: Array, thresholds: Array) -> NDArray[np.int64]:
    """Return how many scores lie above each threshold.

    Examples
    --------
    >>> count_above(np.array([1.0, 2.0, 2.0, 3.0]), np.array([0.0, 2.0, 3.0]))
    array([4, 1, 0])
    """
    return np.asarray(len(scores) - np.searchsorted(np.sort(scores), thresholds, side="right"), dtype=np.int64)


def _thresholds(detector: AbstractDetector, rows: JudgedRows) -> Array:
    wanted = [detector.threshold_, detector.radius_, *(detector.conformal_.threshold(rate) for rate in RATES)]
    kept = [np.array([value for value in wanted if np.isfinite(value)])]
    # Each label on its own, so that the false alarms are as fine as the detections, however few the normal rows are.
    for mask in rows.groups.values():
        scores = np.unique(rows.anomaly_score[mask])
        kept.append(_thinned(scores[np.isfinite(scores)], MAX_STOPS // len(rows.groups)))
    lowest = min((float(values[0]) for values in kept[1:] if len(values)), default=detector.threshold_)
    return np.unique(np.concatenate([*kept, [np.nextafter(lowest, -np.inf)]]))


def _thinned(values: Array, n_kept: int) -> Array:
    """Return at most `n_kept` of sorted values, evenly by rank, both ends among them."""
    if len(values) <= n_kept:
        return values
    return values[np.linspace(0, len(values) - 1, n_kept).round().astype(np.int64)]


def _expected(detector: AbstractDetector, thresholds: Array) -> tuple[Estimate, ...]:
    """Return what split conformal prediction promises of each threshold: (1 + held-out scores above it) / (held-out rows + 1)."""
    held_out = detector.conformal_.scores
    if not len(held_out):
        return ()
    total = len(held_out) + 1
    ranks = 1 + count_above(held_out, thresholds)
    of_rank = {rank: detector.decision_.false_alarm(rank / total) for rank in np.unique(ranks).tolist() if rank < total}
    # Below the lowest held-out score every normal row is to be expected among the flagged.
    of_rank[total] = Estimate(1.0, len(held_out) / total, 1.0)
    return tuple(of_rank[rank] for rank in ranks.tolist())
