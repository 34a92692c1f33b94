"""How well sorted scores rank anomalies above normal rows: areas and rates with their 95 % intervals, of scores that have been checked."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import rankdata

from insphere.estimate import CONFIDENCE, NORMAL_QUANTILE, Estimate, proportion
from insphere.seeding import generator

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_TAIL = (1 - CONFIDENCE) / 2
_RESAMPLES = 1000
_MIN_RESAMPLES = 200
_MAX_ROWS_DRAWN = 10_000_000  # about half a second; beyond it there are fewer resamples, whose interval is narrow anyway
_CHUNK_ROWS = 500_000  # a chunk of resamples stays inside the processor's cache


def roc_area(normal: FloatArray, anomaly: FloatArray) -> Estimate:
    """Return the area under the ROC curve; see `insphere.metrics.auroc`.

    Parameters
    ----------
    normal, anomaly : ndarray of float64, shape (m,)
        Scores of each label, increasing, at least one each.

    Examples
    --------
    >>> roc_area(np.array([0.1, 0.2, 0.6]), np.array([0.5, 0.9])).value
    0.8333333333333334
    """
    n_normal, n_anomaly = len(normal), len(anomaly)
    ranks = rankdata(np.concatenate([anomaly, normal]))
    # Share of the other label that each row beats or is beaten by; their mean is the AUROC, their variance gives its error.
    anomaly_share = (ranks[:n_anomaly] - rankdata(anomaly)) / n_normal
    normal_share = 1 - (ranks[n_anomaly:] - rankdata(normal)) / n_anomaly
    # From the ranks and not from the shares: half-integers sum without rounding.
    value = float((ranks[:n_anomaly].sum() - n_anomaly * (n_anomaly + 1) / 2) / (n_anomaly * n_normal))
    if anomaly[0] > normal[-1] or anomaly[-1] < normal[0]:
        bound = _TAIL ** (1 / min(n_normal, n_anomaly))
        return Estimate(1.0, bound, 1.0) if anomaly[0] > normal[-1] else Estimate(0.0, 0.0, 1 - bound)
    if n_normal == 1 or n_anomaly == 1:
        return Estimate(value, 0.0, 1.0)
    variance = anomaly_share.var(ddof=1) / n_anomaly + normal_share.var(ddof=1) / n_normal
    half_width = NORMAL_QUANTILE * math.sqrt(variance) / (value * (1 - value))
    low, high = expit(logit(value) - half_width), expit(logit(value) + half_width)
    return _spanning(value, float(low), float(high))


def precision_area(normal: FloatArray, anomaly: FloatArray, seed: int) -> Estimate:
    """Return the average precision; see `insphere.metrics.average_precision`.

    Parameters
    ----------
    normal, anomaly : ndarray of float64, shape (m,)
        Scores of each label, increasing, at least one each.
    seed : int
        Seed of the bootstrap.

    Examples
    --------
    >>> precision_area(np.array([1.0, 3.0]), np.array([2.0, 4.0]), 0).value
    0.8333333333333333
    """
    # Rows of equal score enter together, so the curve has one step per distinct score, highest first.
    levels = np.unique(np.concatenate([normal, anomaly]))
    n_levels = len(levels)
    normal_level = n_levels - 1 - np.searchsorted(levels, normal)
    anomaly_level = n_levels - 1 - np.searchsorted(levels, anomaly)
    normal_count, anomaly_count = (np.bincount(level, minlength=n_levels)[None] for level in (normal_level, anomaly_level))
    value = float(_step_area(normal_count, anomaly_count)[0])
    n_rows = len(normal) + len(anomaly)
    n_resamples = min(_RESAMPLES, max(_MIN_RESAMPLES, _MAX_ROWS_DRAWN // n_rows))
    chunk = max(1, _CHUNK_ROWS // n_rows)
    random = generator(seed, "average precision bootstrap")
    areas = [
        _step_area(_resampled(normal_level, n_levels, size, random), _resampled(anomaly_level, n_levels, size, random))
        for size in (min(chunk, n_resamples - start) for start in range(0, n_resamples, chunk))
    ]
    low, high = np.quantile(np.concatenate(areas), [_TAIL, 1 - _TAIL])
    return _spanning(value, float(low), float(high))


def _resampled(level: IntArray, n_levels: int, n_resamples: int, random: np.random.Generator) -> IntArray:
    """Return how often each level occurs in each resample of the rows, shape (n_resamples, n_levels)."""
    drawn = level[random.integers(len(level), size=(n_resamples, len(level)), dtype=np.int32)]
    drawn += n_levels * np.arange(n_resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=n_resamples * n_levels).reshape(n_resamples, n_levels)


def _step_area(normal_count: IntArray, anomaly_count: IntArray) -> FloatArray:
    """Return the average precision of each line of counts per level, highest score first."""
    hits = anomaly_count.cumsum(axis=1)
    # Levels above the first row of a resample hold nothing; their weight is 0, so any denominator but 0 will do.
    flagged = np.maximum(hits + normal_count.cumsum(axis=1), 1)
    area: FloatArray = (anomaly_count * (hits / flagged)).sum(axis=1) / hits[:, -1]
    return area


def false_positive_rate(normal: FloatArray, anomaly: FloatArray, tpr: float, seed: int) -> Estimate:
    """Return the share of normal rows above the threshold that flags the share `tpr` of the anomalies; see `insphere.metrics.fpr_at_tpr`.

    Parameters
    ----------
    normal, anomaly : ndarray of float64, shape (m,)
        Scores of each label, increasing, at least one each.
    tpr : float
        In (0, 1].
    seed : int
        Seed of the bootstrap.

    Examples
    --------
    >>> false_positive_rate(np.array([1.0, 2.0, 3.0, 4.0]), np.array([3.5, 5.0]), 0.95, 0).value
    0.25
    """
    n_normal, n_anomaly = len(normal), len(anomaly)
    needed = math.ceil(tpr * n_anomaly)
    if needed > 1 and (needed - 1) / n_anomaly >= tpr:  # the product was rounded up past a whole number: 0.07 * 100
        needed -= 1

    def flagged_share(threshold: FloatArray) -> FloatArray:
        return (n_normal - np.searchsorted(normal, threshold, side="left")) / n_normal

    n_flagged = n_normal - int(np.searchsorted(normal, anomaly[n_anomaly - needed], side="left"))
    # The stratified bootstrap drawn exactly, without its rows: a resample enters only by its `needed`-th highest anomaly, an order
    # statistic of uniform draws of rows (hence the Beta), and by the number of its normal rows at or above that (hence the binomial).
    random = generator(seed, "false-positive rate bootstrap")
    place = random.beta(needed, n_anomaly + 1 - needed, size=_RESAMPLES)
    from_top = np.minimum((place * n_anomaly).astype(np.int64), n_anomaly - 1)
    rates = random.binomial(n_normal, flagged_share(anomaly[n_anomaly - 1 - from_top])) / n_normal
    low, high = np.quantile(rates, [_TAIL, 1 - _TAIL])
    fixed = proportion(n_flagged, n_normal)
    return Estimate(fixed.value, min(float(low), fixed.low), max(float(high), fixed.high))


def _spanning(value: float, low: float, high: float) -> Estimate:
    """Return the estimate with an interval widened, where rounding or a skewed bootstrap asks for it, to hold its value."""
    return Estimate(value, min(low, value), max(high, value))
