"""Scores of normal rows by models that have not seen them: what decisions are made from."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from insphere.data import AbstractSource
from insphere.data.row_store import take_rows
from insphere.decision.calibration import Calibration, ConformalCalibration, radius
from insphere.decision.categories import Categories, RowCategories
from insphere.decision.decision import Decision
from insphere.decision.units import independent_units, known_among, one_row_a_unit, row_hashes
from insphere.detectors.fitting import FitContext, Fitted, Fitting, as_rows, categories_of, groups_of
from insphere.errors import DataError, TrainingError


class Unseen(NamedTuple):
    """What detectors say of normal rows that they have not seen.

    Attributes
    ----------
    scores : ndarray of float64, shape (n,)
    peaks : ndarray of float64, shape (n,), optional
        The highest value of each row's heat-map, where there are heat-maps.
    categories : RowCategories, optional
        Of each row, where categories are calibrated one by one.
    """

    scores: NDArray[np.float64]
    peaks: NDArray[np.float64] | None = None
    categories: RowCategories | None = None

    @classmethod
    def of(cls, detector: "Scoring", rows: NDArray[Any], categories: RowCategories | None = None) -> "Unseen":
        """Return scores and peaks of `rows`, which the detector has not seen."""
        scores, maps = detector._score_maps(rows)
        return cls(scores, None if maps is None else maps.reshape(len(maps), -1).max(axis=1).astype(np.float64), categories)


class Scoring(Protocol):
    """What calibration needs of a detector."""

    def _check_parameters(self) -> None: ...
    def _fit_model(self, X: NDArray[Any], context: FitContext) -> Fitted: ...
    def _score_maps(self, X: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float32] | None]: ...
    def _settled(self) -> Mapping[str, Any]: ...


def unseen_scores(detector: Scoring, fitting: Fitting, rng: np.random.Generator) -> Unseen:
    """Return the scores of one row a unit, drawn by `rng`, each by a model that has not seen its unit."""
    chosen = fitting.calibration_index
    if fitting.units is not None and len(chosen):
        chosen = chosen[one_row_a_unit(fitting.units[chosen], rng)]
    categories = None if fitting.categories is None else fitting.categories.take(chosen)
    if not len(chosen):
        return Unseen(np.empty(0), None, categories)
    if fitting.folds is None:
        return Unseen.of(detector, take_rows(fitting.rows, chosen), categories)
    scores, peaks = np.empty(len(chosen)), np.full(len(chosen), np.nan)
    for fold in range(int(fitting.folds.max()) + 1):
        held_out = fitting.folds[chosen] == fold
        # Settings that the fit of all rows chose are kept: models whose kernels differ have scores of different scales.
        without = copy.copy(detector)
        for name, value in detector._settled().items():
            setattr(without, name, value)
        without._check_parameters()
        others = fitting.train_index[fitting.folds[fitting.train_index] != fold]
        context = FitContext(categories=None if fitting.categories is None else fitting.categories.take(others))
        without._fit_model(take_rows(fitting.rows, others), context)
        found = Unseen.of(without, take_rows(fitting.rows, chosen[held_out]))
        scores[held_out] = found.scores
        if found.peaks is not None:
            peaks[held_out] = found.peaks
    return Unseen(scores, None if np.isnan(peaks).all() else peaks, categories)


def new_scores(
    detector: Scoring,
    source: AbstractSource,
    groups: Iterable[Any] | None,
    categories: Iterable[Any] | None,
    known: NDArray[np.uint64],
    rng: np.random.Generator,
) -> tuple[Unseen, int]:
    """Return the scores of one row a unit of new normal rows, and how many rows they stand for.

    Parameters
    ----------
    groups, categories : iterable, optional
        One a row of the source; by default what the source knows.
    known : ndarray of uint64
        Hashes of the rows that were given to `fit`.

    Raises
    ------
    DataError
        If no row is readable, or some were given to `fit`.
    """
    loaded = source.load()
    rows = as_rows(loaded.X)
    if not len(rows):
        raise DataError(f"{source.name} has no readable row to calibrate on.")
    hashes = row_hashes(rows)
    n_seen = int(known_among(hashes, known).sum())
    if n_seen:
        raise DataError(
            f"{n_seen} of {len(rows)} rows of {source.name} were given to `fit`, so their scores are not a measure of new rows; calibrate"
            " on normal rows that the model has not seen."
        )
    named = groups_of(source, groups)
    units = independent_units(hashes, None if named is None else [named[row] for row in loaded.index])
    chosen = np.arange(len(rows)) if units is None else one_row_a_unit(units, rng)
    of_rows = categories_of(source, categories)
    return Unseen.of(detector, rows[chosen], None if of_rows is None else of_rows.take(loaded.index[chosen])), len(rows)


def decide(fitting: Fitting, train_scores: NDArray[np.float64], unseen: Unseen, options: Calibration, target_fpr: float) -> Decision:
    """Return the decision from the scores of training rows and of unseen normal rows.

    Raises
    ------
    TrainingError
        If a score is not finite.
    DataError
        If there is no score of an unseen row.
    """
    if not np.isfinite(np.concatenate([train_scores, unseen.scores])).all():
        raise TrainingError(
            "Some training rows have scores that are not finite: the model has diverged. Check the rows for extreme values,"
            " or lower the learning rate."
        )
    found = unseen.categories
    return Decision(
        ConformalCalibration(unseen.scores),
        radius=radius(train_scores, options.radius_quantile),
        target_fpr=float(target_fpr),
        by=options.decision,
        method="split" if fitting.folds is None else "cross",
        n_rows=len(fitting.calibration_index),
        peaks=None if unseen.peaks is None else ConformalCalibration(unseen.peaks),
        categories=None if found is None else Categories.of_scores(found.names, found.codes, unseen.scores),
    )
