"""From scores to decisions: the paper's radius, and p-values and thresholds from held-out normal rows (split conformal)."""

import dataclasses
import math
from typing import Annotated, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv

from insphere.errors import DataError
from insphere.estimate import CONFIDENCE, Estimate
from insphere.fields import AtLeastOne, AtLeastTwo, Declared, Share
from insphere.validation import Within, check_integer, check_number

By = Literal["conformal", "radius"]
Method = Literal["auto", "split", "cross"]

_TIES_SEEN_FROM = 20  # scores: where a detector gives many rows one score, fewer of them may all differ

MIN_ROWS_TO_SPLIT = 4  # below it, half of the rows is one row, and neither part can be used


@dataclasses.dataclass(frozen=True)
class Calibration(Declared):
    """Options of the decision: how scores of unseen normal rows are got, and which threshold calls a row an anomaly.

    Parameters
    ----------
    method : {"auto", "split", "cross"}
        "split" holds normal rows out from training and scores them once. "cross" trains on all rows and scores each by a model that was
        fitted without its fold, so that few rows serve for both; it takes `n_folds` fits more. Fewer than twenty independent rows are
        split all the same, and that is said. "auto" is "cross" where a detector without networks is fitted on twenty to a hundred
        independent rows, or on up to a thousand of which a half would be too few for the target; else "split".
    fraction : float
        Share of the normal rows held out from training by "split", in (0, 0.5].
    max_rows : int
        Rows held out at most by "split", at least 1; more rows narrow the false-alarm rate but are lost to training. See `split_rows` for
        when a low target rate overrides it.
    n_folds : int
        Folds of "cross", at least 2.
    decision : {"conformal", "radius"}
        "conformal" flags a row whose p-value is at most the target false-alarm rate; "radius" flags a row outside the paper's R*.
    radius_quantile : float
        Quantile of the training scores that is R*, in (0, 1].

    Raises
    ------
    ParameterError
        If an option breaks its rule.

    Notes
    -----
    "split" promises, for normal rows exchangeable with those given: a row is flagged with probability at most the target, or at most
    1 / (n + 1) with n held-out rows where that is larger. Source: split conformal prediction (Vovk 2005; Lei 2018, theorem 2).

    "cross" scores new rows by the model of all rows and compares them with scores by models of fewer rows. Its guarantee rests on
    stability: it is that of "split" where a row more or less in training doesn't change scores, and a little better where models of more
    rows give new rows lower scores, as those by neighbours do. Without that assumption cross-conformal p-values, which need all the folds'
    models at scoring, keep twice the target (Vovk 2015; Barber 2021, theorem 1). The interval has no low end then. What was measured:
    ``benchmarks/reports/false-alarms.md``.

    Examples
    --------
    >>> Calibration(max_rows=500).fraction
    0.2
    """

    method: Method = "auto"
    fraction: Annotated[float, Within(above=0, at_most=0.5)] = 0.2
    max_rows: AtLeastOne = 2000
    n_folds: AtLeastTwo = 10
    decision: By = "conformal"
    radius_quantile: Share = 0.95


def split_rows(
    n: int,
    *,
    fraction: float = 0.2,
    max_rows: int = 2000,
    target_fpr: float = 0.05,
    units: NDArray[np.int64] | None = None,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split rows 0..n-1 at random into rows to train on and rows to calibrate on.

    Units are what is independent: single rows, or groups of near-duplicates, which stay together, for a calibration row with a twin in
    training would look too normal. The calibration part has the share `fraction` of the units, at most `max_rows` of them; but always
    enough to reach `target_fpr`, which takes ``ceil(1 / target_fpr) - 1`` units (19 for 0.05). Never does it take more than half of the
    units, nor more than half of the rows: a unit that would carry it past that trains. It is empty when there are fewer than two units, or
    fewer than four rows.

    Parameters
    ----------
    n : int
        Number of rows.
    fraction : float
        Share of the units to calibrate on, in (0, 0.5].
    max_rows : int
        Units to calibrate on at most, unless the target needs more.
    target_fpr : float
        False-alarm rate that the calibration should reach, in (0, 1).
    units : ndarray of int, shape (n,), optional
        Unit 0.. of each row, see `independent_units`; None makes every row one.
    rng : numpy.random.Generator
        Draws the split.

    Returns
    -------
    train_index, calibration_index : int64 arrays
        Increasing, disjoint, together all rows.

    Raises
    ------
    ParameterError
        If an option breaks its rule.

    Examples
    --------
    >>> train, calibration = split_rows(100, rng=np.random.default_rng(0))
    >>> len(train), len(calibration)
    (80, 20)
    """
    n = check_integer("n", n, at_least=0)
    check_number("fraction", fraction, above=0, at_most=0.5)
    check_integer("max_rows", max_rows, at_least=1)
    unit_of_row = np.arange(n) if units is None else units
    half = n // 2 if n >= MIN_ROWS_TO_SPLIT else 0
    sizes = np.bincount(unit_of_row, minlength=1)
    n_units = len(sizes) if n else 0
    wanted = min(n_units // 2, max(rows_needed(target_fpr), min(round(fraction * n_units), max_rows)))
    chosen = np.zeros(len(sizes), dtype=bool)
    n_chosen, rows_chosen = 0, 0
    for unit in rng.permutation(len(sizes)):
        if n_chosen >= wanted:
            break
        if rows_chosen + sizes[unit] <= half:
            chosen[unit] = True
            n_chosen, rows_chosen = n_chosen + 1, rows_chosen + int(sizes[unit])
    in_calibration = chosen[unit_of_row]
    return np.flatnonzero(~in_calibration), np.flatnonzero(in_calibration)


def fold_rows(n: int, n_folds: int, *, units: NDArray[np.int64] | None = None, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the fold 0.. of each of n rows: units stay together, folds have equally many units but for one.

    Parameters
    ----------
    n, n_folds : int
        There are no more folds than units.
    units : ndarray of int, shape (n,), optional
        Unit 0.. of each row; None makes every row one.

    Examples
    --------
    >>> np.bincount(fold_rows(7, 3, rng=np.random.default_rng(0))).tolist()
    [3, 2, 2]
    """
    unit_of_row = np.arange(n) if units is None else units
    n_units = int(unit_of_row.max(initial=-1)) + 1
    fold_of_unit = np.empty(n_units, dtype=np.int64)
    fold_of_unit[rng.permutation(n_units)] = np.arange(n_units) % min(n_folds, max(1, n_units))
    return fold_of_unit[unit_of_row]


def rows_needed(target_fpr: float) -> int:
    """Return the smallest number of calibration rows with which any row at all can reach a p-value of `target_fpr`.

    Raises
    ------
    ParameterError
        If `target_fpr` is outside (0, 1).

    Examples
    --------
    >>> rows_needed(0.05), rows_needed(0.01)
    (19, 99)
    """
    target_fpr = check_number("target_fpr", target_fpr, above=0, below=1)
    if target_fpr < 2.0**-53:
        return 2**53  # past whole numbers in float64, and past any number of rows; the split then takes its half
    n = math.ceil(1 / target_fpr) - 1
    # The quotient is rounded: settle the last unit by the very comparison that flags a row.
    while n > 0 and 1 / n <= target_fpr:
        n -= 1
    while 1 / (n + 1) > target_fpr:
        n += 1
    return n


def radius(train_scores: ArrayLike, quantile: float = 0.95) -> float:
    """Return R*, the quantile of the training scores beyond which the paper calls a row an anomaly: score > R*.

    Training rows score lower than new normal rows, so R* gives more false alarms than ``1 - quantile``; the false-alarm rate on
    held-out rows belongs beside it.

    Parameters
    ----------
    train_scores : array-like of shape (n,)
        Higher is more anomalous; finite, at least one.
    quantile : float
        In (0, 1].

    Raises
    ------
    DataError
        If there is no score or one is not finite.
    ParameterError
        If `quantile` is outside (0, 1].

    Notes
    -----
    Source: Zhou 2021, Algorithm 1, R*. Deviation: none; between two scores the quantile is interpolated linearly.

    Examples
    --------
    >>> radius([1.0, 2.0, 3.0], quantile=0.5)
    2.0
    """
    quantile = check_number("quantile", quantile, above=0, at_most=1)
    scores = _check_finite("train_scores", train_scores)
    if scores.size == 0:
        raise DataError("`train_scores` must have at least one row, got none.")
    return float(np.quantile(scores, quantile))


class ConformalCalibration:
    """Split-conformal calibration: what the scores of held-out normal rows say about a new score.

    If new normal rows are exchangeable with the held-out ones, a normal row gets ``p <= a`` with probability at most `a`. Without
    held-out rows every p-value is 1 and no row is ever flagged.

    Parameters
    ----------
    scores : array-like of shape (n,)
        Anomaly scores of normal rows that nothing was fitted on; finite, higher is more anomalous. Kept sorted, float64, read-only.

    Raises
    ------
    DataError
        If a score is not finite.

    Examples
    --------
    >>> calibration = ConformalCalibration([0.3, 0.1, 0.2, 0.4])
    >>> calibration.p_value([0.05, 0.35, 9.0])
    array([1. , 0.4, 0.2])
    >>> calibration.threshold(0.2), calibration.threshold(0.1)
    (0.4, inf)
    """

    def __init__(self, scores: ArrayLike) -> None:
        self.scores = np.sort(_check_finite("scores", scores))
        self.scores.flags.writeable = False

    def __len__(self) -> int:
        return len(self.scores)

    def p_value(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Return ``(1 + #{held-out scores >= score}) / (n + 1)`` for each score: in [1 / (n + 1), 1], low is anomalous.

        Parameters
        ----------
        scores : array-like of any shape
            Infinite scores are legal.

        Raises
        ------
        DataError
            If a score is NaN, which would otherwise look like the most anomalous of all.
        """
        new = np.asarray(scores, dtype=np.float64)
        if np.isnan(new).any():
            raise DataError(f"`scores` must not be NaN, got {int(np.isnan(new).sum())} of {new.size}; leave out rows without a score.")
        n_above = len(self.scores) - np.searchsorted(self.scores, new, side="left")
        return np.asarray((1 + n_above) / (len(self.scores) + 1), dtype=np.float64)

    def threshold(self, target_fpr: float) -> float:
        """Return the score such that ``score > threshold`` exactly where ``p_value(score) <= target_fpr``.

        It is one of the held-out scores, or infinite when they are too few for `target_fpr` (see `rows_needed`).

        Raises
        ------
        ParameterError
            If `target_fpr` is outside (0, 1).
        """
        n_allowed = self._n_allowed(target_fpr)
        return float(self.scores[len(self.scores) - n_allowed]) if n_allowed else math.inf

    def false_alarm(self, target_fpr: float) -> Estimate:
        """Return the false-alarm rate to expect on new normal rows at `threshold(target_fpr)`, with its 95 % range.

        Given these held-out rows the rate is one number, and over all draws of them it follows Beta(k, n + 1 - k) with
        ``k = floor(target_fpr * (n + 1))``; its mean ``k / (n + 1)`` is at most `target_fpr`. With too few rows for the target nothing is
        flagged, and the rate is 0.

        Where scores are tied at the threshold, and m are above it, the rate lies between those of the thresholds around the tied ones:
        its range is from the low end of Beta(m, n + 1 - m) to the high end of Beta(m + 1, n - m). Where the threshold is the highest
        score, or there are fewer than twenty, ties may go unseen, and no low end is stated.

        Raises
        ------
        ParameterError
            If `target_fpr` is outside (0, 1).
        """
        n_allowed, n = self._n_allowed(target_fpr), len(self.scores)
        if n_allowed == 0:
            return Estimate(0.0, 0.0, 0.0)
        threshold = self.scores[n - n_allowed]
        n_above = n - int(np.searchsorted(self.scores, threshold, side="right"))
        n_tied = n - n_above - int(np.searchsorted(self.scores, threshold, side="left"))
        n_high = n_above + 1
        n_low = n_high if n_tied == 1 else n_above
        value, high = n_high / (n + 1), float(betaincinv(n_high, n + 1 - n_high, 0.5 + CONFIDENCE / 2))
        stated = n_above and n_low and n >= _TIES_SEEN_FROM
        low = float(betaincinv(n_low, n + 1 - n_low, 0.5 - CONFIDENCE / 2)) if stated else 0.0
        # The 95 % range of a very skewed Beta may miss its mean.
        return Estimate(value, min(low, value), max(high, value))

    def _n_allowed(self, target_fpr: float) -> int:
        """Return k, the largest whole number with ``k / (n + 1) <= target_fpr`` in the arithmetic of `p_value`."""
        target_fpr = check_number("target_fpr", target_fpr, above=0, below=1)
        total = len(self.scores) + 1
        k = math.floor(target_fpr * total)
        # The product is rounded (0.07 * 100 > 7, 0.29 * 100 < 29): settle the last unit by the very comparison that flags a row.
        if (k + 1) / total <= target_fpr:
            k += 1
        elif k / total > target_fpr:
            k -= 1
        return k


def _check_finite(name: str, values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise DataError(f"`{name}` must be one number per row, got an array of shape {array.shape}.")
    n_broken = int((~np.isfinite(array)).sum())
    if n_broken:
        first = int((~np.isfinite(array)).argmax())
        raise DataError(f"`{name}` must be finite, got {n_broken} of {len(array)} that are not (first: row {first} is {array[first]}).")
    return array
