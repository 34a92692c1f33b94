"""What becomes of the rows of one fit: trained on, held out, left out."""

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere.decision.health import Finding

Fitted = tuple[NDArray[np.float64], list[Finding]]
"""Scores of the training rows, and what is to be said of the fitted model's health."""


@dataclasses.dataclass
class Fitting:
    """The rows of one fit, and which of them are for what.

    Attributes
    ----------
    rows : ndarray, shape (n, …)
        All readable rows.
    readable : ndarray of int64, shape (n,)
        Their positions in the source.
    train_index, calibration_index : ndarray of int64
        Positions among `rows` of those to train on and of those held out, increasing.
    left_out : ndarray of int64
        Positions among `rows` of those that a second fit goes without, the most suspicious first.

    Examples
    --------
    >>> fitting = Fitting(np.zeros((5, 2)), np.arange(5), np.array([0, 1, 3, 4]), np.array([2]))
    >>> fitting.leave_out(np.array([0.1, 0.9, 0.2, 0.3]), 0.25)
    >>> fitting.train_index, fitting.left_out
    (array([0, 3, 4]), array([1]))
    """

    rows: NDArray[Any]
    readable: NDArray[np.int64]
    train_index: NDArray[np.int64]
    calibration_index: NDArray[np.int64]
    left_out: NDArray[np.int64] = dataclasses.field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def training_rows(self) -> NDArray[Any]:
        """A copy of the rows to train on."""
        return self.rows[self.train_index]

    def leave_out(self, scores: NDArray[np.float64], share: float) -> None:
        """Take the `share` of the training rows that score highest out of them; one score for each."""
        by_score = self.train_index[np.argsort(-scores, kind="stable")]
        self.left_out, self.train_index = np.split(by_score, [math.ceil(share * len(by_score))])
        self.train_index.sort()
