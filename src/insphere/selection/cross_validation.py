"""A splitter and scorers with which `cross_val_score` and `GridSearchCV` do what a one-class problem needs."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import BaseCrossValidator

from insphere.decision.labels import anomalies
from insphere.decision.units import by_position, group_codes
from insphere.errors import DataError
from insphere.seeding import generator, resolve_seed
from insphere.validation import check_integer


class OneClassKFold(BaseCrossValidator):  # type: ignore[misc]
    """Folds for one-class problems: trained on normal rows alone, tested on the other normal rows and on the anomalies.

    The normal rows are dealt into folds, whole groups at a time; each is tested once, and trains in all other folds. The anomalies, which
    never train, are dealt into the folds too, so that each is tested once.

    Parameters
    ----------
    n_splits : int
        Folds, at least 2.
    random_state : int, RandomState, Generator or None
        Deals the rows.

    Examples
    --------
    >>> y = np.array([0, 0, 0, 0, 1, 1])
    >>> for train, test in OneClassKFold(2, random_state=0).split(np.zeros((6, 1)), y):
    ...     print(y[train].tolist(), y[test].tolist())
    [0, 0] [0, 0, 1]
    [0, 0] [0, 0, 1]
    """

    def __init__(self, n_splits: int = 5, *, random_state: Any = 0) -> None:
        self.n_splits = n_splits
        self.random_state = random_state

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of folds."""
        return check_integer("n_splits", self.n_splits, at_least=2)

    def split(self, X: Any, y: ArrayLike | None = None, groups: Any = None) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Yield the positions of the rows to train on and to test on, for each fold.

        Parameters
        ----------
        X : array-like of length n
        y : array-like of length n
            0 normal and 1 anomaly, or +1 normal and −1 anomaly.
        groups : sequence of length n, optional
            Rows of one group are near-duplicates and are kept on one side.

        Raises
        ------
        DataError
            If there are no labels or they are of another kind, or there are fewer independent normal rows than folds.
        """
        n_splits = self.get_n_splits()
        if y is None:
            raise DataError(
                "OneClassKFold deals normal rows and anomalies apart and needs the labels: give `y` (0 normal, 1 anomaly), to"
                " `cross_val_score` too. Without labels nothing can be measured; scikit-learn's KFold parts rows of one kind."
            )
        is_anomaly = anomalies(y, len(by_position(y, name="y") or ()))
        units = np.arange(len(is_anomaly)) if groups is None else group_codes(by_position(groups, name="groups") or (), len(is_anomaly))
        rng = generator(resolve_seed(self.random_state), "one-class folds")
        fold = np.empty(len(is_anomaly), dtype=np.int64)
        for kind in (False, True):
            rows = np.flatnonzero(is_anomaly == kind)
            own, of_row = np.unique(units[rows], return_inverse=True)
            if not kind and len(own) < n_splits:
                raise DataError(f"{n_splits} folds need as many independent normal rows at least, got {len(own)}.")
            fold[rows] = (rng.permutation(len(own)) % n_splits)[of_row]
        for number in range(n_splits):
            yield np.flatnonzero((fold != number) & ~is_anomaly), np.flatnonzero(fold == number)


def auroc_scorer(detector: Any, X: Any, y: ArrayLike) -> float:
    """Return the AUROC of a fitted detector: how often an anomaly scores above a normal row, in [0, 1].

    For ``scoring=`` of scikit-learn's tools. Its own ``"roc_auc"`` takes 1 for the class that `decision_function` is high for, which is
    the normal one: with 1 for anomalies the worst setting would win.

    Parameters
    ----------
    detector : estimator
        Fitted; of `anomaly_score`, or as scikit-learn's detectors of `score_samples`.
    X : rows
    y : array-like of length n
        0 normal and 1 anomaly, or +1 normal and −1 anomaly. Rows without a score (missing values) are left out, which a warning tells.

    Raises
    ------
    DataError
        If labels are of another kind, or all of one kind.
    """
    return float(roc_auc_score(*_labelled_scores(detector, X, y)))


def average_precision_scorer(detector: Any, X: Any, y: ArrayLike) -> float:
    """Return the average precision of a fitted detector, in [0, 1]; see `auroc_scorer`."""
    return float(average_precision_score(*_labelled_scores(detector, X, y)))


def _labelled_scores(detector: Any, X: Any, y: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return labels and scores of the rows that have a score; those that have none are left out, and the detector has told of them."""
    score = getattr(detector, "anomaly_score", None)
    scores = np.asarray(score(X) if score is not None else -detector.score_samples(X), dtype=np.float64)
    labels = _both_kinds(y)
    scored = ~np.isnan(scores) if len(scores) == len(labels) else np.ones(len(scores), dtype=bool)
    return (labels, scores) if scored.all() else (_both_kinds(labels[scored]), scores[scored])


def _both_kinds(y: ArrayLike) -> NDArray[np.bool_]:
    found = anomalies(y, len(by_position(y, name="y") or ()))
    if found.all() or not found.any():
        kind = "anomalies" if found.all() else "normal"
        raise DataError(f"All {len(found)} rows to be tested are {kind}; use OneClassKFold, or fewer folds, so that both kinds are there.")
    return found
