"""The scores that a model has given, counted against those of its held-out normal rows."""

import numpy as np
from numpy.typing import NDArray

_SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)


class ScoreHistogram:
    """Counts of the scores that a model has given, in buckets cut at quantiles of its held-out normal scores.

    As long as rows are like the held-out ones, each decile gets a tenth of them.

    Parameters
    ----------
    calibration_scores : ndarray of float64, shape (n,)

    Examples
    --------
    >>> histogram = ScoreHistogram(np.arange(101.0))
    >>> histogram.add(np.array([5.0, 500.0]), np.array([False, True]))
    >>> histogram.n_normal, histogram.n_anomalies, histogram.cumulative()[-1]
    (1, 1, ('+Inf', 2.0))
    """

    def __init__(self, calibration_scores: NDArray[np.float64]) -> None:
        quantiles = np.quantile(calibration_scores, _SHARES) if len(calibration_scores) else np.empty(0)
        self._bounds = np.unique(quantiles)
        self._counts = np.zeros(len(self._bounds) + 1, np.int64)
        self._sum = 0.0
        self.n_normal = self.n_anomalies = 0

    def add(self, scores: NDArray[np.float64], is_anomaly: NDArray[np.bool_]) -> None:
        """Count some scores."""
        self._counts += np.bincount(np.searchsorted(self._bounds, scores, side="left"), minlength=len(self._counts))
        self._sum += float(scores[np.isfinite(scores)].sum())
        n_anomalies = int(np.count_nonzero(is_anomaly))
        self.n_anomalies += n_anomalies
        self.n_normal += len(scores) - n_anomalies

    @property
    def total(self) -> float:
        """Sum of all finite scores."""
        return self._sum

    def cumulative(self) -> list[tuple[str, float]]:
        """Return the upper bound of each bucket, as text, and how many scores are at most that."""
        bounds = [*(repr(float(bound)) for bound in self._bounds), "+Inf"]
        return list(zip(bounds, np.cumsum(self._counts).astype(float).tolist(), strict=True))
