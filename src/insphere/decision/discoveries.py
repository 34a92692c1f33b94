"""Which rows of a batch to call anomalies so that few of those called are false alarms: Benjamini–Hochberg on conformal p-values."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import false_discovery_control

from insphere.decision.calibration import rows_needed
from insphere.decision.decision import Decision
from insphere.errors import ParameterError
from insphere.validation import check_number


@dataclass(frozen=True, eq=False)
class Discoveries:
    """The rows of a batch that are discoveries at a false-discovery rate.

    Attributes
    ----------
    fdr : float
        Share of false alarms among the discoveries, at most, on average over batches.
    adjusted_p_value : ndarray of float64, shape (n,)
        The smallest rate at which each row is a discovery; NaN for a row without a p-value.
    is_discovery : ndarray of bool, shape (n,)
    n_tested : int
        Rows with a p-value.
    n_least : int
        Rows that must score above all calibration rows before one of them can be a discovery: few calibration rows make it many.
    is_proven : bool
        Whether the rate is proven for the way in which the p-values came about: rows held out, or given to recalibrate.
    """

    fdr: float
    adjusted_p_value: NDArray[np.float64]
    is_discovery: NDArray[np.bool_]
    n_tested: int
    n_least: int
    is_proven: bool

    @property
    def n_discoveries(self) -> int:
        """How many rows are discoveries."""
        return int(self.is_discovery.sum())

    @property
    def notes(self) -> tuple[str, ...]:
        """What to tell of the promise where it is less than it seems."""
        told = []
        if self.n_least > 1:
            told.append(
                f"With so few calibration rows, {self.n_least} of the {self.n_tested} rows must score above all of them before any can be a"
                f" discovery at {self.fdr:g}; calibrate on more normal rows, raise the rate, or score smaller batches."
            )
        if not self.is_proven:
            told.append(
                "The rate is proven for rows held out once; this model is calibrated by folds, whose p-values have no such proof. Fit with"
                ' calibration.method="split", or recalibrate on new normal rows.'
            )
        return tuple(told)


def discover(decision: Decision, p_values: ArrayLike, fdr: float) -> Discoveries:
    """Return which rows of a batch are discoveries at a false-discovery rate.

    Parameters
    ----------
    decision : Decision
        What the p-values are from.
    p_values : array-like of float, shape (n,)
        Conformal p-values of the rows of one batch, in (0, 1]; NaN for rows without one.
    fdr : float
        In (0, 1).

    Raises
    ------
    ParameterError
        If `fdr` is outside (0, 1), or the calibration scores are so few that no row could ever be a discovery at it.

    Notes
    -----
    On average over batches at most the share `fdr` of the discoveries are normal rows, where these are independent of each other and of
    the calibration rows and distributed as they: then conformal p-values, though all come from one calibration set, are positively
    dependent in the way that Benjamini–Hochberg's procedure takes. Frames of one film are not independent; score one of each. By category
    the same holds, because p-values of different categories share no calibration row.

    Source: Benjamini and Hochberg 1995; Bates, Candès, Lei, Romano and Sesia 2023, "Testing for outliers with conformal p-values",
    theorem 2. Deviation: none.

    Examples
    --------
    >>> from insphere.decision.calibration import ConformalCalibration
    >>> decision = Decision(ConformalCalibration(np.arange(99.0)), radius=1.0, target_fpr=0.05)
    >>> discover(decision, [0.01, 0.02, 0.5], 0.1).is_discovery.tolist()
    [True, True, False]
    """
    fdr = check_number("fdr", fdr, above=0, below=1)
    p = np.asarray(p_values, dtype=np.float64)
    known = ~np.isnan(p)
    most = max([len(decision.calibration), *(len(entry.calibration) for entry in decision.of_category.values())])
    if most < rows_needed(fdr):
        raise ParameterError(
            f"`fdr` {fdr:g} takes at least {rows_needed(fdr)} calibration rows before any row can be a discovery, got {most};"
            " calibrate on more normal rows (`recalibrate`), or raise it."
        )
    adjusted = np.full(p.shape, np.nan)
    if known.any():
        adjusted[known] = false_discovery_control(p[known], method="bh")
    n_tested = int(known.sum())
    # The quotient is rounded: a hair is taken off, so that 10 / (0.1 * 100) needs one row and not two.
    n_least = max(1, math.ceil(n_tested / (fdr * (most + 1)) - 1e-9))
    is_discovery = known & (np.nan_to_num(adjusted, nan=1.0) <= fdr * (1 + 1e-12))
    return Discoveries(fdr, adjusted, is_discovery, n_tested, n_least, is_proven=decision.method != "cross")
