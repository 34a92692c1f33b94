"""The one shape of scored rows: what every consumer (files, report, service, export, watch) is given."""

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True)
class ScoredRows:
    """Scores of some rows of a source.

    Attributes
    ----------
    index : ndarray of int64, shape (m,)
        Positions of the scored rows in the source, increasing.
    anomaly_score, p_value : ndarray of float64, shape (m,)
        Higher, and lower, is more anomalous.
    is_anomaly : ndarray of bool, shape (m,)
        Decision at the detector's threshold.
    errors : mapping of int to str
        Positions of the rows that could not be read, and why.
    maps : ndarray of float32, shape (m, map_height, map_width), optional
        A heat-map a row, higher = more anomalous, where the detector scores places of a picture; None where it does not.
    seen : ndarray of bool, shape (m,), optional
        Whether each row equals one that was given to `fit`: figures on such rows are too good.
    categories : ndarray of int64, shape (m,), optional
        Code of the category by which each row was judged, -1 where none is known and all categories together were; None where the model
        has no categories.
    hashes : ndarray of uint64, shape (m,), optional
        See `row_hashes`: what each row is known by later.

    Examples
    --------
    >>> one = np.zeros(1)
    >>> ScoredRows(np.array([0]), one, one + 1, one > 0, {1: "is not an image"}).maps is None
    True
    """

    index: NDArray[np.int64]
    anomaly_score: NDArray[np.float64]
    p_value: NDArray[np.float64]
    is_anomaly: NDArray[np.bool_]
    errors: Mapping[int, str]
    maps: NDArray[np.float32] | None = None
    seen: NDArray[np.bool_] | None = None
    categories: NDArray[np.int64] | None = None
    hashes: NDArray[np.uint64] | None = None

    @property
    def n_pooled(self) -> int:
        """How many of the rows were judged by all categories together, because theirs is not known."""
        return 0 if self.categories is None else int((self.categories < 0).sum())

    @property
    def n_seen(self) -> int:
        """How many of the rows equal one that was given to `fit`."""
        return 0 if self.seen is None else int(self.seen.sum())


def seen_text(n_seen: int, n_rows: int) -> str:
    """Return what to tell who measures a model on rows that it was fitted on.

    Examples
    --------
    >>> seen_text(3, 9)
    '3 of 9 rows were given to fit: figures on rows that a model has learned are too good. Measure it on rows that it has not seen.'
    """
    return (
        f"{n_seen} of {n_rows} rows were given to fit: figures on rows that a model has learned are too good."
        " Measure it on rows that it has not seen."
    )
