"""How a graph's answers compare with its detector's: scores, p-values, decisions, heat-maps, and rows that are not numbers."""

import dataclasses
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from insphere.detectors.base import AbstractDetector
from insphere.errors import ExportError
from insphere.export.graph import MAP_OUTPUT, OUTPUTS, category_codes, feed, input_name, library_answers, spread

TOLERANCE = 1e-4
"""Largest difference between the graph's score and the library's, relative to the score (or to the spread of the held-out scores)."""

_ROUNDS = (
    " A graph that takes float32 rounds the rows to 7 digits, which matters where a feature lies far from zero: export it with"
    " vectors='float64' (--vectors float64)."
)

MAP_TOLERANCE = 1e-3
"""Largest difference of two values of a heat-map, relative to the larger of the value and 1, the level of normal pictures."""

_MAPS_COMPARED = 16


@dataclasses.dataclass(frozen=True)
class Asked:
    """How a graph is asked for scores.

    Attributes
    ----------
    name : str
        Of its input.
    dtype : str
        Type of its input.
    shape : tuple of int
        Of one row.
    imputes : bool
        Whether it fills missing values.
    fills : tuple of int
        In which features; empty where that is not known, as from certificates of older versions.
    n_calibration : int
        Scores that p-values count; the smallest p-value is 1 / (n_calibration + 1).
    n_categories : int
        Categories (cameras, products, shifts) that have a threshold of their own.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    imputes: bool
    n_calibration: int
    n_categories: int = 0
    fills: tuple[int, ...] = ()

    @classmethod
    def of(cls, detector: AbstractDetector, dtype: str) -> Self:
        """Return how the graph of a fitted detector, which takes rows of `dtype`, is asked."""
        contract = detector.input_
        return cls(
            input_name(detector),
            dtype,
            contract.shape,
            contract.imputer is not None,
            len(detector.decision_),
            detector.decision_.n_categories,
            () if contract.imputer is None else tuple(contract.imputer.columns),
        )


@dataclasses.dataclass(frozen=True)
class Comparison:
    """How a graph's answers compare with the library's on some rows.

    Attributes
    ----------
    n_rows, n_flagged : int
        Rows compared, and those of them that the library flags.
    largest_difference : float
        Of two scores, relative as in `TOLERANCE`.
    n_labels, n_p_values : int
        Rows whose decision, and whose p-value, differs.
    n_near, n_near_that_differ : int
        Rows that score on the threshold to within `TOLERANCE`, where rounding decides, in the library too; and those of them whose
        decision differs, which `n_labels` does not count.
    """

    n_rows: int
    n_flagged: int
    largest_difference: float
    n_labels: int
    n_p_values: int
    n_near: int
    n_near_that_differ: int


def compare(detector: AbstractDetector, session: Any, X: NDArray[Any], dtype: str) -> Comparison:
    """Compare an ONNX Runtime session with the library: all rows at once, and the first few one by one and three at a time.

    Parameters
    ----------
    X : ndarray
        Rows as the library takes them.
    dtype : str
        Type that the graph takes them in.

    Raises
    ------
    ExportError
        If a score of the graph is not finite where the library's is, or rows that are not numbers are not flagged.
    """
    check_refused(session, Asked.of(detector, dtype))
    batch = library_answers(detector, X)
    with np.errstate(over="ignore"):
        fed = X.astype(dtype)
    answers = _answers(detector, session, fed, [np.arange(len(X)), *np.arange(min(6, len(X)))[:, None], np.arange(min(3, len(X)))])
    rows, scores, p_values, flagged = answers
    expected = batch.anomaly_score[rows]
    # Rows past the largest number of the graph's type are refused as such, which flags them too.
    known = np.isfinite(expected) & np.isfinite(fed.reshape(len(X), -1)).all(axis=1)[rows]
    if not np.isfinite(scores[known]).all():
        raise ExportError(f"The graph of {detector.name} gives scores that are not finite, where the library's are.")
    size, thresholds = spread(detector), detector.decision_.thresholds(len(X), batch.categories)
    found = differences(scores, flagged, expected, batch.is_anomaly[rows], comparable=known, least_size=size, threshold=thresholds[rows])
    whole = slice(len(X))  # each row once
    once = differences(
        scores[whole], flagged[whole], expected[whole], batch.is_anomaly, comparable=known[whole], least_size=size, threshold=thresholds
    )
    _check_maps(detector, session, X[:_MAPS_COMPARED], fed[:_MAPS_COMPARED])
    return Comparison(
        n_rows=len(X),
        n_flagged=int(batch.is_anomaly.sum()),
        largest_difference=found.largest,
        n_labels=found.n_labels,
        n_p_values=int((p_values != batch.p_value[rows]).sum()),
        n_near=once.n_near,
        n_near_that_differ=once.n_near_that_differ,
    )


def _check_maps(detector: AbstractDetector, session: Any, X: NDArray[Any], fed: NDArray[Any]) -> None:
    """Raise `ExportError` unless the graph's heat-maps, where there are any, are the library's."""
    if not detector.has_maps:
        return
    expected = detector.anomaly_map(X)
    codes = category_codes(detector.decision_.n_categories, np.arange(len(fed)))
    (found,) = session.run([MAP_OUTPUT], feed(input_name(detector), fed, codes))
    apart = np.abs(found - expected) / np.maximum(np.abs(expected), 1)
    if found.shape != expected.shape or not apart.max() <= MAP_TOLERANCE:
        raise ExportError(
            f"The graph of {detector.name} must give the library's heat-maps within {MAP_TOLERANCE:g}; they differ by up to"
            f" {apart.max():.2g}."
        )


def check_equal(detector: AbstractDetector, session: Any, X: NDArray[Any], dtype: str) -> Comparison:
    """Compare as `compare` does and refuse a graph that differs.

    Raises
    ------
    ExportError
        If a score differs by more than `TOLERANCE`, or a decision differs.
    """
    found = compare(detector, session, X, dtype)
    if found.largest_difference > TOLERANCE or found.n_labels:
        raise ExportError(
            f"The graph of {detector.name} must give the library's scores within {TOLERANCE:g} and the same decisions; on {found.n_rows}"
            f" rows the scores differ by up to {found.largest_difference:.2g} and {found.n_labels} decisions differ."
            f"{_ROUNDS if dtype == 'float32' and detector.image_spec_ is None else ''}"
        )
    return found


class Differences(NamedTuple):
    """How far a graph's answers are from the expected ones.

    Attributes
    ----------
    largest : float
        Largest relative difference of scores; infinity where the graph's score is not a number.
    n_labels : int
        Decisions that differ, those near the threshold aside.
    n_near, n_near_that_differ : int
        Decisions near the threshold, and those of them that differ.
    """

    largest: float
    n_labels: int
    n_near: int
    n_near_that_differ: int


def differences(
    scores: NDArray[Any],
    flagged: NDArray[Any],
    expected: NDArray[Any],
    expected_flags: NDArray[Any],
    *,
    least_size: float,
    threshold: float | NDArray[np.float64],
    comparable: NDArray[np.bool_] | None = None,
) -> Differences:
    """Return how far a graph's answers are from the expected ones.

    Parameters
    ----------
    scores, flagged, expected, expected_flags : ndarray, shape (n,)
    least_size : float
        Differences are relative to the expected score, or to this where it is larger.
    threshold : float or ndarray of float64, shape (n,)
        Where an expected score lies on it to within `TOLERANCE`, rounding decides, in the library too: those decisions are counted apart.
    comparable : ndarray of bool, shape (n,), optional
        Rows whose scores can be compared; of the others, and where the expected score is infinite, decisions alone are.
    """
    known = np.isfinite(expected) if comparable is None else np.isfinite(expected) & comparable
    size = np.maximum(np.abs(np.where(known, expected, 1.0)), least_size)
    apart = np.abs(np.where(known, scores, 0.0) - np.where(known, expected, 0.0)) / np.where(size > 0, size, 1.0)
    near = known & (np.abs(np.where(known, expected, 0.0) - threshold) <= TOLERANCE * size)
    differ = flagged != expected_flags
    largest = float(np.where(np.isnan(apart), np.inf, apart).max(initial=0.0))
    return Differences(largest, int((differ & ~near).sum()), int(near.sum()), int((differ & near).sum()))


def _answers(detector: AbstractDetector, session: Any, X: NDArray[Any], parts: list[NDArray[np.int64]]) -> list[NDArray[Any]]:
    """Return the positions of the rows in all parts, and the graph's three answers to them."""
    name = input_name(detector)
    n_categories = detector.decision_.n_categories
    found = [(part, *session.run(list(OUTPUTS), feed(name, X[part], category_codes(n_categories, part)))) for part in parts]
    return [np.concatenate(column) for column in zip(*found, strict=True)]


def check_refused(session: Any, asked: Asked) -> None:
    """Raise `ExportError` unless rows with a value that is not a number, or past all numbers, are flagged with the smallest p-value."""
    if not np.issubdtype(np.dtype(asked.dtype), np.floating):
        return
    rows = np.zeros((6, *asked.shape), dtype=asked.dtype)
    for row, value in enumerate((np.nan, np.inf, -np.inf)):
        rows[row].flat[-1] = rows[row + 3].flat[:] = value
    unfilled = [feature for feature in range(asked.shape[0]) if feature not in asked.fills] if asked.fills else []
    if unfilled:
        rows[0] = 0
        rows[0, unfilled[-1]] = np.nan
    elif asked.imputes:
        rows = rows[1:]  # there a missing value may be one that is filled
    # Without a category, where all scores count: then the smallest p-value is the one that is known here.
    codes = np.full(len(rows), -1) if asked.n_categories else None
    _, p_values, flagged = session.run(list(OUTPUTS), feed(asked.name, rows, codes))
    if not flagged.all() or not (p_values <= 1 / (asked.n_calibration + 1) * (1 + 1e-9)).all():
        raise ExportError("A graph must flag rows with values that are not finite, with the smallest p-value, and this one does not.")
