"""PyOD's names, signs and codes for insphere's detectors; PyOD itself is not needed."""

import os
from collections.abc import Callable
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf
from scipy.stats import binom
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from insphere.detectors import catalog
from insphere.detectors.base import AbstractDetector
from insphere.detectors.scoring import Rows
from insphere.errors import ParameterError
from insphere.validation import check_choice, check_number

FloatArray = NDArray[np.float64]

NAMES = {
    **{"KNN": "knn", "IForest": "iforest", "OCSVM": "ocsvm", "KDE": "kde"},
    **{"AutoEncoder": "cae", "VAE": "vae", "DeepSVDD": "deep-svdd"},
}
"""Classes of PyOD and our detectors of the same method, which go by either name here."""

ABSENT = ("ABOD", "COF", "COPOD", "ECOD", "HBOS", "LOF", "LODA", "MCD", "PCA", "SOS")
"""Classes of PyOD without a counterpart."""

THRESHOLDS = ("training", "held-out")
"""What the threshold comes from: the quantile of the training scores, as in PyOD, or rows that the detector has not seen."""


class PyODDetector(BaseEstimator):  # type: ignore[misc]
    """One of insphere's detectors as one of PyOD's: 0 is an inlier, 1 an outlier, and scores rise with the anomaly.

    Parameters
    ----------
    detector : str, class or AbstractDetector
        Name (of ours, or one of `NAMES`), class or unfitted object, which is how parameters are set: ``PyODDetector(insphere.KNN(3))``. An
        object is copied before it is fitted.
    contamination : float or object
        Share of the training rows beyond the threshold, in (0, 0.5]; or a thresholder, as PyThresh has them: something with `fit` and
        `predict`, or `eval`, that takes scores.
    threshold : {"training", "held-out"}
        "training": the (1 − contamination) quantile of the scores of the training rows, as in PyOD. "held-out": `contamination` is the
        share of *new normal* rows that may be flagged, and the threshold comes from rows that were held out (conformal prediction).
    random_state : int, RandomState, Generator or None
        Handed to the detector where it is not None.

    Attributes
    ----------
    detector_ : AbstractDetector
        The fitted detector, with all that it has.
    decision_scores_ : ndarray of float64, shape (n,)
        Scores of the rows given to `fit`, higher is more anomalous: of those learned from as they were then (none its own neighbour), of
        those held out as of new ones. NaN for rows that cannot be scored, as one with a missing value.
    threshold_ : float
    labels_ : ndarray of int, shape (n,)
        Of the training rows: 0 inlier, 1 outlier, or a row that cannot be scored.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> model = PyODDetector("knn", contamination=0.1, random_state=0).fit(X)
    >>> int(model.labels_.sum()), model.predict(np.array([[9.0, 9.0, 9.0], [0.0, 0.0, 0.0]]))
    (20, array([1, 0]))
    """

    _classes = 2

    def __init__(self, detector: Any = "vae-svdd", contamination: Any = 0.1, threshold: str = "training", random_state: Any = None) -> None:
        self.detector = detector
        self.contamination = contamination
        self.threshold = threshold
        self.random_state = random_state

    def fit(self, X: Rows, y: Any = None) -> Self:
        """Fit on rows; `y` is ignored, as in PyOD's unsupervised detectors.

        Parameters
        ----------
        X : array, data frame, source or path
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        ParameterError
            If a parameter breaks its rule.
        DataError
            As `AbstractDetector.fit`.
        """
        check_choice("threshold", self.threshold, THRESHOLDS)
        thresholder = _thresholder(self.contamination)
        if thresholder is None:
            check_number("contamination", self.contamination, above=0, at_most=0.5)
        elif self.threshold == "held-out":
            raise ParameterError("`threshold='held-out'` takes its rate from `contamination`, a number; a thresholder decides by itself.")
        detector = self._unfitted()
        rows = detector.open_to_fit(X) if isinstance(X, str | os.PathLike) else X
        self.detector_ = detector.fit(rows)
        self.decision_scores_ = self.detector_.anomaly_score(rows)
        # As when they were learned: by distance to neighbours, a row must not be its own.
        self.decision_scores_[self.detector_.training_index_] = self.detector_.training_scores_
        self.threshold_, self.labels_ = self._decided(thresholder)
        self.classes_ = np.array([0, 1])
        return self

    def _unfitted(self) -> AbstractDetector:
        given = self.detector
        settings = {} if self.random_state is None else {"random_state": self.random_state}
        if thresholder_free(self.contamination) and self.threshold == "held-out":
            settings["target_fpr"] = float(self.contamination)
        if isinstance(given, AbstractDetector):
            copied: AbstractDetector = clone(given).set_params(**settings)
            return copied
        if isinstance(given, type) and issubclass(given, AbstractDetector):
            return given(**settings)
        if given in ABSENT:
            raise ParameterError(f"`detector`: PyOD's {given} has no counterpart here; 'knn' or 'iforest' comes nearest.")
        if isinstance(given, str):
            return catalog.make(NAMES.get(given, given), settings)
        raise ParameterError(f"`detector` must be a name, a class or an object of insphere's detectors, got {type(given).__name__}.")

    def _decided(self, thresholder: Any) -> tuple[float, NDArray[np.int64]]:
        scores = self.decision_scores_
        if thresholder is not None:
            labels = _of_scored(scores, lambda known: thresholder.labels(known, fitting=True))
            return thresholder.threshold(scores, labels), labels
        held_out = self.threshold == "held-out"
        threshold = self.detector_.threshold_ if held_out else float(np.nanquantile(scores, 1 - self.contamination))
        return threshold, _of_scored(scores, lambda known: known > threshold)

    def decision_function(self, X: Rows) -> FloatArray:
        """Return the anomaly score of each row, float64, shape (n,): higher is more anomalous (scikit-learn has it the other way)."""
        check_is_fitted(self, "decision_scores_")
        return self.detector_.anomaly_score(X)

    def p_value(self, X: Rows) -> FloatArray:
        """Return the conformal p-value of each row, in (0, 1], which PyOD has not: see `AbstractDetector.p_value`."""
        check_is_fitted(self, "decision_scores_")
        return self.detector_.p_value(X)

    def predict(self, X: Rows, return_confidence: bool = False) -> Any:
        """Return 1 for outliers and rows that cannot be scored, 0 for inliers; with `return_confidence` also `predict_confidence`."""
        labels = self._labels(self.decision_function(X))
        return (labels, self.predict_confidence(X)) if return_confidence else labels

    def _labels(self, scores: FloatArray) -> NDArray[np.int64]:
        thresholder = _thresholder(self.contamination)
        if thresholder is not None:
            return _of_scored(scores, lambda known: thresholder.labels(known, fitting=False))
        return _of_scored(scores, lambda known: known > self.threshold_)

    def predict_proba(self, X: Rows, method: str = "linear", return_confidence: bool = False) -> Any:
        """Return for each row two numbers that sum to 1, of inlier and outlier, shape (n, 2).

        They rank rows and are not probabilities; `p_value` has a meaning.

        Parameters
        ----------
        X : array, data frame, source or path
        method : {"linear", "unify"}
            "linear": the score on the way from the least to the largest training score, cut off at 0 and 1. "unify": the error function of
            the standardised score, 0 below the mean (Kriegel 2011).
        return_confidence : bool
            Whether to return `predict_confidence` too.
        """
        check_choice("method", method, ("linear", "unify"))
        scores, known = self.decision_function(X), self._known()
        if method == "linear":
            width = float(np.ptp(known)) or 1.0
            outlier = np.clip((scores - known.min()) / width, 0, 1)
        else:
            outlier = np.clip(erf((scores - known.mean()) / ((known.std() or 1.0) * np.sqrt(2))), 0, 1)
        both = np.column_stack([1 - outlier, outlier])
        return (both, self.predict_confidence(X)) if return_confidence else both

    def predict_confidence(self, X: Rows) -> FloatArray:
        """Return how sure it is that another training set of this size would decide each row the same, in [0, 1] (Perini 2020)."""
        scores, known = self.decision_function(X), np.sort(self._known())
        n = len(known)
        share = float(self.contamination) if thresholder_free(self.contamination) else float(self.labels_.mean())
        below = np.searchsorted(known, scores, side="right")
        outlier: FloatArray = 1 - binom.cdf(n - int(n * share), n, (1 + below) / (2 + n))
        return np.where(self._labels(scores) == 1, outlier, 1 - outlier)

    def _known(self) -> FloatArray:
        scores: FloatArray = self.decision_scores_
        return scores[~np.isnan(scores)]

    def fit_predict(self, X: Rows, y: Any = None) -> NDArray[np.int64]:
        """Fit, and return `labels_`."""
        return self.fit(X).labels_


def thresholder_free(contamination: Any) -> bool:
    """Return whether the contamination is a number, so that no thresholder decides.

    Examples
    --------
    >>> thresholder_free(0.1), thresholder_free("iqr")
    (True, False)
    """
    return isinstance(contamination, int | float | np.number) and not isinstance(contamination, bool)


def _of_scored(scores: FloatArray, decide: Callable[[FloatArray], NDArray[Any]]) -> NDArray[np.int64]:
    """Return the labels of rows that have a score as decided, and 1 for those that have none: nobody has seen that they are normal."""
    labels, scored = np.ones(len(scores), dtype=np.int64), ~np.isnan(scores)
    labels[scored] = decide(scores[scored])
    return labels


class _Thresholder:
    """An object that labels scores, whichever of its methods does so."""

    def __init__(self, decide: Any) -> None:
        self._decide = decide

    def labels(self, scores: FloatArray, *, fitting: bool) -> NDArray[np.int64]:
        """Return 0 or 1 for each score; `fitting` learns from them first, where it can."""
        if not hasattr(self._decide, "predict") or not hasattr(self._decide, "fit"):
            return np.asarray(self._decide.eval(scores)).astype(np.int64).ravel()
        if fitting:
            self._decide.fit(scores)
            if getattr(self._decide, "labels_", None) is not None:
                return np.asarray(self._decide.labels_).astype(np.int64).ravel()
        return np.asarray(self._decide.predict(scores)).astype(np.int64).ravel()

    def threshold(self, scores: FloatArray, labels: NDArray[np.int64]) -> float:
        """Return the threshold that it names, else the least score that it flags; infinity where it flags none."""
        named = getattr(self._decide, "thresh_", None)
        # PyThresh names thresholds on scores scaled to [0, 1] in some versions: one that does not part the scores as it did is not one.
        if named is not None and np.array_equal(scores > float(named), labels == 1):
            return float(named)
        flagged = scores[(labels == 1) & ~np.isnan(scores)]
        return float(flagged.min()) if len(flagged) else float("inf")


def _thresholder(contamination: Any) -> _Thresholder | None:
    """Return the thresholder that a contamination is, None for a number.

    Raises
    ------
    ParameterError
        If it is neither.
    """
    if thresholder_free(contamination):
        return None
    if hasattr(contamination, "eval") or (hasattr(contamination, "fit") and hasattr(contamination, "predict")):
        return _Thresholder(contamination)
    raise ParameterError(
        f"`contamination` must be a number in (0, 0.5], or a thresholder with fit and predict, or eval, got {contamination!r}."
    )
