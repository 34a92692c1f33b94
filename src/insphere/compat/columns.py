"""A detector as a step that adds columns, so that scores flow on through scikit-learn's pipelines and `set_output`."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.utils.validation import check_is_fitted

from insphere.detectors.base import AbstractDetector

COLUMNS = ("anomaly_score", "p_value")


class ScoreColumns(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Turn rows into two columns, anomaly score and p-value; `set_output` makes them a data frame with the index of the rows.

    Parameters
    ----------
    detector : AbstractDetector
        Unfitted; a copy of it is fitted.

    Attributes
    ----------
    detector_ : AbstractDetector

    Examples
    --------
    >>> import insphere
    >>> import pandas as pd
    >>> X = pd.DataFrame(np.random.default_rng(0).normal(size=(100, 2)), columns=["volt", "ampere"], index=range(7, 107))
    >>> scored = ScoreColumns(insphere.KNN(random_state=0)).set_output(transform="pandas").fit_transform(X)
    >>> list(scored.columns), int(scored.index[0])
    (['anomaly_score', 'p_value'], 7)
    """

    def __init__(self, detector: AbstractDetector) -> None:
        self.detector = detector

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit a copy of the detector on normal rows; labels are used as `AbstractDetector.fit` does."""
        self.detector_ = clone(self.detector).fit(X, y)
        return self

    def transform(self, X: Any) -> NDArray[np.float64]:
        """Return anomaly score and p-value of each row, float64, shape (n, 2); NaN for rows that cannot be read."""
        check_is_fitted(self, "detector_")
        scores = self.detector_.anomaly_score(X)
        p_values = np.full(len(scores), np.nan)
        known = ~np.isnan(scores)
        p_values[known] = self.detector_.decision_.p_value(scores[known])
        return np.column_stack([scores, p_values])

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Return the names of the two columns."""
        return np.array(COLUMNS, dtype=object)
