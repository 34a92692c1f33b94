"""How two rankings of the same rows compare: areas under the ROC curve, and their difference with an interval that knows of the pairing."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata, spearmanr, t

from insphere.estimate import NORMAL_QUANTILE, Estimate, proportion

FloatArray = NDArray[np.float64]


def placements(normal: FloatArray, anomaly: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return for each normal row the share of anomalies above it, and for each anomaly the share of normal rows below it; ties count half.

    The mean of either is the area under the ROC curve.

    Examples
    --------
    >>> placements(np.array([1.0, 3.0]), np.array([2.0, 4.0]))
    (array([1. , 0.5]), array([0.5, 1. ]))
    """
    ranks = rankdata(np.concatenate([anomaly, normal]))
    above = 1 - (ranks[len(anomaly) :] - rankdata(normal)) / len(anomaly)
    below = (ranks[: len(anomaly)] - rankdata(anomaly)) / len(normal)
    return above, below


def area(repeats: Sequence[tuple[FloatArray, FloatArray]]) -> Estimate:
    """Return the mean area under the ROC curve of several repeats, each given as the scores of normal rows and of anomalies.

    Examples
    --------
    >>> area([(np.arange(50.0), np.arange(25.0, 75.0))]).value
    0.875
    """
    found = difference(repeats, None)
    return Estimate(found.value, max(0.0, found.low), min(1.0, found.high))


def difference(repeats: Sequence[tuple[FloatArray, FloatArray]], others: Sequence[tuple[FloatArray, FloatArray]] | None) -> Estimate:
    """Return the mean difference of two areas under ROC curves on the same rows, in [-1, 1], with its 95 % interval.

    Within a repeat the variance is that of the paired placements (DeLong 1988). Repeats share rows, so that it isn't divided by their
    number; the variance between repeats is, and is added.

    Parameters
    ----------
    repeats, others : sequence of (ndarray, ndarray)
        Scores of normal rows and of anomalies in each repeat, of the one detector and of the other; None is an area of 0.

    Examples
    --------
    >>> normal, anomaly = np.arange(50.0), np.arange(25.0, 75.0)
    >>> difference([(normal, anomaly)], [(normal, anomaly)])
    Estimate(value=0.0, low=0.0, high=0.0)
    """
    values, variances = [], []
    for position, scores in enumerate(repeats):
        above, below = placements(*scores)
        if others is not None:
            above, below = (own - other for own, other in zip((above, below), placements(*others[position]), strict=True))
        values.append(float(below.mean()))
        variances.append(sum(float(part.var(ddof=1)) / len(part) for part in (above, below) if len(part) > 1))
    between = float(np.var(values, ddof=1)) / len(values) if len(values) > 1 else 0.0
    value, half = float(np.mean(values)), NORMAL_QUANTILE * math.sqrt(float(np.mean(variances)) + between)
    return Estimate(value, value - half, value + half)


def rate(flags: Sequence[NDArray[np.bool_]], n_rows: int) -> Estimate:
    """Return the share of rows flagged, mean of several repeats, with its 95 % interval.

    The interval is Wilson's for `n_rows` rows, widened to the t interval of the mean of the repeats, whose thresholds differ.

    Parameters
    ----------
    flags : sequence of ndarray of bool
        Of the normal rows in each repeat.
    n_rows : int
        Different rows in all repeats together.

    Examples
    --------
    >>> print(rate([np.arange(100) < 5], 100))
    0.050 [0.022, 0.112]
    """
    rates = np.array([float(flagged.mean()) for flagged in flags])
    value = float(rates.mean())
    wilson = proportion(round(value * n_rows), n_rows)
    half = 0.0
    if len(rates) > 1:
        half = float(t.ppf(0.975, len(rates) - 1) * rates.std(ddof=1) / math.sqrt(len(rates)))
    return Estimate(value, max(0.0, min(wilson.low, value - half, value)), min(1.0, max(wilson.high, value + half, value)))


def alike(scores: FloatArray, others: FloatArray) -> float:
    """Return the rank correlation (Spearman) of two scorings of the same rows; 1 where they are equal, 0 where one says nothing.

    One that is constant, or not finite, says nothing.

    Examples
    --------
    >>> alike(np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 30.0]))
    1.0
    """
    if np.array_equal(scores, others):
        return 1.0
    if not (np.isfinite(scores).all() and np.isfinite(others).all()) or np.ptp(scores) == 0 or np.ptp(others) == 0:
        return 0.0
    return float(spearmanr(scores, others).statistic)


def spread(scores: FloatArray) -> float:
    """Return the interquartile range of scores, their whole range where it is 0, and 1 where all are equal.

    Examples
    --------
    >>> spread(np.arange(101.0)), spread(np.zeros(5))
    (50.0, 1.0)
    """
    low, high = np.quantile(scores, [0.25, 0.75])
    return float(high - low) or float(np.ptp(scores)) or 1.0


def apart(scores: FloatArray, others: FloatArray) -> float:
    """Return the largest difference of two scorings of the same rows, in units of the first one's spread.

    Examples
    --------
    >>> apart(np.arange(101.0), np.arange(101.0) + 5)
    0.1
    """
    return float(np.max(np.abs(scores - others), initial=0.0)) / spread(scores)
