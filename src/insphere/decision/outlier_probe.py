"""Does a detector see what its nearest neighbours would show anyway? Outliers made of held-out normal rows; no labels."""

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from insphere.data.outliers import synthetic_outliers
from insphere.decision.health import Finding
from insphere.metrics import auroc

MOST_ROWS = 150
"""Held-out rows that are worth trying: with more the difference hardly gets surer, and networks score each six times."""

LEAST_ROWS = 20
"""Held-out rows below which nothing is said: by chance alone two detectors would differ by as much as the line."""

FAR_BELOW = 0.1
"""Mean AUROC by which a detector must be behind its neighbours to be warned of (``benchmarks/health_lines.py``)."""

FINDING = "nearest neighbours"

Score = Callable[[NDArray[np.generic]], NDArray[np.float64]]


@dataclasses.dataclass(frozen=True)
class OutlierProbe:
    """How well a detector and the nearest neighbours tell outliers made of held-out normal rows from the rows as they are.

    Attributes
    ----------
    own, neighbours : float
        AUROC, in [0, 1]: the mean over the families of `insphere.data.outliers.synthetic_outliers`.
    n : int
        Held-out rows, each scored as it is and as one outlier of each family.
    """

    own: float
    neighbours: float
    n: int


def probe_outliers(held_out: NDArray[np.generic], score: Score, control: Score, rng: np.random.Generator) -> OutlierProbe:
    """Make outliers of held-out rows, and compare what a detector and the nearest neighbours say of them.

    Parameters
    ----------
    held_out : ndarray, shape (n, features) or (n, height, width, channels)
        At least two normal rows that neither was fitted on.
    score, control : callable
        Give the anomaly scores, shape (m,), of rows: the detector's, and distances to training rows.
    rng : numpy.random.Generator
        Draws the outliers.

    Raises
    ------
    DataError
        If there are fewer than two rows, or a score is NaN.

    Examples
    --------
    >>> rows = np.random.default_rng(0).normal(size=(100, 3))
    >>> probe = probe_outliers(rows, lambda X: X[:, 0], lambda X: np.abs(X).max(axis=1), np.random.default_rng(0))
    >>> probe.own < probe.neighbours
    True
    """
    families = synthetic_outliers(held_out, rng)
    labels = np.repeat([0, 1], len(held_out))

    def mean_auroc(score: Score) -> float:
        normal = score(held_out)
        return float(np.mean([auroc(labels, np.concatenate([normal, score(rows)])).value for rows in families.values()]))

    return OutlierProbe(mean_auroc(score), mean_auroc(control), len(held_out))


def check_outliers(probe: OutlierProbe) -> Finding:
    """Warn where a detector tells far fewer of the outliers than the nearest neighbours do.

    Examples
    --------
    >>> check_outliers(OutlierProbe(0.55, 0.9, 150)).level
    'warning'
    """
    behind = probe.neighbours - probe.own
    text = (
        f"Outliers made of {probe.n} held-out rows are told from them with a mean AUROC of {probe.own:.1%}; the 5 nearest neighbours reach"
        f" {probe.neighbours:.1%}."
    )
    if behind <= FAR_BELOW:
        return Finding(FINDING, "ok", behind, text)
    advice = (
        " The training has lost what the rows themselves show: take the detector knn, or fusion for tables; or the defaults, where"
        " parameters were changed."
    )
    return Finding(FINDING, "warning", behind, text + advice)
